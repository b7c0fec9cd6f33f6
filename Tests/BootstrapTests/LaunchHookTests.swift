import AWS
import Base
import Bootstrap
import Decisions
import Execution
import Model
import TestSupport
import Testing

/// What the launch hook gets in the cases in which it is neither a plain success nor a plain failure.
@Suite(.timeLimit(.minutes(5))) struct LaunchHookTests {
  private static let target = "/latest/meta-data/autoscaling/target-lifecycle-state"

  @Test func `an instance of a warm pool gets nothing but its hook completed`() async throws {
    let fixture = BootstrapFixture(.systemd)
    fixture.aws.change("i-0aaa") { $0.lifecycle = "Warmed:Pending:Wait" }
    fixture.metadata.set(Self.target, "Warmed:Stopped")
    let outcome = try await fixture.start()
    #expect(outcome.plan.decision == .stayInWarmPool(evidence: ["lifecycle state Warmed:Stopped"]))
    #expect(outcome.health == nil && fixture.test.files.changes.isEmpty)
    #expect(fixture.test.launcher.commands == ["/usr/bin/consul version"])
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa CONTINUE"])
    // Out of the pool it boots normally.
    fixture.metadata.set(Self.target, "InService")
    fixture.aws.change("i-0aaa") { $0.lifecycle = "Pending:Wait" }
    #expect(try await fixture.start().plan.decision.name == "new cluster")
  }

  @Test func `the group's own word for it is enough`() async throws {
    let fixture = BootstrapFixture(.supervise)
    fixture.aws.change("i-0aaa") { $0.lifecycle = "Warmed:Pending:Wait" }
    let outcome = try await fixture.start()
    #expect(outcome.plan.decision == .stayInWarmPool(evidence: ["lifecycle state Warmed:Pending:Wait"]))
    #expect(fixture.changes.isEmpty && fixture.aws.completedHooks == ["launching web i-0aaa CONTINUE"])
  }

  @Test func `a second run after a completed hook succeeds`() async throws {
    let fixture = BootstrapFixture(.systemd)
    fixture.aws.change("i-0aaa") { $0.lifecycle = "InService" }
    _ = try await fixture.start()
    #expect(fixture.aws.completedHooks.isEmpty)
    #expect(fixture.test.sink.lines.contains { $0.hasPrefix("info lifecycle hook launching is already completed") })
  }

  /// Terminating an empty server would repair nothing, while the cluster waits for its recovery.
  @Test func `a server that waits for a recovery does not abandon its hook`() async throws {
    var fixture = BootstrapFixture(.systemd)
    fixture.settings.expect = 2
    fixture.settings.leaderWait = .seconds(2)
    fixture.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10", lifecycle: "Pending:Wait"), FakeInstance("i-0bbb", ip: "10.0.1.11"),
    ])
    _ = FakeConsulAgent(fixture.test, at: "10.0.1.11:8500") { $0.peers = ["10.0.1.11:8300", "10.0.1.12:8300"] }
    fixture.test.launcher.run("/bin/systemctl", ["start", "consul.service"])
    fixture.agent.set { state in (state.failure, state.leader) = (nil, nil) }
    setHook(fixture, heartbeatTimeout: 1)
    let failure = try await fixture.failure()
    #expect(failure?.status == .agentUnhealthy && failure?.needsRepair == true)
    #expect(fixture.aws.completedHooks.isEmpty)
    #expect(
      fixture.test.sink.lines.contains { $0.hasPrefix("warning lifecycle hook launching is left to its time-out") })
  }

  private func setHook(_ fixture: BootstrapFixture, heartbeatTimeout: Int) {
    var group = FakeGroup("web", desired: 2, hooks: ["launching"])
    group.heartbeatTimeout = heartbeatTimeout
    fixture.aws.setGroups([group])
  }

  /// The server joins one with a leader, which it loses before this server is added.
  private func loseQuorum(heartbeatTimeout: Int = 300) -> BootstrapFixture {
    var fixture = BootstrapFixture(.systemd)
    (fixture.settings.expect, fixture.settings.verifyTimeout) = (2, .seconds(20))
    fixture.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10", lifecycle: "Pending:Wait"), FakeInstance("i-0bbb", ip: "10.0.1.11"),
    ])
    setHook(fixture, heartbeatTimeout: heartbeatTimeout)
    let survivor = FakeConsulAgent(fixture.test, at: "10.0.1.11:8500") { state in
      (state.leader, state.peers) = ("10.0.1.12:8300", ["10.0.1.11:8300", "10.0.1.12:8300"])
    }
    fixture.test.launcher.onRun("/bin/systemctl", ["start", "consul.service"]) { [fixture] _, _ in
      survivor.set { $0.leader = nil }
      fixture.agent.set { state in (state.failure, state.leader, state.peers) = (nil, nil, []) }
      return CommandResult(end: .exited(0), output: "")
    }
    return fixture
  }

  /// It ended at --verify-timeout with ABANDON, and its replacement did the same.
  @Test func `a server whose cluster loses its quorum during verification waits for the recovery`() async throws {
    let fixture = loseQuorum()
    let run = Task { try await fixture.start() }
    try await fixture.test.clock.sleep(for: .seconds(400))
    #expect(fixture.aws.completedHooks.isEmpty && fixture.aws.heartbeats == 4)
    fixture.agent.set { $0.health = ["id-i-0aaa": true] }
    fixture.agent.setCluster([("i-0bbb", "10.0.1.11"), ("i-0aaa", "10.0.1.10")])
    let outcome = try await run.value
    #expect(outcome.plan.decision.name == "join" && outcome.health?.servers == 2)
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa CONTINUE"])
    let waits = fixture.test.sink.lines.filter { $0.hasPrefix("warning this boot waits for the recovery") }
    #expect(waits.count >= 6 && waits.count <= 8, "\(waits)")
    #expect(waits.first?.contains("10.0.1.11 has raft data and no leader") == true, "\(waits)")
  }

  @Test func `it waits no longer than heartbeats hold the hook`() async throws {
    let fixture = loseQuorum(heartbeatTimeout: 3)
    let failure = try await fixture.failure()
    #expect(failure?.status == .agentUnhealthy && failure?.needsRepair == true)
    #expect(
      failure?.message == "the Consul agent is not healthy after 5 min: the agent knows no leader; "
        + "10.0.1.11 has raft data and no leader")
    #expect(failure?.hint?.contains("consul-bootstrap recover") == true)
    #expect(fixture.aws.completedHooks.isEmpty && fixture.test.clock.uptime() < .seconds(310))
  }

  @Test func `nor after Auto Scaling has ended the hook`() async throws {
    let fixture = loseQuorum()
    let run = Task { try await fixture.failure() }
    try await fixture.test.clock.sleep(for: .seconds(100))
    fixture.aws.change("i-0aaa") { $0.lifecycle = "Terminating:Wait" }
    #expect(try await run.value?.needsRepair == true)
    #expect(fixture.aws.completedHooks.isEmpty && fixture.test.clock.uptime() < .seconds(170))
  }

  @Test func `nor does one that waits for servers that may hold data`() async throws {
    var fixture = BootstrapFixture(.systemd)
    fixture.settings.waitTimeout = .seconds(2)
    fixture.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10", lifecycle: "Pending:Wait"),
      FakeInstance("i-0bbb", ip: "10.0.1.11", lifecycle: "Standby"),
    ])
    fixture.test.streams.fail("10.0.1.11:8300", .silent)
    fixture.test.transport.silence("http://10.0.1.11:8500/")
    let failure = try await fixture.failure()
    #expect(failure?.status == .groupIncomplete && failure?.needsRepair == true)
    #expect(fixture.aws.completedHooks.isEmpty)
  }

  @Test func `the hook is held open while a long boot goes on, and no longer`() async throws {
    var fixture = BootstrapFixture(.systemd)
    fixture.settings.expect = 2
    let run = Task { [fixture] in try await fixture.start() }
    try await fixture.test.clock.sleep(for: .seconds(200))
    #expect(fixture.aws.heartbeats == 1)
    run.cancel()
    _ = await run.result
    try await fixture.test.clock.sleep(for: .seconds(4000))
    #expect(fixture.aws.heartbeats == 1)
  }

  // MARK: After a failed boot

  /// Auto Scaling ends the instance once its launch hook is abandoned.
  private func end(_ fixture: BootstrapFixture) async throws {
    try await fixture.aws.call("CompleteLifecycleAction")
    fixture.agent.set { $0.failure = .refused }
    fixture.aws.change("i-0aaa") { $0.lifecycle = "Terminating:Wait" }
    fixture.metadata.set(Self.target, "Terminated")
  }

  /// Nothing completed it: the instance was held for its time-out, and retained then.
  @Test(arguments: [Settings.Start.systemd, .supervise])
  func `the termination hook of a failed boot is completed, too`(_ start: Settings.Start) async throws {
    var fixture = BootstrapFixture(start)
    fixture.settings.terminationHook = "ending"
    fixture.aws.setGroups([FakeGroup("web", desired: 1, hooks: ["launching", "ending"])])
    fixture.test.launcher.run("/bin/systemctl", ["start", "consul.service"])
    fixture.test.launcher.start("/usr/bin/consul", ["agent"]) { $0.on(15, finish: .exited(0)) }
    let run = Task { [fixture] in try await fixture.failure() }
    try await end(fixture)
    #expect(try await run.value?.status == .agentUnhealthy)
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa ABANDON", "ending web i-0aaa CONTINUE"])
    #expect(fixture.test.clock.uptime() < .seconds(60))
  }

  /// It said that the instance ends, waited two minutes for that, and only then was its error printed.
  @Test func `a run that fails on a server in service ends at once`() async throws {
    var fixture = BootstrapFixture(.systemd)
    fixture.settings.terminationHook = "ending"
    fixture.aws.change("i-0aaa") { $0.lifecycle = "InService" }
    fixture.test.launcher.run("/bin/systemctl", ["start", "consul.service"])
    #expect(try await fixture.failure()?.status == .agentUnhealthy)
    #expect(fixture.aws.completedHooks.isEmpty && fixture.test.clock.uptime() < .seconds(10))
    let log = fixture.test.sink.lines
    #expect(!log.contains { $0.contains("cannot abandon") || $0.contains("once Auto Scaling ends this instance") })
    #expect(log.contains { $0.hasPrefix("info lifecycle hook launching does not hold this instance") })
  }

  /// Its launch hook ran out, and with retention another empty machine was kept for each attempt.
  @Test(arguments: ["Terminating:Wait", "Pending:Wait"])
  func `one whose cluster has to be repaired completes its termination hook, too`(_ state: String) async throws {
    var fixture = BootstrapFixture(.systemd)
    fixture.settings.waitTimeout = .seconds(2)
    fixture.settings.terminationHook = "ending"
    var group = FakeGroup("web", desired: 2, hooks: ["launching", "ending"])
    group.heartbeatTimeout = 300
    fixture.aws.setGroups([group])
    fixture.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10", lifecycle: "Pending:Wait"),
      FakeInstance("i-0bbb", ip: "10.0.1.11", lifecycle: "Standby"),
    ])
    fixture.test.streams.fail("10.0.1.11:8300", .silent)
    fixture.test.transport.silence("http://10.0.1.11:8500/")
    let run = Task { [fixture] in try await fixture.failure() }
    try await fixture.calls.wait { $0.contains { $0.hasPrefix("final error") } ? () : nil }
    let heartbeats = fixture.aws.heartbeats
    try await fixture.test.clock.sleep(for: .seconds(300))
    #expect(fixture.aws.completedHooks.isEmpty && fixture.aws.heartbeats == heartbeats)
    fixture.aws.change("i-0aaa") { $0.lifecycle = state }
    if state == "Terminating:Wait" { fixture.metadata.set(Self.target, "Terminated") }
    #expect(try await run.value?.needsRepair == true)
    #expect(fixture.aws.completedHooks == (state == "Pending:Wait" ? [] : ["ending web i-0aaa CONTINUE"]))
    #expect(fixture.test.clock.uptime() < .seconds(450))
  }

  /// Its hook runs out.
  @Test func `one whose hook cannot be abandoned is watched, too`() async throws {
    var fixture = BootstrapFixture(.systemd)
    fixture.settings.terminationHook = "ending"
    fixture.aws.setGroups([FakeGroup("web", desired: 1, hooks: ["launching", "ending"])])
    fixture.aws.refuse("CompleteLifecycleAction", .accessDenied, times: 1)
    fixture.test.launcher.run("/bin/systemctl", ["start", "consul.service"])
    let run = Task { [fixture] in try await fixture.failure() }
    try await end(fixture)
    #expect(try await run.value?.status == .agentUnhealthy)
    #expect(fixture.aws.completedHooks == ["ending web i-0aaa CONTINUE"])
  }

  @Test func `it does not wait for ever for the end of its instance`() async throws {
    var fixture = BootstrapFixture(.systemd)
    fixture.settings.terminationHook = "ending"
    fixture.test.launcher.run("/bin/systemctl", ["start", "consul.service"])
    #expect(try await fixture.failure()?.status == .agentUnhealthy)
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa ABANDON"])
    #expect(fixture.test.clock.uptime() > .seconds(120) && fixture.test.clock.uptime() < .seconds(130))
  }

  /// Its vote stayed behind, dead.
  @Test func `a voter that is never healthy leaves before its agent is stopped`() async throws {
    var fixture = BootstrapFixture(.supervise)
    fixture.settings.verifyTimeout = .seconds(20)
    fixture.settings.terminationHook = "ending"
    var group = FakeGroup("web", desired: 3, hooks: ["launching", "ending"])
    group.globalTimeout = 3600
    fixture.aws.setGroups([group])
    let others = [("i-0bbb", "10.0.1.11"), ("i-0ccc", "10.0.1.12")]
    let instances = others.map { FakeInstance($0.0, ip: $0.1) }
    fixture.aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10", lifecycle: "Pending:Wait")] + instances)
    let peers = others.map { other in
      let peer = FakeConsulAgent(fixture.test, at: "\(other.1):8500")
      peer.setCluster(others)
      return peer
    }
    fixture.test.launcher.start("/usr/bin/consul", ["agent"]) { [fixture] process in
      process.on(15, finish: .exited(1))
      let servers = others + [("i-0aaa", "10.0.1.10")]
      for agent in peers + [fixture.agent] { agent.setCluster(servers) }
      fixture.agent.set { state in
        (state.nodeName, state.failure) = ("i-0aaa", nil)
        state.health = ["id-i-0aaa": false, "id-i-0bbb": true, "id-i-0ccc": true]
        state.onLeave = {
          for peer in peers { peer.set { $0.peers.removeAll { $0 == "10.0.1.10:8300" } } }
          process.finish(.exited(0))
        }
      }
    }
    let run = Task { [fixture] in try await fixture.failure() }
    try await end(fixture)
    #expect(try await run.value?.message.contains("autopilot does not call this server healthy yet") == true)
    #expect(fixture.agent.changes == ["leave"])
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa ABANDON", "ending web i-0aaa CONTINUE"])
  }
}
