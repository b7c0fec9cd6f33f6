import Base
import Execution
import Model
import TestSupport
import Testing

import Bootstrap

/// A run that stays with the agent as its child.
@Suite(.timeLimit(.minutes(5))) struct SuperviseTests {
  private let fixture: BootstrapFixture
  private var test: TestContext { fixture.test }

  init() {
    var fixture = BootstrapFixture(.supervise)
    fixture.settings.verifyTimeout = .seconds(60)
    self.fixture = fixture
  }

  private func verified(_ calls: [String]) -> Bool { calls.contains { $0.hasPrefix("verified") } }

  /// Waits until the run is verified, and returns the agent's process.
  private func verifiedAgent() async throws -> FakeProcess {
    let process = try await test.launcher.process()
    try await fixture.calls.wait { $0.contains("verified 1") ? () : nil }
    return process
  }

  @Test func `the run is verified while the agent runs, and ends with the agent`() async throws {
    fixture.supervise()
    async let outcome = fixture.start()
    let process = try await verifiedAgent(), start = test.clock.uptime()
    try await test.clock.sleep(for: .seconds(600))
    process.finish(.exited(0))
    let end = try await outcome
    #expect(end.agentEnd == .exited(0) && end.health?.servers == 1)
    #expect(test.clock.uptime() - start == .seconds(600))
    #expect(fixture.calls.value == ["supervisor started", "verified 1"])
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa CONTINUE"])
    #expect(
      test.launcher.launches.last
        == .init(
          kind: .start, command: Command("/usr/bin/consul", ["agent", "-config-dir=/etc/consul.d"]),
          owner: FileOwner(user: 100, group: 100, userName: "consul", groupName: "consul")))
  }

  @Test func `an agent that crashes after verification is restarted, and the run goes on`() async throws {
    fixture.supervise()
    async let outcome = fixture.start()
    try await verifiedAgent().finish(.signalled(9))
    let second = try await test.launcher.process(2)
    second.finish(.exited(0))
    #expect(try await outcome.agentEnd == .exited(0))
    #expect(fixture.calls.value == ["supervisor started", "verified 1"])
  }

  /// systemd's unit asks by itself; here the run does, before it starts an agent with data.
  @Test(arguments: ["99999999-2222-4333-8444-555555555555", "11111111-2222-4333-8444-555555555555"])
  func `the data of another cluster is renamed before the agent starts`(_ cluster: String) async throws {
    fixture.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10", lifecycle: "Pending:Wait"), FakeInstance("i-0bbb", ip: "10.0.1.11"),
    ])
    let raft = "/opt/consul/raft", files = test.files
    files.put(raft + "/snapshots/1-2-3/state.bin", "state")
    files.put("/var/lib/consul-bootstrap/instance.json", #"{"instance_id": "i-0aaa"}"#)
    files.put("/var/lib/consul-bootstrap/cluster.json", #"{"cluster": "\#(cluster)", "epoch": 1}"#)
    _ = FakeConsulAgent(test, at: "10.0.1.11:8500") {
      $0.leader = "10.0.1.11:8300"
      $0.peers = ["10.0.1.11:8300", "10.0.1.10:8300"]
    }
    let isForeign = cluster.hasPrefix("9")
    fixture.supervise { [fixture] process in
      #expect(files.exists(raft) == !isForeign)
      fixture.agent.setCluster([("i-0bbb", "10.0.1.11"), ("i-0aaa", "10.0.1.10")])
      process.finish(.exited(0))
    }
    _ = try await fixture.failure()
    #expect(test.launcher.launches.contains { $0.kind == .start })
    #expect(files.exists("\(raft).diverged.\(test.context.now().basic)") == isForeign)
    #expect(files.text("/etc/consul.d/00-consul-bootstrap.json")?.contains("bootstrap_expect") == false)
  }

  // MARK: Before verification

  private static let lines = ["==> Error: the disk is on fire"]

  private func failedBoot(_ failure: Failure?, _ message: String) {
    #expect(failure?.message == message)
    #expect(fixture.calls.value == ["supervisor started", "final error \(message)"])
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa ABANDON"])
  }

  /// It once was status 0, and left the launch hook pending.
  @Test func `an agent that leaves before it is healthy is a failed boot`() async throws {
    fixture.supervise { process in
      fixture.agent.set { $0.leader = nil }
      process.write("==> Gracefully shutting down agent...")
    }
    async let failed = fixture.failure()
    let process = try await test.launcher.process()
    try await test.sink.record(containing: "no leader")
    process.finish(.exited(0))
    let failure = try await failed
    failedBoot(failure, "the Consul agent ended before it was healthy: exit status 0")
    #expect(failure?.status == .agentNotStarted)
    #expect(failure?.details == ["==> Gracefully shutting down agent..."])
    #expect(failure?.hint == "check the agent's output above, and whether another program stopped the agent")
  }

  /// The status of the agent is that of the run. The user stopped the boot, it did not fail.
  @Test func `an agent that a signal stops before it is healthy ends the run with its status`() async throws {
    let supervisors = Watched<[Supervisor]>([])
    fixture.supervise { _ in fixture.agent.set { $0.leader = nil } }
    let run = fixture.run(supervisorStarted: { supervisor, _ in supervisors.update { $0.append(supervisor) } })
    let task = Task { try await run.run { _ in Issue.record("verified") } }
    let supervisor = try await supervisors.wait(\.first)
    try await test.sink.record(containing: "no leader")
    await supervisor.signal(15)
    let outcome = try await task.value
    #expect(outcome.agentEnd == .exited(0) && outcome.health == nil)
    #expect(fixture.calls.value.isEmpty && fixture.aws.completedHooks.isEmpty)
  }

  @Test func `an agent that crashes three times before it answers is a failed boot`() async throws {
    fixture.supervise { process in
      fixture.agent.set { $0.failure = .refused }
      process.write(Self.lines[0])
      process.finish(.exited(1))
    }
    let failure = try await fixture.failure()
    failedBoot(failure, "the Consul agent does not start: it crashed 3 times (last: exit status 1)")
    #expect(failure?.details.last == Self.lines[0])
    #expect(test.launcher.launches.count { $0.kind == .start } == 3)
  }

  @Test func `an agent that cannot be started is a failed boot`() async throws {
    test.launcher.fail("/usr/bin/consul", ["agent"], reason: "Permission denied")
    let failure = try await fixture.failure()
    failedBoot(failure, "cannot start the Consul agent")
    #expect(failure?.details == ["execute /usr/bin/consul: Permission denied"])
  }

  @Test func `an agent that is not healthy in time is stopped, and the boot failed`() async throws {
    fixture.supervise { _ in fixture.agent.set { $0.leader = nil } }
    let failure = try await fixture.failure()
    failedBoot(failure, "the Consul agent is not healthy after 60 s: the agent knows no leader")
    let process = try await test.launcher.process()
    #expect(process.signals == [15] && process.hasEnded)
    #expect(test.clock.uptime() == .seconds(60))
  }

  /// A failed boot must end with its own status even if the agent cannot be killed.
  @Test func `a failed boot ends although its agent does not`() async throws {
    fixture.supervise { process in
      process.becomeUninterruptible()
      fixture.agent.set { $0.leader = nil }
    }
    let failure = try await fixture.failure()
    failedBoot(failure, "the Consul agent is not healthy after 60 s: the agent knows no leader")
    #expect(failure?.status == .agentUnhealthy && test.clock.uptime() == .seconds(130))
    #expect(test.sink.records(.error).map(\.message) == ["the agent did not end after SIGKILL"])
  }

  // MARK: After verification

  @Test func `a launch hook that cannot be completed is reported and stops nothing`() async throws {
    fixture.aws.refuse("CompleteLifecycleAction", .accessDenied)
    fixture.supervise()
    async let outcome = fixture.start()
    let process = try await verifiedAgent()
    try await test.sink.record(containing: "cannot complete lifecycle hook launching: access denied")
    #expect(process.signals.isEmpty && !process.hasEnded)
    #expect(
      test.sink.records(.error).map(\.message) == ["cannot complete lifecycle hook launching: access denied"])
    process.finish(.exited(0))
    #expect(try await outcome.agentEnd == .exited(0))
    #expect(fixture.calls.value == ["supervisor started", "verified 1"])
    let results = fixture.aws.calls("CompleteLifecycleAction").map { $0.parameters["LifecycleActionResult"] }
    #expect(Set(results) == ["CONTINUE"])
  }

  /// A hook that a new role may not complete yet is retried for 85 s.
  @Test func `an agent that ends while its launch hook is retried ends the run`() async throws {
    fixture.aws.refuse("CompleteLifecycleAction", .accessDenied)
    fixture.supervise()
    async let outcome = fixture.start()
    let process = try await test.launcher.process()
    try await test.sink.record(containing: "cannot complete lifecycle hook launching yet")
    process.finish(.exited(0))
    #expect(try await outcome.agentEnd == .exited(0))
    #expect(test.sink.records(.error).isEmpty)
  }

  /// The hook was completed with CONTINUE: a second result would be refused, or worse, end the instance.
  @Test func `an agent that cannot be restarted after verification is reported without abandoning the hook`()
    async throws
  {
    test.launcher.fail("/usr/bin/consul", ["agent"], reason: "Exec format error")
    test.launcher.start("/usr/bin/consul", ["agent"], times: 1) { _ in fixture.startAgent() }
    async let failed = fixture.failure()
    try await verifiedAgent().finish(.exited(1))
    #expect(try await failed?.message == "cannot start the Consul agent")
    #expect(
      fixture.calls.value == ["supervisor started", "verified 1", "final error cannot start the Consul agent"])
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa CONTINUE"])
  }

  /// The sidecar of a client polls the agent: nothing may poll on once the agent has ended.
  @Test func `the sidecar ends with the agent`() async throws {
    var fixture = fixture
    fixture.settings.role = .client
    fixture.settings.membership = .groups(["servers"])
    fixture.settings.startJitter = .zero
    fixture.aws.setGroups([
      FakeGroup("web", desired: 1, hooks: ["launching"]), FakeGroup("servers", desired: 1),
    ])
    fixture.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10"), FakeInstance("i-0bbb", ip: "10.0.1.11", group: "servers"),
    ])
    fixture.supervise { [fixture] _ in
      fixture.agent.setCluster([("i-0bbb", "10.0.1.11")])
    }
    let run = fixture
    let task = Task { try await run.start() }
    let process = try await test.launcher.process()
    let members = "http://127.0.0.1:8500/v1/agent/members"
    try await test.transport.request(to: members, number: 3)
    process.finish(.exited(0))
    #expect(try await task.value.agentEnd == .exited(0))
    let polls = test.transport.requests(to: members).count
    try await test.clock.sleep(for: .seconds(300))
    #expect(test.transport.requests(to: members).count == polls)
  }

  // MARK: A termination

  /// It waited for the completion for ever, and its process never ended.
  @Test(arguments: ["refused", "no leader"])
  func `a departure that does not come to its end does not hold up the end of the run`(_ kind: String) async throws {
    var fixture = fixture
    fixture.settings.terminationHook = "ending"
    var group = FakeGroup("web", desired: 1, hooks: ["launching", "ending"])
    group.globalTimeout = 100_000
    fixture.aws.setGroups([group])
    fixture.supervise()
    let task = Task { [fixture] in try await fixture.start() }
    let process = try await verifiedAgent()
    test.files.put("/opt/consul/raft/snapshots/1-2-3/state.bin", "state")
    if kind == "refused" {
      fixture.aws.refuse("CompleteLifecycleAction", .accessDenied)
      fixture.aws.setGroups([FakeGroup("web", desired: 0, hooks: ["launching", "ending"])])
    } else {
      fixture.agent.set { $0.leader = nil }
    }
    fixture.aws.change("i-0aaa") { $0.lifecycle = "Terminating:Wait" }
    fixture.metadata.set("/latest/meta-data/autoscaling/target-lifecycle-state", "Terminated")
    let reason = kind == "refused" ? "cannot complete lifecycle hook ending" : "the agent knows no leader"
    try await test.sink.record(containing: reason)
    let start = test.clock.uptime()
    process.finish(.exited(0))
    #expect(try await task.value.agentEnd == .exited(0))
    #expect(test.clock.uptime() - start >= .seconds(60) && test.clock.uptime() - start < .seconds(75))
    #expect(test.sink.lines.contains { $0.hasPrefix("warning the departure is not complete") })
  }

  // MARK: Cancellation

  @Test func `a run that is cancelled before the start starts no agent`() async throws {
    let gate = Gate()
    test.launcher.onRun("/usr/bin/consul", ["validate"]) { _, _ in
      try await gate.pass()
      return CommandResult(end: .exited(0), output: "")
    }
    let task = Task { try await fixture.start() }
    try await gate.arrivals()
    task.cancel()
    await #expect(throws: CancellationError.self) { _ = try await task.value }
    #expect(!test.launcher.launches.contains { $0.kind == .start })
    #expect(fixture.calls.value.isEmpty && fixture.aws.completedHooks.isEmpty)
  }

  @Test func `a run that is cancelled during verification stops its agent and abandons nothing`() async throws {
    fixture.supervise { _ in fixture.agent.set { $0.leader = nil } }
    let task = Task { try await fixture.start() }
    let process = try await test.launcher.process()
    try await test.sink.record(containing: "no leader")
    task.cancel()
    await #expect(throws: CancellationError.self) { _ = try await task.value }
    #expect(process.signals == [15] && process.hasEnded)
    #expect(fixture.calls.value == ["supervisor started"] && fixture.aws.completedHooks.isEmpty)
    #expect(test.sink.records(.error).isEmpty)
  }

  @Test func `a run that is cancelled after verification stops its agent and ends with it`() async throws {
    fixture.supervise()
    let task = Task { try await fixture.start() }
    let process = try await verifiedAgent()
    task.cancel()
    #expect(try await task.value.agentEnd == .exited(0))
    #expect(process.signals == [15])
    #expect(fixture.calls.value == ["supervisor started", "verified 1"])
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa CONTINUE"])
  }
}
