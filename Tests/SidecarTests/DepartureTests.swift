import Base
import Consul
import Decisions
import Model
import TestSupport
import Testing

@testable import Sidecar

/// A server, 10.0.1.10, leaves a cluster with 10.0.1.11 and 10.0.1.12, of which the first leads.
@Suite(.timeLimit(.minutes(5))) struct DepartureTests {
  var fixture = SidecarFixture()
  let peers: [FakeConsulAgent]
  var desired: Int?
  var context: TestContext { fixture.context }
  var agent: FakeConsulAgent { fixture.agent }

  init() {
    let servers = [("i-0bbb", "10.0.1.11"), ("own", "10.0.1.10"), ("i-0ccc", "10.0.1.12")]
    fixture.agent.setCluster(servers)
    fixture.context.files.put(
      SidecarFixture.configuration,
      #"{"bind_addr": "10.0.1.10", "node_name": "own", "retry_join": ["10.0.1.11", "10.0.1.12"]}"#, mode: 0o640)
    fixture.context.files.put("/opt/consul/raft/snapshots/1-2-3/state.bin", "state")
    let context = fixture.context
    peers = ["10.0.1.11", "10.0.1.12"].map { address in
      let peer = FakeConsulAgent(context, at: "\(address):8500")
      peer.setCluster(servers)
      return peer
    }
    agreesToLeave()
  }

  /// The others remove the server once it leaves, and its agent ends.
  private func agreesToLeave() {
    let peers = peers, agent = fixture.agent
    agent.set { $0.health = ["id-i-0bbb": true, "id-i-0ccc": true] }
    agent.set {
      $0.onLeave = {
        for peer in peers { peer.set { $0.peers.removeAll { $0 == "10.0.1.10:8300" } } }
      }
    }
  }

  func leave(
    _ source: Notice.Source = .manual, within time: Duration? = .seconds(60), patience: Duration = .zero
  ) async throws -> Departure.Outcome {
    let start = context.clock.uptime()
    return try await Departure(
      settings: fixture.settings, context: context.context, desiredCapacity: { [desired] in desired }
    ).run(
      Notice(source, deadline: time.map { start + $0 }, patientUntil: start + patience))
  }

  var report: DepartureReport? {
    get throws {
      try context.files.text(fixture.settings.departureReportPath)
        .flatMap { DepartureReport(json: try JSONValue(parsing: $0)) }
    }
  }

  @Test func `with the lock, and a quorum of the others, it leaves once they have removed it`() async throws {
    #expect(try await leave() == .left)
    #expect(agent.changes == ["leave"] && context.clock.uptime() < .seconds(2))
    #expect(try report?.phase == .left && report?.source == .manual)
    // By a session of this node, under the name of the instance.
    let creation = try #require(context.transport.requests.first { $0.url.hasSuffix("/v1/session/create") })
    #expect(
      try JSONValue(parsing: creation.body)
        == ["Name": "consul-bootstrap leave", "TTL": "30s", "LockDelay": "5s", "Behavior": "release"])
  }

  @Test func `another that leaves is waited for`() async throws {
    agent.set {
      $0.leaveLock = ("other", "i-0ccc")
      $0.sessions = ["other"]
    }
    async let outcome = leave()
    try await context.clock.sleep(for: .seconds(20))
    #expect(agent.changes.isEmpty)
    #expect(try report?.phase == .waiting && report?.reason == "i-0ccc leaves")
    agent.set { $0.leaveLock = nil }
    #expect(try await outcome == .left)
  }

  /// Under supervise a reboot took the server out of its cluster.
  @Test(arguments: ["poweroff.target", "reboot.target", "kexec.target", ""])
  func `a stop is a departure unless the machine reboots`(_ target: String) async throws {
    context.system.setBootedBySystemd(true)
    context.launcher.run("/bin/systemctl", ["list-jobs"], output: "4711 \(target) start waiting\n")
    await fixture.sidecar().leaveBeforeStop()
    let stays = ["reboot.target", "kexec.target"].contains(target)
    #expect(agent.changes == (stays ? [] : ["leave"]))
    #expect(try report?.source == (stays ? nil : .stopping))
  }

  /// A process of this machine was killed while it held the lock.
  @Test func `the lock of this instance is taken over`() async throws {
    agent.set {
      $0.leaveLock = ("mine", "i-0aaa")
      $0.sessions = ["mine"]
    }
    #expect(try await leave() == .left)
    #expect(!context.transport.requests.contains { $0.url.hasSuffix("/v1/session/create") })
  }

  /// Two processes of one instance leave one after the other, too.
  @Test func `the lock of a process of this instance that runs is waited for`() async throws {
    context.files.makeDirectory("/proc/4711")
    agent.set {
      $0.leaveLock = ("mine", "i-0aaa")
      $0.sessions = ["mine"]
    }
    async let outcome = leave()
    try await context.clock.sleep(for: .seconds(10))
    #expect(agent.changes.isEmpty && agent.leaveLock?.session == "mine")
    context.files.delete("/proc/4711")
    agent.set { $0.leaveLock = nil }
    #expect(try await outcome == .left)
  }

  /// A spot instance has two minutes, and one that waits for its replacement may have five.
  @Test(arguments: [true, false])
  func `one that has to wait does not hold up another`(_ isPatient: Bool) async throws {
    if !isPatient { agent.set { $0.health["id-i-0ccc"] = false } }
    async let outcome = leave(.termination, within: .seconds(100), patience: .seconds(300))
    try await context.clock.sleep(for: .seconds(20))
    #expect(agent.leaveLock == nil && agent.changes.isEmpty)
    agent.set {
      $0.leaveLock = ("other", "i-0ccc")
      $0.sessions.insert("other")
    }
    try await context.clock.sleep(for: .seconds(20))
    #expect(agent.leaveLock?.session == "other")
    guard case .kept = try await outcome else { return #expect(Bool(false), "left") }
  }

  @Test func `a session that has ended is replaced, and lets another go first`() async throws {
    agent.set { $0.members[2].status = 4 }
    async let outcome = leave(within: .seconds(120))
    try await context.clock.sleep(for: .seconds(5))
    agent.set { state in
      state.sessions = ["other"]
      state.leaveLock = ("other", "i-0ccc")
      state.members[2].status = 1
    }
    try await context.clock.sleep(for: .seconds(40))
    #expect(agent.changes.isEmpty)
    agent.set { $0.leaveLock = nil }
    #expect(try await outcome == .left)
  }

  @Test(arguments: ["dead", "unhealthy"])
  func `a voter that is not well makes it stay, and lets the lock go`(_ kind: String) async throws {
    agent.set { if kind == "dead" { $0.members[2].status = 4 } else { $0.health["id-i-0ccc"] = false } }
    #expect(
      try await leave()
        == .kept(
          reason: "without this server 1 of 2 voters are well, and a quorum needs 2; missing: i-0ccc (10.0.1.12:8300)"))
    #expect(agent.changes.isEmpty && agent.leaveLock == nil && context.clock.uptime() <= .seconds(61))
    #expect(try report?.phase == .kept)
  }

  /// Measured: two of five that die a tenth of a second before a third leaves are alive for gossip, and healthy for
  /// autopilot.
  @Test(arguments: ["silent", "refused", "leaderless"])
  func `a voter that does not answer on raft's port now is not well`(_ kind: String) async throws {
    switch kind {
    case "silent": context.streams.fail("10.0.1.12:8300", .silent)
    case "refused": peers[1].set { $0.failure = .refused }
    default: peers[1].set { $0.leader = nil }
    }
    if kind == "silent" { context.transport.fail("http://10.0.1.12:8500/", .timedOut(whileConnecting: true)) }
    guard case .kept(let reason) = try await leave(within: .seconds(10)) else {
      Issue.record("left")
      return
    }
    #expect(reason.hasSuffix("missing: i-0ccc (10.0.1.12:8300)") && agent.changes.isEmpty)
  }

  /// Autopilot has not looked yet.
  @Test func `gossip alone has to say twice that the others are well`() async throws {
    agent.set { $0.health = [:] }
    #expect(try await leave() == .left)
    #expect(context.clock.uptime() > .milliseconds(1100))
  }

  // MARK: Patience

  @Test func `a server that its group terminates waits for its replacement`() async throws {
    async let outcome = leave(.termination, within: .seconds(1000), patience: .seconds(300))
    try await context.clock.sleep(for: .seconds(60))
    #expect(agent.changes.isEmpty)
    #expect(try report?.reason.contains("waiting for a replacement") == true)
    agent.set { state in
      state.servers.append(.init("i-0ddd", "10.0.1.13:8300"))
      state.members.append(.init("i-0ddd", "10.0.1.13"))
      state.health["id-i-0ddd"] = true
    }
    FakeConsulAgent(context, at: "10.0.1.13:8500").set { $0.leader = "10.0.1.11:8300" }
    #expect(try await outcome == .left)
    #expect(context.clock.uptime() < .seconds(70))
  }

  @Test func `without a replacement it leaves once its patience ends`() async throws {
    #expect(try await leave(.termination, within: .seconds(1000), patience: .seconds(300)) == .left)
    #expect(context.clock.uptime() >= .seconds(300) && context.clock.uptime() < .seconds(310))
  }

  @Test func `a group that wants fewer lets it go at once`() async throws {
    var other = self
    other.desired = 2
    #expect(try await other.leave(.termination, within: .seconds(1000), patience: .seconds(300)) == .left)
    #expect(context.clock.uptime() < .seconds(10))
  }

  @Test func `the last server of a group that is to be empty keeps its data`() async throws {
    agent.setCluster([("own", "10.0.1.10")])
    var other = self
    other.desired = 0
    #expect(
      try await other.leave(.termination, within: .seconds(1000), patience: .seconds(300))
        == .lastOne(reason: "this is the last voter of a group that is to have none"))
    // Asked twice.
    #expect(agent.changes.isEmpty && context.clock.uptime() >= .seconds(15))
    // The stop of the machine waited for a lock of its own, for 50 s.
    #expect(agent.leaveLock == nil)
  }

  /// By a person, or by a time server that corrects it.
  @Test(arguments: [-31_536_000, -600, 600, 31_536_000] as [Int64])
  func `a clock that is set changes no wait`(_ seconds: Int64) async throws {
    async let outcome = leave(.termination, within: .seconds(1000), patience: .seconds(300))
    try await context.clock.sleep(for: .seconds(60))
    context.clock.setWall(by: .seconds(seconds))
    #expect(try await outcome == .left)
    #expect(context.clock.uptime() >= .seconds(300) && context.clock.uptime() < .seconds(310))
    #expect(try report?.isCurrent(uptime: context.clock.uptime(), bootID: context.context.bootID) == true)
  }

  // MARK: The leader

  @Test func `a leader lets the others go first, and hands over where the release can`() async throws {
    agent.set { state in
      state.leader = "10.0.1.10:8300"
      state.handsOver = true
    }
    #expect(try await leave(.termination) == .left)
    #expect(agent.changes == ["transfer id-i-0bbb", "leave"])
    #expect(context.clock.uptime() >= .seconds(5))
  }

  @Test func `a leader of a release that cannot hand over leaves all the same`() async throws {
    agent.set { $0.leader = "10.0.1.10:8300" }
    #expect(try await leave(.termination) == .left)
    #expect(agent.changes == ["leave"])
  }

  /// The agent of a server that has left, and still runs, asks for votes: its terms would end each new leader.
  @Test(arguments: [true, false])
  func `a leader waits for the agents of those that have left to end, but not for ever`(_ ends: Bool) async throws {
    agent.set { state in
      state.leader = "10.0.1.10:8300"
      state.members += [.init("ended", "10.0.1.20", status: 3), .init("ending", "10.0.1.21", status: 3)]
      // Another server has its address now.
      state.members.append(.init("replaced", "10.0.1.11", status: 3))
    }
    context.ports.set("10.0.1.20", .tcp, port: 8300, to: .silent)
    context.ports.set("10.0.1.21", .tcp, port: 8300, to: .open)
    async let outcome = leave(.termination, within: nil)
    try await context.clock.sleep(for: .seconds(20))
    #expect(agent.changes.isEmpty)
    #expect(try report?.reason == "this server leads, and the agent of 10.0.1.21, which has left, still runs")
    agent.set {
      $0.leaveLock = ("other", "i-0ccc")
      $0.sessions.insert("other")
    }
    try await context.clock.sleep(for: .seconds(5))
    #expect(agent.leaveLock?.session == "other")
    agent.set { $0.leaveLock = nil }
    if ends { context.ports.set("10.0.1.21", .tcp, port: 8300, to: .refused) }
    #expect(try await outcome == .left)
    #expect(ends ? context.clock.uptime() < .seconds(35) : (.seconds(35)..<(.seconds(45))) ~= context.clock.uptime())
  }

  @Test func `a leader whose time is over does not wait for the agents of others`() async throws {
    agent.set { state in
      state.leader = "10.0.1.10:8300"
      state.members.append(.init("ending", "10.0.1.21", status: 2))
    }
    context.ports.set("10.0.1.21", .tcp, port: 8300, to: .open)
    #expect(try await leave(.spot, within: .seconds(25)) == .left)
  }

  /// For example where a transfer goes on, or its time is over.
  @Test func `a leader whose handovers fail leaves all the same`() async throws {
    agent.set { state in
      state.leader = "10.0.1.10:8300"
      state.refusals["/v1/operator/raft/transfer-leader"] = (500, "leadership transfer timeout")
    }
    #expect(try await leave(.termination) == .left)
    #expect(agent.changes == ["leave"])
    #expect(context.transport.requests.count { $0.url.contains("transfer-leader") } == 3)
  }

  /// Raft is done with it before gossip: its agent, stopped too early, would be a failed member.
  @Test func `a leave is over once the agent has left gossip, too`() async throws {
    agent.set { $0.leavesGossip = false }
    async let outcome = leave()
    try await agent.changed("leave")
    try await context.clock.sleep(for: .seconds(4))
    #expect(try report?.phase == .leaving)
    agent.set { $0.members[1].status = 3 }
    #expect(try await outcome == .left)
    #expect(context.clock.uptime() < .seconds(8))
  }

  // MARK: What cannot be seen

  @Test func `without a leader it stays`() async throws {
    for server in [agent] + peers { server.set { $0.leader = nil } }
    agent.set { $0.refusals["/v1/operator/raft/configuration"] = (500, "No cluster leader") }
    guard case .kept(let reason) = try await leave(.termination) else {
      Issue.record("left")
      return
    }
    #expect(reason.hasPrefix("the agent knows no leader") && agent.changes.isEmpty)
  }

  /// Consul answers with this error after seven seconds only: its other answers are not waited for.
  @Test func `the end of an agent without a leader is no harm to others that have one`() async throws {
    agent.set { state in
      state.leader = nil
      state.refusals["/v1/operator/raft/configuration"] = (200, "hangs")
    }
    #expect(
      try await leave(.termination)
        == .nothingToLeave(reason: "the agent knows no leader, and the others have a leader"))
    #expect(context.clock.uptime() >= .seconds(30))
    for peer in peers { peer.set { $0.leader = nil } }
    guard case .kept(let reason) = try await leave(.termination) else {
      Issue.record("gone")
      return
    }
    #expect(reason.hasSuffix("this server's data may be the last"))
    context.files.delete("/opt/consul/raft")
    #expect(
      try await leave(.termination) == .nothingToLeave(reason: "the agent knows no leader, and has no data"))
  }

  @Test func `ACLs that refuse keep it`() async throws {
    agent.set { $0.requiredToken = "secret" }
    guard case .kept(let reason) = try await leave(.termination) else {
      Issue.record("left")
      return
    }
    #expect(reason.hasPrefix("the agent's ACLs forbid it") && agent.changes.isEmpty)
  }

  /// The others hold its leave back: it is not removed.
  @Test func `a leave that no other server confirms is not over`() async throws {
    agent.set { $0.onLeave = nil }
    guard case .kept(let reason) = try await leave(.termination) else {
      Issue.record("left")
      return
    }
    #expect(reason == "no other server has confirmed yet that this one has left")
  }
}
