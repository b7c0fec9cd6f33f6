import Base
import Consul
import Model
import TestSupport
import Testing

@testable import Sidecar

/// The agent has ended: by a crash, or because a process that was killed has made it leave.
extension DepartureTests {
  @Test func `a server whose agent is dead waits, and goes if the others do without it`() async throws {
    agent.set { $0.failure = .refused }
    #expect(
      try await leave(.termination)
        == .nothingToLeave(reason: "the agent does not answer, and the others have a leader"))
    #expect(context.clock.uptime() >= .seconds(30))
  }

  @Test func `its process was killed after the leave`() async throws {
    agent.set { $0.failure = .refused }
    for peer in peers { peer.set { $0.peers = ["10.0.1.11:8300", "10.0.1.12:8300"] } }
    #expect(try await leave(.termination) == .left)
    #expect(context.clock.uptime() == .zero)
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
}
