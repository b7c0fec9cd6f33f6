import Base
import Foundation
import Consul
import Model
import TestSupport
import Testing

@testable import Sidecar

/// Agents that do not answer or are stopped, and clients.
extension DepartureTests {
  // MARK: Without an agent

  @Test func `a server whose agent is dead waits, and goes if the others do without it`() async throws {
    agent.set { $0.failure = .refused }
    #expect(
      try await leave(.termination)
        == .nothingToLeave(reason: "the agent does not answer, and the others have a leader"))
    #expect(context.clock.uptime() >= .seconds(30))
  }

  /// Its end would take a vote that the others may need: two of them have no leader.
  @Test func `a server whose agent hangs goes only if the others are a quorum without it`() async throws {
    let servers = ["10.0.1.10", "10.0.1.11", "10.0.1.12", "10.0.1.13"].map { "\($0):8300" }
    for peer in peers { peer.set { $0.peers = servers } }
    agent.set { $0.failure = .timedOut(whileConnecting: false) }
    guard case .kept(let reason) = try await leave(.termination, within: .seconds(90)) else {
      Issue.record("gone")
      return
    }
    #expect(reason.hasSuffix("it may still vote, and 2 of the others are well, where a quorum needs 3"))
    for peer in peers { peer.set { $0.peers.removeLast() } }
    #expect(
      try await leave(.termination)
        == .nothingToLeave(reason: "the agent does not answer, and the others have a leader"))
    #expect(agent.changes.isEmpty)
  }

  @Test func `its process was killed after the leave`() async throws {
    agent.set { $0.failure = .refused }
    for peer in peers { peer.set { $0.peers = ["10.0.1.11:8300", "10.0.1.12:8300"] } }
    #expect(try await leave(.termination) == .left)
    #expect(context.clock.uptime() == .zero)
  }

  @Test func `a survivor with data and without others never goes by itself`() async throws {
    agent.set { $0.failure = .refused }
    for peer in peers { peer.set { $0.leader = nil } }
    guard case .kept(let reason) = try await leave(.termination, within: .seconds(90)) else {
      Issue.record("gone")
      return
    }
    #expect(reason.hasSuffix("this server's data may be the last"))
    context.files.delete("/opt/consul/raft")
    #expect(
      try await leave(.termination)
        == .nothingToLeave(reason: "the agent does not answer, and has no data"))
  }

  /// A founder of a cluster that was never formed was held for hours, and retained. The snapshot stands for the end of
  /// the log.
  @Test(arguments: [("fresh", 1), ("fresh", 2), ("entries", 1), (nil, 1)] as [(String?, Int)])
  func `only a log without the entry of a leader is no data`(_ database: String?, _ index: Int) async throws {
    agent.set { $0.failure = .refused }
    for peer in peers { peer.set { $0.leader = nil } }
    context.files.delete("/opt/consul/raft")
    context.files.put("/opt/consul/raft/snapshots/1-\(index)-3/state.bin", "state")
    if let database {
      let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../Fixtures/raft/\(database).db")
      context.files.put("/opt/consul/raft/raft.db", bytes: Array(try Data(contentsOf: file)))
    }
    let outcome = try await leave(.termination, within: .seconds(90))
    let isEmpty = database == "fresh" && index == 1
    let expected: Departure.Outcome = .nothingToLeave(
      reason: "the agent does not answer, and has no data")
    #expect((outcome == expected) == isEmpty, "\(outcome)")
    // An agent that runs may be elected, and write.
    agent.set { state in (state.failure, state.leader) = (nil, nil) }
    guard case .kept = try await leave(.termination, within: .seconds(90)) else {
      Issue.record("gone")
      return
    }
  }

  /// Once its agent had ended, it asked those of the configuration alone, and took itself for the last with data.
  @Test func `the next process knows the servers that have replaced those of the configuration`() async throws {
    context.files.put(
      SidecarFixture.configuration,
      #"{"bind_addr": "10.0.1.10", "node_name": "own", "retry_join": ["10.0.1.98", "10.0.1.99"]}"#, mode: 0o640)
    let first = Task { [self] in try await leave(.termination) }
    // As the leave begins.
    try await context.transport.request(to: "http://127.0.0.1:8500/v1/agent/leave", number: 1)
    first.cancel()
    _ = await first.result
    let known = try #require(try report).others.map(\.description)
    #expect(Set(known).isSuperset(of: ["10.0.1.11", "10.0.1.12"]))
    agent.set { $0.failure = .refused }
    let start = context.clock.uptime()
    #expect(try await leave(.termination) == .left)
    #expect(context.clock.uptime() == start)
  }

  @Test(arguments: [("another boot", 1), ("text", 2)])
  func `a report of another boot, or none, names no servers`(_ what: String, _ kind: Int) async throws {
    let report = DepartureReport(
      source: .termination, phase: .leaving, reason: "", time: context.context.now(), uptime: .zero,
      bootID: "another", others: [IPv4Address("10.0.1.13")].compactMap { $0 }, since: .zero)
    context.files.put(fixture.settings.departureReportPath, kind == 1 ? report.json.prettyText : "{")
    let departure = Departure(settings: fixture.settings, context: context.context)
    #expect(departure.knownOthers() == Set(["10.0.1.11", "10.0.1.12"].compactMap { IPv4Address($0) }))
    try await context.clock.sleep(for: .seconds(10))
    #expect(departure.startOfTermination() == .seconds(10))
  }

  // MARK: Another cluster

  /// Another cluster has the addresses of the others by now: the last one with data was ended.
  @Test(arguments: ["leader", "follower", "no identity"], [true, false])
  func `another cluster at the addresses of the others proves nothing`(_ kind: String, _ isGone: Bool) async throws {
    agent.set { if isGone { $0.failure = .refused } else { $0.leader = nil } }
    for peer in peers {
      peer.set { state in
        state.identity = kind == "no identity" ? nil : ["cluster": "22222222-2222-4333-8444-555555555555", "epoch": 1]
        state.peers = ["10.0.1.11:8300", "10.0.1.12:8300", "10.0.1.77:8300"]
        if kind == "follower" { state.leader = "10.0.1.77:8300" }
      }
    }
    if kind == "follower" { peers[1].set { $0.failure = .refused } }
    guard case .kept(let reason) = try await leave(.termination, within: .seconds(90)) else {
      Issue.record("gone")
      return
    }
    #expect(reason.hasSuffix("this server's data may be the last"))
    context.files.delete("/opt/consul/raft")
    guard case .kept = try await leave(.termination, within: .seconds(90)) else { return }
    Issue.record("an empty server has nothing to lose")
  }

  /// One of `retry_join` that knows the leader and is no server of raft counted for the quorum.
  @Test func `only servers in the raft configuration count`() async throws {
    context.files.put(
      SidecarFixture.configuration,
      #"{"bind_addr": "10.0.1.10", "node_name": "own", "retry_join": ["10.0.1.11", "10.0.1.12", "10.0.1.50"]}"#)
    let other = FakeConsulAgent(context, at: "10.0.1.50:8500")
    for peer in peers + [other] {
      peer.set { state in
        state.leader = "10.0.1.11:8300"
        state.peers = ["10.0.1.10", "10.0.1.11", "10.0.1.12", "10.0.1.13"].map { "\($0):8300" }
      }
    }
    agent.set { $0.failure = .timedOut(whileConnecting: false) }
    guard case .kept(let reason) = try await leave(.termination, within: .seconds(90)) else {
      Issue.record("gone")
      return
    }
    #expect(reason.hasSuffix("it may still vote, and 2 of the others are well, where a quorum needs 3"))
  }

  /// For example where the agent's HTTP API is closed.
  @Test func `an agent that still has raft's port open may still vote`() async throws {
    let servers = ["10.0.1.10", "10.0.1.11", "10.0.1.12", "10.0.1.13"].map { "\($0):8300" }
    for peer in peers { peer.set { $0.peers = servers } }
    agent.set { $0.failure = .refused }
    context.ports.set("10.0.1.10", .tcp, port: 8300, to: .open)
    guard case .kept(let reason) = try await leave(.termination, within: .seconds(90)) else {
      Issue.record("gone")
      return
    }
    #expect(reason.hasSuffix("it may still vote, and 2 of the others are well, where a quorum needs 3"))
  }

  // MARK: A stop of the agent

  @Test func `an agent that is stopped without a leader, or without an answer, is not held up`() async throws {
    agent.set { $0.refusals["/v1/operator/raft/configuration"] = (500, "No cluster leader") }
    guard case .kept = try await leave(.stopping) else {
      Issue.record("left")
      return
    }
    #expect(context.clock.uptime() >= .seconds(5) && context.clock.uptime() <= .seconds(7))
    agent.set { $0.failure = .refused }
    guard case .nothingToLeave = try await leave(.stopping) else {
      Issue.record("left")
      return
    }
    #expect(context.clock.uptime() <= .seconds(7))
  }

  /// A busy agent runs, and may be a member for long.
  @Test(arguments: [Notice.Source.stopping, .manual])
  func `an agent that is slow to answer is not one that has ended`(_ source: Notice.Source) async throws {
    agent.set { $0.failure = .timedOut(whileConnecting: false) }
    async let outcome = leave(source)
    try await context.clock.sleep(for: .seconds(20))
    agent.set { $0.failure = nil }
    #expect(try await outcome == .left)
  }

  /// Raft keeps the address under which it has added a server.
  @Test func `a server that raft names by an old address leaves with the lock, too`() async throws {
    agent.set { state in
      state.servers[1].address = "10.0.1.99:8300"
      state.leaveLock = ("other", "i-0ccc")
      state.sessions = ["other"]
    }
    async let outcome = leave()
    try await context.clock.sleep(for: .seconds(20))
    #expect(agent.changes.isEmpty)
    agent.set { $0.leaveLock = nil }
    #expect(try await outcome == .left)
  }

  @Test func `the only server is stopped at once, and keeps its data`() async throws {
    agent.setCluster([("own", "10.0.1.10")])
    #expect(try await leave(.stopping) == .kept(reason: "this is the only voter: its data would be lost"))
    #expect(agent.changes.isEmpty && agent.leaveLock == nil && context.clock.uptime() < .seconds(6))
  }

  // MARK: A client

  @Test func `a client that ends leaves DNS, drains, and leaves`() async throws {
    var other = self
    other.fixture.settings.role = .client
    other.fixture.settings.drain = .seconds(20)
    #expect(try await other.leave(.termination) == .left)
    #expect(agent.changes == ["maintenance", "leave"] && context.clock.uptime() == .seconds(20))
  }

  /// It comes back, and would keep its maintenance mode.
  @Test func `a client that is only stopped leaves at once`() async throws {
    var other = self
    other.fixture.settings.role = .client
    #expect(try await other.leave(.stopping) == .left)
    #expect(agent.changes == ["leave"])
  }
}
