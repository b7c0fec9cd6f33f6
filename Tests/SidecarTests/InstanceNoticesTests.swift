import Base
import Model
import TestSupport
import Testing

@testable import Sidecar

/// A server, 10.0.1.10, that leads 10.0.1.11 and 10.0.1.12, and what is announced for its instance: nothing of it is a
/// departure.
@Suite(.timeLimit(.minutes(5))) struct InstanceNoticesTests {
  private var fixture = SidecarFixture()
  private var context: TestContext { fixture.context }
  private var agent: FakeConsulAgent { fixture.agent }
  private static let state = "/latest/meta-data/autoscaling/target-lifecycle-state"
  static let rebalance = "/latest/meta-data/events/recommendations/rebalance"
  static let scheduled = "/latest/meta-data/events/maintenance/scheduled"
  private static let recommendation = #"{"noticeTime": "2026-01-01T00:00:00Z"}"#
  /// The test clock begins with the year.
  private static let event = event("1", "instance-retirement", "01 Jan 2026 00:30:00 GMT")

  private static func event(_ id: String, _ code: String, _ time: String, _ state: String = "active") -> String {
    #"{"EventId": "\#(id)", "Code": "\#(code)", "NotBefore": "\#(time)", "State": "\#(state)"}"#
  }

  init() {
    let servers = [("own", "10.0.1.10"), ("i-0bbb", "10.0.1.11"), ("i-0ccc", "10.0.1.12")]
    fixture.agent.setCluster(servers)
    fixture.context.files.put(
      SidecarFixture.configuration,
      #"{"bind_addr": "10.0.1.10", "node_name": "own", "retry_join": ["10.0.1.11", "10.0.1.12"]}"#, mode: 0o640)
    for (_, address) in servers.dropFirst() {
      FakeConsulAgent(fixture.context, at: "\(address):8500").setCluster(servers)
    }
    fixture.agent.set { state in
      state.health = ["id-i-0bbb": true, "id-i-0ccc": true]
      state.handsOver = true
    }
  }

  private func whileWatching(_ body: (Sidecar) async throws -> Void) async throws {
    let sidecar = fixture.sidecar(), instance = try await fixture.instance()
    let task = Task { await sidecar.watchNotices(at: instance) }
    defer { task.cancel() }
    try await body(sidecar)
  }

  private func time(_ seconds: Int) async throws { try await context.clock.sleep(for: .seconds(seconds)) }

  private func report(_ sidecar: Sidecar) async throws -> [InstanceNotice] {
    await sidecar.report()
    let text = try #require(context.files.text(fixture.settings.sidecarReportPath))
    return try #require(SidecarReport(json: try JSONValue(parsing: text))).notices
  }

  // MARK: What is shown

  @Test func `notices are logged once, and reported until they are withdrawn`() async throws {
    agent.set { $0.leader = "10.0.1.11:8300" }
    fixture.metadata.set(Self.state, "Standby")
    fixture.metadata.set(Self.rebalance, Self.recommendation)
    fixture.metadata.set(
      Self.scheduled,
      "[\(Self.event),\(Self.event("2", "instance-stop", "01 Jan 2026 00:30:00 GMT", "completed")),"
        + "\(Self.event("3", "system-reboot", "soon"))]")
    try await whileWatching { sidecar in
      try await time(200)
      #expect(
        try await report(sidecar) == [
          InstanceNotice(.standby), InstanceNotice(.rebalance),
          InstanceNotice(
            .scheduled, id: "1", code: "instance-retirement", notBefore: Timestamp(iso8601: "2026-01-01T00:30:00Z"),
            startsIn: .seconds(1600)),
          InstanceNotice(.scheduled, id: "3", code: "system-reboot"),
        ])
      fixture.metadata.set(Self.state, "InService")
      fixture.metadata.set(Self.rebalance, nil)
      fixture.metadata.set(Self.scheduled, "[]")
      try await time(60)
      #expect(try await report(sidecar) == [])
    }
    #expect(
      fixture.log(.warning) == [
        "warning Auto Scaling has this instance in Standby, and does not count it: it stays a member",
        "warning EC2 recommends to replace this spot instance: it may soon be interrupted",
        "warning EC2 has scheduled instance-retirement for this instance, not before 2026-01-01T00:30:00.000Z "
          + #"hint="terminate the instance in its Auto Scaling group before then, which replaces it""#,
        "warning EC2 has scheduled system-reboot for this instance, at a time that cannot be read "
          + #"hint="make sure that the other servers are well then: this instance returns with its data""#,
      ])
    #expect(agent.changes.isEmpty)
  }

  /// The machine's clock is a year ahead.
  @Test func `the time until an event is that of the service's clock`() async throws {
    fixture.metadata.setTime(context.clock.wall())
    context.clock.setWall(by: .seconds(31_536_000))
    fixture.metadata.set(Self.scheduled, "[\(Self.event)]")
    try await whileWatching { sidecar in
      try await time(100)
      #expect(try await report(sidecar).map(\.startsIn) == [.seconds(1700)])
    }
    #expect(agent.changes.isEmpty)
  }

  @Test(arguments: ["", "{", "null", #"[{"State": "active"}]"#, #"[7, {"State": "active", "EventId": 1}]"#])
  func `a list that cannot be read hides no recommendation, and keeps the events of before`(
    _ text: String
  ) async throws {
    fixture.metadata.set(Self.scheduled, "[\(Self.event)]")
    try await whileWatching { sidecar in
      try await time(30)
      fixture.metadata.set(Self.scheduled, text)
      fixture.metadata.set(Self.rebalance, Self.recommendation)
      try await time(60)
      #expect(try await report(sidecar).map(\.kind) == [.rebalance, .scheduled])
      try await agent.changed("transfer id-i-0bbb")
    }
    #expect(fixture.log(.warning).contains { $0.contains("cannot read the scheduled events of this instance") })
  }

  /// 256 KiB of answer could be many.
  @Test func `a list of any length is a report of some kilobytes`() async throws {
    let events = (0..<2000).map { Self.event("\($0)", "system-reboot", "01 Jan 2026 10:00:00 GMT") }
    fixture.metadata.set(Self.scheduled, "[\(events.joined(separator: ","))]")
    try await whileWatching { sidecar in
      try await time(30)
      #expect(try await report(sidecar).count == 20)
    }
  }

  // MARK: The leader

  @Test func `a leader hands over for a recommendation, once, and stays`() async throws {
    fixture.metadata.set(Self.rebalance, Self.recommendation)
    try await whileWatching { _ in
      try await agent.changed("transfer id-i-0bbb")
      // Where all have the recommendation, leadership does not go round for ever.
      agent.set { $0.leader = "10.0.1.10:8300" }
      try await time(600)
    }
    #expect(agent.changes == ["transfer id-i-0bbb"])
  }

  @Test func `a leader hands over ten minutes before an event`() async throws {
    fixture.metadata.set(Self.scheduled, "[\(Self.event)]")
    try await whileWatching { _ in
      try await time(1195)
      #expect(agent.changes.isEmpty)
      try await agent.changed("transfer id-i-0bbb")
    }
    #expect(context.clock.uptime() <= .seconds(1265))
  }

  @Test func `one that comes to lead later hands over then`() async throws {
    agent.set { $0.leader = "10.0.1.11:8300" }
    fixture.metadata.set(Self.rebalance, Self.recommendation)
    try await whileWatching { _ in
      try await time(120)
      #expect(agent.changes.isEmpty)
      agent.set { $0.leader = "10.0.1.10:8300" }
      try await agent.changed("transfer id-i-0bbb")
    }
  }

  /// Consul 1.8.7 answers 404.
  @Test func `a release that cannot hand over is asked once`() async throws {
    agent.set { $0.handsOver = false }
    fixture.metadata.set(Self.rebalance, Self.recommendation)
    try await whileWatching { _ in try await time(600) }
    let calls = context.transport.requests.count { $0.url.contains("transfer-leader") }
    #expect(calls == 1 && agent.changes.isEmpty)
    #expect(fixture.log.contains("info this server leads, and its release of Consul cannot hand leadership over"))
  }

  @Test func `while another server leaves, or none is well, leadership stays`() async throws {
    fixture.metadata.set(Self.rebalance, Self.recommendation)
    agent.set { $0.leaveLock = ("other", "i-0ccc") }
    try await whileWatching { _ in
      try await time(120)
      #expect(agent.changes.isEmpty)
      agent.set { state in
        state.leaveLock = nil
        state.health = ["id-i-0bbb": false, "id-i-0ccc": false]
      }
      try await time(120)
      #expect(agent.changes.isEmpty)
      agent.set { $0.health["id-i-0ccc"] = true }
      try await agent.changed("transfer id-i-0ccc")
    }
  }
}
