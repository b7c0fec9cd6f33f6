import AWS
import Base
import Execution
import Model
import TestSupport
import Testing

@testable import Sidecar

/// What the sidecar of 10.0.1.10 does once the metadata says that its instance is to go. The others are 10.0.1.11, the
/// leader, 10.0.1.12 and 10.0.1.13.
@Suite(.timeLimit(.minutes(5))) struct TerminationTests {
  var fixture = SidecarFixture()
  private static let state = "/latest/meta-data/autoscaling/target-lifecycle-state"
  private static let spot = "/latest/meta-data/spot/instance-action"
  private static let servers = [
    ("i-0bbb", "10.0.1.11"), ("own", "10.0.1.10"), ("i-0ccc", "10.0.1.12"), ("i-0ddd", "10.0.1.13"),
  ]
  var context: TestContext { fixture.context }
  var agent: FakeConsulAgent { fixture.agent }
  var aws: FakeAWS { fixture.aws }

  init() {
    let servers = Self.servers, context = fixture.context, agent = fixture.agent
    agent.setCluster(servers)
    context.files.put(
      SidecarFixture.configuration,
      #"{"bind_addr": "10.0.1.10", "node_name": "own", "retry_join": ["10.0.1.11", "10.0.1.12", "10.0.1.13"]}"#,
      mode: 0o640)
    let peers = ["10.0.1.11", "10.0.1.12", "10.0.1.13"].map { address in
      let peer = FakeConsulAgent(context, at: "\(address):8500")
      peer.setCluster(servers)
      return peer
    }
    agent.set { state in
      state.health = ["id-i-0bbb": true, "id-i-0ccc": true, "id-i-0ddd": true]
      state.onLeave = { for peer in peers { peer.set { $0.peers.removeAll { $0 == "10.0.1.10:8300" } } } }
    }
    fixture.settings.terminationHook = "ending"
    fixture.settings.membership = .groups(["consul"])
    var group = FakeGroup("consul", desired: 4, hooks: ["ending"])
    (group.heartbeatTimeout, group.globalTimeout) = (300, 3600)
    fixture.aws.setGroups([group])
    fixture.aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10", group: "consul")])
  }

  func terminate() {
    aws.change("i-0aaa") { $0.lifecycle = "Terminating:Wait" }
    fixture.metadata.set(Self.state, "Terminated")
  }

  /// Watches the metadata only: each part of a sidecar takes the test clock's time.
  func whileWatching(_ supervisor: Supervisor? = nil, _ body: () async throws -> Void) async throws {
    let sidecar = fixture.sidecar(), instance = try await fixture.instance()
    if let supervisor { sidecar.monitors(supervisor) }
    let task = Task { await sidecar.watchNotices(at: instance) }
    defer { task.cancel() }
    try await body()
  }

  func completion() async throws -> String {
    while aws.completedHooks.isEmpty { try await time(1) }
    return aws.completedHooks[0]
  }

  func time(_ seconds: Int) async throws { try await context.clock.sleep(for: .seconds(seconds)) }

  @Test func `the hook is held while the server leaves, and completed then`() async throws {
    try await whileWatching {
      try await time(60)
      #expect(agent.changes.isEmpty && aws.completedHooks.isEmpty)
      terminate()
      let completed = try await completion()
      #expect(completed == "ending consul i-0aaa CONTINUE")
    }
    #expect(agent.changes == ["leave"] && aws.heartbeats >= 1 && context.clock.uptime() < .seconds(70))
  }

  /// A new agent would join again, and its vote would die with the machine.
  @Test func `an agent that is killed between its removal and its end is not started again`() async throws {
    let processes = Watched<[FakeProcess]>([])
    context.launcher.start("/usr/bin/consul") { process in processes.update { $0.append(process) } }
    let supervisor = Supervisor(
      Command("/usr/bin/consul", []), owner: nil, mayBindLowPorts: false, copy: nil, context: context.context)
    let task = Task { try await supervisor.run() }
    terminate()
    try await whileWatching(supervisor) {
      let completed = try await completion()
      #expect(completed == "ending consul i-0aaa CONTINUE")
      processes.value[0].finish(.signalled(9))
      #expect(try await task.value == .exited(0))
    }
    #expect(processes.value.count == 1)
  }

  @Test func `nothing else in the group's states is a departure`() async throws {
    try await whileWatching {
      for state in ["InService", "Standby", "Detached", "Warmed:Stopped", "garbage"] {
        fixture.metadata.set(Self.state, state)
        try await time(12)
      }
      fixture.metadata.set(Self.state, nil)
      try await time(12)
    }
    #expect(agent.changes.isEmpty && aws.heartbeats == 0)
  }

  /// A lie of the metadata, or a word from before.
  @Test func `a termination that Auto Scaling does not know is none`() async throws {
    fixture.metadata.set(Self.state, "Terminated")
    try await whileWatching { try await time(60) }
    #expect(agent.changes.isEmpty)
  }

  @Test func `where AWS does not answer, two readings of the metadata are enough`() async throws {
    for action in ["DescribeAutoScalingInstances", "DescribeLifecycleHooks", "RecordLifecycleActionHeartbeat"] {
      aws.fail(action, .timedOut(whileConnecting: true))
    }
    terminate()
    try await whileWatching {
      try await agent.changed("leave")
      #expect(context.clock.uptime() < .seconds(20))
      // Once it answers, the hook is completed.
      aws.recover("DescribeAutoScalingInstances")
      let completed = try await completion()
      #expect(completed == "ending consul i-0aaa CONTINUE")
    }
  }

  @Test func `metadata that fails or lies is no notice`() async throws {
    try await whileWatching {
      context.transport.fail(FakeMetadata.base + "/", .timedOut(whileConnecting: true))
      try await time(60)
    }
    #expect(agent.changes.isEmpty)
  }

  /// The documents of another service, or a proxy's error page.
  @Test(arguments: [Self.state, Self.spot, InstanceNoticesTests.rebalance, InstanceNoticesTests.scheduled])
  func `a document that cannot be read is logged, and hides no notice in another`(_ path: String) async throws {
    try await whileWatching {
      try await time(2)
      fixture.metadata.set(path, "<html>\u{0}no such thing</html>")
      try await time(200)
      #expect(agent.changes.isEmpty && fixture.log(.warning).count == 1)
      if path == Self.state { interrupt(in: 120) } else { terminate() }
      try await agent.changed("leave")
    }
  }

  /// In another region a group of the same name may want no server.
  @Test func `an answer about a group without this instance is no word of a teardown`() async throws {
    agent.setCluster([("own", "10.0.1.10")])
    terminate()
    aws.setInstances([])
    aws.setGroups([FakeGroup("consul", desired: 0, hooks: ["ending"])])
    try await whileWatching {
      try await time(900)
      #expect(aws.completedHooks.isEmpty && agent.changes.isEmpty)
      #expect(try report?["phase"] == "waiting")
    }
  }

  @Test func `the completion is retried for as long as AWS refuses it`() async throws {
    aws.refuse("CompleteLifecycleAction", .init(status: 403, code: "AccessDenied", message: "no"), times: 7)
    terminate()
    try await whileWatching {
      try await time(300)
      #expect(aws.completedHooks == ["ending consul i-0aaa CONTINUE"])
    }
  }

  // MARK: Unsafe

  /// The hook lasts an hour in all, whatever the heartbeats.
  @Test func `a server that may not leave is abandoned near the end of the hook`() async throws {
    agent.set { for index in [2, 3] { $0.members[index].status = 4 } }
    var group = FakeGroup("consul", desired: 4, hooks: ["ending"])
    (group.heartbeatTimeout, group.globalTimeout) = (60, 180)
    aws.setGroups([group])
    terminate()
    try await whileWatching {
      let completed = try await completion()
      #expect(completed == "ending consul i-0aaa ABANDON")
    }
    #expect(agent.changes.isEmpty)
    #expect(context.clock.uptime() >= .seconds(110) && context.clock.uptime() <= .seconds(130))
    // Every third of the hook's time-out.
    #expect(aws.heartbeats >= 5)
  }

  @Test func `an instance that is retained leaves once that is safe, and ends`() async throws {
    agent.set { for index in [2, 3] { $0.members[index].status = 4 } }
    var group = FakeGroup("consul", desired: 4, hooks: ["ending"])
    (group.heartbeatTimeout, group.globalTimeout) = (30, 90)
    aws.setGroups([group])
    context.system.setBootedBySystemd(true)
    context.launcher.run("/bin/systemctl")
    terminate()
    try await whileWatching {
      let completed = try await completion()
      #expect(completed == "ending consul i-0aaa ABANDON")
      aws.change("i-0aaa") { $0.lifecycle = "Terminating:Retained" }
      try await time(60)
      #expect(agent.changes.isEmpty)
      agent.set { for index in [2, 3] { $0.members[index].status = 1 } }
      try await agent.changed("leave")
      try await time(5)
    }
    #expect(context.launcher.commands.contains("/bin/systemctl poweroff"))
  }

  /// The hook lasts as long as before, and so does the wait for a replacement.
  @Test func `a process that goes on counts from the notice`() async throws {
    agent.set { for index in [2, 3] { $0.members[index].status = 4 } }
    var group = FakeGroup("consul", desired: 4, hooks: ["ending"])
    (group.heartbeatTimeout, group.globalTimeout) = (60, 180)
    aws.setGroups([group])
    terminate()
    try await whileWatching { try await time(80) }
    // For 20 s none runs.
    try await time(20)
    try await whileWatching {
      let completed = try await completion()
      #expect(completed == "ending consul i-0aaa ABANDON")
    }
    #expect(context.clock.uptime() >= .seconds(110) && context.clock.uptime() <= .seconds(130))
  }

  /// Its hook is over: the next process left, and the machine ran on.
  @Test(arguments: [true, false])
  func `a retained instance whose process was killed ends, too`(_ isRetained: Bool) async throws {
    context.system.setBootedBySystemd(true)
    context.launcher.run("/bin/systemctl")
    aws.change("i-0aaa") { $0.lifecycle = isRetained ? "Terminating:Retained" : "Terminating:Proceed" }
    fixture.metadata.set(Self.state, "Terminated")
    try await whileWatching {
      try await agent.changed("leave")
      try await time(60)
    }
    #expect(context.launcher.commands.contains("/bin/systemctl poweroff") == isRetained)
    #expect(aws.completedHooks.isEmpty)
  }

  // MARK: Spot

  private func interrupt(in seconds: Int64, from now: Timestamp? = nil) {
    let time = (now ?? context.context.now()) + .seconds(seconds)
    fixture.metadata.set(Self.spot, #"{"action": "terminate", "time": "\#(time.iso8601)"}"#)
  }

  @Test func `a spot instance leaves at once`() async throws {
    interrupt(in: 120)
    try await whileWatching { try await agent.changed("leave") }
    #expect(context.clock.uptime() < .seconds(10) && aws.completedHooks.isEmpty)
    // The hook that does not hold it is no problem.
    #expect(!context.sink.lines.contains { $0.contains("cannot hold") })
  }

  /// The machine's clock may be wrong by minutes.
  @Test(arguments: [-600, 110, 100_000] as [Int64])
  func `a spot instance that may not leave stays a voter to its end`(_ seconds: Int64) async throws {
    agent.set { for index in [2, 3] { $0.members[index].status = 4 } }
    interrupt(in: seconds)
    try await whileWatching {
      try await time(80)
      let before = try report
      #expect(before?["phase"] == "waiting")
      try await time(20)
      let after = try report
      #expect(after?["phase"] == "kept")
    }
    #expect(agent.changes.isEmpty)
  }

  /// It comes to the notice late: the time that is left counts, by the service's clock.
  @Test(arguments: [-31_536_000, -600, 60, 600, 31_536_000] as [Int64])
  func `a clock that is wrong does not move the deadline`(_ offset: Int64) async throws {
    agent.set { for index in [2, 3] { $0.members[index].status = 4 } }
    let now = context.clock.wall()
    fixture.metadata.setTime(now)
    context.clock.setWall(by: .seconds(offset))
    interrupt(in: 60, from: now)
    try await whileWatching {
      try await time(35)
      #expect(try report?["phase"] == "waiting")
      try await time(10)
      #expect(try report?["phase"] == "kept")
    }
    #expect(agent.changes.isEmpty)
  }

  private var report: JSONValue? {
    get throws { try context.files.text(fixture.settings.departureReportPath).map { try JSONValue(parsing: $0) } }
  }

  /// The group's own notice came first, and waits for a replacement.
  @Test func `a spot interruption ends the wait for a replacement`() async throws {
    var other = self
    other.fixture.settings.leaveWait = .seconds(1000)
    agent.set { $0.members[3].status = 4 }
    terminate()
    try await other.whileWatching {
      try await time(30)
      #expect(agent.changes.isEmpty)
      interrupt(in: 120)
      try await agent.changed("leave")
    }
    #expect(context.clock.uptime() < .seconds(40))
  }

  @Test(arguments: ["", "{", "[]", #"{"action": 1}"#, #"{"action": "stop", "time": "soon"}"#])
  func `a notice that cannot be read hides no termination`(_ text: String) async throws {
    fixture.metadata.set(Self.spot, text)
    try await whileWatching {
      try await time(20)
      #expect(agent.changes.isEmpty)
      terminate()
      try await agent.changed("leave")
    }
  }

  // MARK: The rest of the sidecar

  @Test func `nothing joins or restarts an agent that leaves`() async throws {
    terminate()
    try await fixture.whileStaying { _ in
      try await agent.changed("leave")
      agent.set { state in
        state.leader = nil
        state.peers = []
      }
      try await time(120)
    }
    #expect(agent.joins.isEmpty && agent.changes == ["leave"])
  }

  // MARK: Where tags find the servers

  /// The last server, of a group that is to be empty, and found by a tag.
  private func last(beside others: [FakeInstance] = []) -> TerminationTests {
    var last = self
    last.fixture.settings.membership = .tags([.init(key: "Name", value: "consul")])
    agent.setCluster([("own", "10.0.1.10")])
    var groups = ["consul", "green"].map { FakeGroup($0, desired: $0 == "green" ? 3 : 0, hooks: ["ending"]) }
    (groups[0].heartbeatTimeout, groups[0].globalTimeout) = (30, 300)
    aws.setGroups(groups)
    aws.setInstances(
      [FakeInstance("i-0aaa", ip: "10.0.1.10", group: "consul", tags: ["Name": "consul"])] + others)
    return last
  }

  /// It waited until Auto Scaling took no more heartbeats, and was abandoned.
  @Test func `the last server of a teardown keeps its data, and goes`() async throws {
    let last = last()
    terminate()
    try await last.whileWatching {
      let completed = try await last.completion()
      #expect(completed == "ending consul i-0aaa CONTINUE")
    }
    #expect(agent.changes.isEmpty && context.clock.uptime() > .seconds(15) && context.clock.uptime() < .seconds(60))
  }

  @Test func `a second group that wants servers is no teardown`() async throws {
    let last = last(beside: [FakeInstance("i-0eee", ip: "10.0.1.14", group: "green", tags: ["Name": "consul"])])
    terminate()
    try await last.whileWatching {
      let completed = try await last.completion()
      #expect(completed == "ending consul i-0aaa ABANDON")
    }
    #expect(agent.changes.isEmpty && context.clock.uptime() > .seconds(200))
  }

  @Test func `servers that have joined and do not vote yet are waited for`() async throws {
    let last = last()
    agent.set { $0.members.append(.init("green", "10.0.1.14")) }
    terminate()
    try await last.whileWatching {
      try await last.time(60)
      #expect(aws.completedHooks.isEmpty && agent.changes.isEmpty)
      agent.setCluster([("own", "10.0.1.10")])
      let completed = try await last.completion()
      #expect(completed == "ending consul i-0aaa CONTINUE")
    }
  }

  @Test func `groups that cannot be asked for are no teardown`() async throws {
    let last = last()
    aws.refuse("DescribeAutoScalingGroups", .accessDenied)
    terminate()
    try await last.whileWatching {
      let completed = try await last.completion()
      #expect(completed == "ending consul i-0aaa ABANDON")
    }
  }
}
