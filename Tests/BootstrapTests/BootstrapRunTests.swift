import Base
import Execution
import Model
import TestSupport
import Testing

import Bootstrap

/// A run that supervises no agent: the order of its phases, and what a failure in each of them does.
@Suite(.timeLimit(.minutes(5))) struct BootstrapRunTests {
  private let fixture = BootstrapFixture(.systemd)
  private var test: TestContext { fixture.test }

  @Test func `the phases run in order, and the launch hook is the last`() async throws {
    let outcome = try await fixture.start()
    #expect(outcome.health?.isVoter == true && outcome.agentEnd == nil)
    #expect(
      test.sink.records(.info).map(\.message) == [
        "this is i-0aaa", "decision: new cluster", "create directory /opt/consul (mode 750, owner consul)",
        "create directory /etc/consul.d (mode 755)",
        "record the instance ID in /var/lib/consul-bootstrap/instance.json",
        "write /etc/consul.d/00-consul-bootstrap.json (mode 640, owner consul) once Consul has validated it",
        "write /etc/systemd/system/consul.service", "/bin/systemctl daemon-reload",
        "/bin/systemctl enable consul.service", "/bin/systemctl start consul.service",
        "write /var/lib/consul-bootstrap/options.json and /etc/systemd/system/consul-bootstrap.service, "
          + "and start consul-bootstrap.service",
        "complete lifecycle hook launching: CONTINUE once healthy, ABANDON after a failure",
      ])
    #expect(fixture.calls.value == ["forwarding ended", "verified 1"])
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa CONTINUE"])
    #expect(test.sink.records(.error).isEmpty)
  }

  /// Every effect of a stopped run would be a half-done one.
  @Test func `an obstacle stops the run before its first step`() async throws {
    test.files.put("/etc/consul.d/baked.json", #"{"bootstrap_expect": 1}"#)
    let failure = try #require(try await fixture.failure())
    #expect(failure.status == .configurationRejected)
    #expect(failure.message == "/etc/consul.d/baked.json sets bootstrap or bootstrap_expect")
    #expect(test.files.changes.isEmpty && test.launcher.commands == ["/usr/bin/consul version"])
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa ABANDON"])
    #expect(fixture.calls.value == ["final error \(failure.message)", "forwarding ended"])
  }

  @Test func `a failed prepare phase abandons the launch hook and starts nothing`() async throws {
    test.launcher.run("/usr/bin/consul", ["validate"], end: .exited(1), output: "invalid key\n")
    let failure = try await fixture.failure()
    #expect(failure?.message == "Consul rejects the configuration")
    #expect(!test.launcher.commands.contains { $0.hasPrefix("/bin/systemctl") })
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa ABANDON"])
    #expect(fixture.calls.value == ["final error Consul rejects the configuration", "forwarding ended"])
    #expect(test.sink.lines.last == #"warning completed lifecycle hook launching result="ABANDON""#)
  }

  @Test func `a failed start phase abandons the launch hook and verifies nothing`() async throws {
    test.launcher.run("/bin/systemctl", ["start"], end: .exited(1), output: "Job for consul.service failed.\n")
    let failure = try #require(try await fixture.failure())
    #expect(failure.message == "`/bin/systemctl start consul.service` failed: exit status 1")
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa ABANDON"])
    #expect(fixture.calls.value == ["final error \(failure.message)", "forwarding ended"])
    #expect(test.sink.progress.isEmpty)
  }

  @Test func `a failed verify phase abandons the launch hook and starts no sidecar`() async throws {
    test.launcher.run("/bin/systemctl", ["start"])
    let failure = try #require(try await fixture.failure())
    #expect(
      failure.message == "the Consul agent is not healthy after 2.0 s: "
        + "the agent does not answer on 127.0.0.1:8500: connection refused")
    #expect(!test.launcher.commands.contains { $0.contains("consul-bootstrap.service") })
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa ABANDON"])
    #expect(fixture.calls.value == ["final error \(failure.message)", "forwarding ended"])
  }

  @Test func `a failed observation abandons the launch hook`() async throws {
    fixture.aws.refuse("DescribeInstances", .accessDenied)
    let failure = try #require(try await fixture.failure())
    #expect(failure.status == .awsFailed)
    #expect(fixture.changes.isEmpty)
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa ABANDON"])
    #expect(fixture.calls.value == ["final error \(failure.message)", "forwarding ended"])
  }

  @Test func `a hook that cannot be abandoned is a warning beside the failure`() async throws {
    test.launcher.run("/bin/systemctl", ["start"], end: .exited(1))
    fixture.aws.refuse("CompleteLifecycleAction", .accessDenied)
    let failure = try #require(try await fixture.failure())
    #expect(failure.message == "`/bin/systemctl start consul.service` failed: exit status 1")
    let warning = try #require(test.sink.records(.warning).last)
    #expect(warning.message == "cannot abandon lifecycle hook launching")
    #expect(warning.attributes["reason"]?.string?.contains("access denied") == true)
  }

  @Test func `an instance without metadata has no hook to abandon`() async throws {
    fixture.metadata.setTokenStatus(403)
    let failure = try #require(try await fixture.failure())
    #expect(failure.status == .noMetadata)
    #expect(fixture.calls.value == ["final error \(failure.message)"])
    #expect(fixture.aws.calls.isEmpty)
  }

  /// A log service that does not start must not cost a healthy server.
  @Test func `a failure in the after phase is reported, and the rest of the phase goes on`() async throws {
    test.launcher.run("/bin/systemctl", ["restart", "consul-bootstrap.service"], end: .exited(1), output: "failed\n")
    let outcome = try await fixture.start()
    #expect(outcome.health?.servers == 1)
    #expect(
      test.sink.records(.error).map(\.description) == [
        "error `/bin/systemctl restart consul-bootstrap.service` failed: exit status 1 "
          + #"details=["failed"] hint="run `systemctl status consul-bootstrap.service` and "#
          + #"`journalctl -u consul-bootstrap.service`""#
      ])
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa CONTINUE"])
    #expect(fixture.calls.value == ["forwarding ended", "verified 1"])
  }

  /// Auto Scaling ends an instance whose hook is not completed: the run must not look like a success.
  @Test func `a hook that cannot be completed is status 12 after verification, and is not abandoned`() async throws {
    fixture.aws.refuse("CompleteLifecycleAction", .accessDenied)
    let failure = try #require(try await fixture.failure())
    #expect(failure.status == .awsFailed)
    #expect(failure.message == "cannot complete lifecycle hook launching: access denied")
    #expect(fixture.calls.value == ["forwarding ended", "verified 1", "final error \(failure.message)"])
    let results = fixture.aws.calls("CompleteLifecycleAction").map { $0.parameters["LifecycleActionResult"] }
    #expect(Set(results) == ["CONTINUE"])
    #expect(test.sink.records(.error).isEmpty)
  }

  @Test func `without an agent to start, the configuration is written and the hook completed`() async throws {
    let fixture = BootstrapFixture(.none)
    let outcome = try await fixture.start()
    #expect(outcome.health == nil && outcome.agentEnd == nil)
    #expect(fixture.test.files.exists("/etc/consul.d/00-consul-bootstrap.json"))
    #expect(fixture.test.launcher.commands.map { $0.split(separator: " ")[1] } == ["version", "validate"])
    #expect(fixture.calls.value == ["forwarding ended", "verified without an agent"])
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa CONTINUE"])
  }

  @Test func `a quorum that is lost is an error in the log, not a warning`() async throws {
    fixture.aws.setGroups([FakeGroup("web", desired: 2, hooks: ["launching"])])
    fixture.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10", lifecycle: "Pending:Wait"), FakeInstance("i-0bbb", ip: "10.0.1.11"),
    ])
    _ = FakeConsulAgent(test, at: "10.0.1.11:8500") { $0.peers = ["10.0.1.11:8300", "10.0.1.12:8300"] }
    var fixture = fixture
    fixture.settings.leaderWait = .seconds(1)
    try await fixture.start()
    #expect(test.sink.lines.contains { $0.hasPrefix("info decision: join without a leader") })
    #expect(test.sink.records(.error).contains { $0.message.hasPrefix("the cluster has lost its quorum") })
  }

  // MARK: Cancellation

  private enum Moment: CaseIterable { case observation, validation, verification, followUp }

  /// The user stopped the boot, it did not fail: what happens to the instance is the decision of the user.
  @Test(arguments: Moment.allCases)
  private func `a cancelled run abandons nothing and reports no final error`(_ moment: Moment) async throws {
    let reached = Gate()
    let hold: FakeLauncher.Run = { _, _ in
      try await reached.pass()
      return CommandResult(end: .exited(0), output: "")
    }
    var gate = reached
    switch moment {
    case .observation: gate = test.transport.hold("https://autoscaling.")
    case .validation: test.launcher.onRun("/usr/bin/consul", ["validate"], hold)
    case .verification: gate = test.transport.hold("http://127.0.0.1:8500/v1/operator/raft/configuration")
    case .followUp: test.launcher.onRun("/bin/systemctl", ["restart", "consul-bootstrap.service"], hold)
    }
    let task = Task { try await fixture.start() }
    try await gate.arrivals()
    task.cancel()
    await #expect(throws: CancellationError.self) { _ = try await task.value }
    #expect(fixture.calls.value == ["forwarding ended"])
    #expect(fixture.aws.calls("CompleteLifecycleAction").isEmpty)
    #expect(test.sink.records(.error).isEmpty)
    #expect(!test.sink.records(.warning).contains { $0.message.contains("lifecycle hook") })
    #expect(!test.files.exists("/var/lib/consul-bootstrap/staged.json"))
  }
}
