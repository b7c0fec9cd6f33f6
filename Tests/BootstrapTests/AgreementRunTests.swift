import Base
import Bootstrap
import Execution
import Model
import TestSupport
import Testing

/// A desired capacity that changes while the servers boot.
@Suite(.timeLimit(.minutes(5))) struct AgreementRunTests {
  private static let path = "/etc/consul.d/00-consul-bootstrap.json"

  private func fixture(_ start: Settings.Start) -> BootstrapFixture {
    var fixture = BootstrapFixture(start)
    fixture.settings.expect = nil
    fixture.settings.verifyTimeout = .seconds(20)
    return fixture
  }

  /// The group grows from one server to two once the agent runs; the other server waits for two from the start.
  private func grow(_ fixture: BootstrapFixture) {
    fixture.aws.setGroups([FakeGroup("web", desired: 2, hooks: ["launching"])])
    fixture.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10", lifecycle: "Pending:Wait"), FakeInstance("i-0bbb", ip: "10.0.1.11"),
    ])
    fixture.test.refuseAgent(at: "10.0.1.11")
    fixture.agent.set { state in
      (state.failure, state.leader, state.peers) = (nil, nil, [])
      state.members = [.init("i-0aaa", "10.0.1.10", expect: 1), .init("i-0bbb", "10.0.1.11", expect: 2)]
    }
  }

  private func elect(_ fixture: BootstrapFixture) {
    fixture.agent.setCluster([("i-0aaa", "10.0.1.10"), ("i-0bbb", "10.0.1.11")])
    fixture.agent.set { $0.health = ["id-i-0aaa": true, "id-i-0bbb": true] }
  }

  @Test func `under systemd the agent is killed and started again with the new number`() async throws {
    let fixture = fixture(.systemd), launcher = fixture.test.launcher
    launcher.onRun("/bin/systemctl", ["start", "consul.service"]) { _, _ in
      grow(fixture)
      return CommandResult(end: .exited(0), output: "")
    }
    launcher.onRun("/bin/systemctl", ["restart", "consul.service"]) { _, _ in
      elect(fixture)
      return CommandResult(end: .exited(0), output: "")
    }
    let outcome = try await fixture.start()
    #expect(outcome.health?.servers == 2)
    let document = try JSONValue(parsing: try #require(fixture.test.files.text(Self.path)))
    #expect(document["bootstrap_expect"] == 2 && document["retry_join"] == ["10.0.1.11"])
    let restarts = launcher.commands.filter { $0.contains("kill") || $0.contains("restart consul.service") }
    #expect(
      restarts == ["/bin/systemctl kill --signal=SIGKILL consul.service", "/bin/systemctl restart consul.service"])
    #expect(
      fixture.test.sink.lines.contains(
        "warning the number of servers has changed; restarting the agent, which has no raft state "
          + "bootstrap_expect=2 before=1"))
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa CONTINUE"])
  }

  @Test func `a server whose number is right stays as it is`() async throws {
    let fixture = fixture(.systemd), launcher = fixture.test.launcher
    launcher.onRun("/bin/systemctl", ["start", "consul.service"]) { _, _ in
      fixture.agent.set { state in
        (state.failure, state.leader, state.peers) = (nil, nil, [])
        state.members = [.init("i-0aaa", "10.0.1.10", expect: 1), .init("i-0bbb", "10.0.1.11", expect: 2)]
      }
      return CommandResult(end: .exited(0), output: "")
    }
    let failure = try await fixture.failure()
    #expect(failure?.message.hasSuffix("bootstrap_expect is 1 here, but i-0bbb has 2") == true)
    #expect(!launcher.commands.contains { $0.contains("kill") })
  }

  @Test func `under supervise the child is replaced`() async throws {
    let fixture = fixture(.supervise)
    let starts = Watched(0)
    fixture.test.launcher.start("/usr/bin/consul", ["agent"]) { process in
      process.on(15, finish: .exited(0))
      process.on(9, finish: .signalled(9))
      let number = starts.update { count in
        count += 1
        return count
      }
      if number == 1 { grow(fixture) } else { elect(fixture) }
    }
    let run = Task { try await fixture.start() }
    _ = try await fixture.calls.wait { $0.contains("verified 2") ? () : nil }
    run.cancel()
    _ = await run.result
    #expect(starts.value == 2)
  }

  /// The server joins one that leads. The leader adds it only after a restart, or within its own time.
  private func join(_ fixture: BootstrapFixture, isNamed: Bool) {
    fixture.aws.setGroups([FakeGroup("web", desired: 2, hooks: ["launching"])])
    fixture.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10", lifecycle: "Pending:Wait"), FakeInstance("i-0bbb", ip: "10.0.1.11"),
    ])
    let peers = ["10.0.1.11:8300"] + (isNamed ? ["10.0.1.10:8300"] : [])
    _ = FakeConsulAgent(fixture.test, at: "10.0.1.11:8500") { state in
      (state.leader, state.peers) = ("10.0.1.11:8300", peers)
    }
    fixture.test.launcher.onRun("/bin/systemctl", ["start", "consul.service"]) { _, _ in
      fixture.agent.set { state in
        (state.failure, state.leader, state.peers) = (nil, nil, [])
        state.members = [.init("i-0aaa", "10.0.1.10"), .init("i-0bbb", "10.0.1.11")]
      }
      return CommandResult(end: .exited(0), output: "")
    }
  }

  /// It took up to a minute, and a run with a shorter --verify-timeout failed.
  @Test func `a server that the leader does not add is announced again by a restart`() async throws {
    let fixture = fixture(.systemd), launcher = fixture.test.launcher
    join(fixture, isNamed: false)
    launcher.onRun("/bin/systemctl", ["restart", "consul.service"]) { _, _ in
      elect(fixture)
      return CommandResult(end: .exited(0), output: "")
    }
    let outcome = try await fixture.start()
    #expect(outcome.health?.servers == 2)
    let restarts = launcher.commands.filter { $0.contains("kill") || $0.contains("restart consul.service") }
    #expect(
      restarts == ["/bin/systemctl kill --signal=SIGKILL consul.service", "/bin/systemctl restart consul.service"])
    #expect(
      fixture.test.sink.lines.contains(
        "warning the leader has not added this server; restarting the agent, which has no raft state"))
  }

  @Test func `a server that the leader has added waits for its first logs`() async throws {
    let fixture = fixture(.systemd)
    join(fixture, isNamed: true)
    let failure = try await fixture.failure()
    #expect(failure?.message == "the Consul agent is not healthy after 20 s: the agent knows no leader")
    #expect(!fixture.test.launcher.commands.contains { $0.contains("kill") })
    // The cluster leads: this instance is at fault.
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa ABANDON"])
  }
}
