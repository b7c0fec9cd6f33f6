import Base
import Consul
import Model
import TestSupport
import Testing

@testable import Sidecar

/// The server 10.0.1.10 of five, 10.0.1.10 to 10.0.1.14, whose cluster has no leader.
@Suite(.timeLimit(.minutes(5))) struct RecoveryTests {
  private var fixture = SidecarFixture()
  /// This server's own port 8300.
  private let port: FakeConsulAgent
  private static let addresses = (0...4).map { "10.0.1.1\($0)" }
  private static let peersPath = "/opt/consul/raft/peers.json"

  init() {
    let servers = Self.addresses.enumerated().map { ($0 == 0 ? "own" : "s\($0)", $1) }
    fixture.settings.membership = .groups(["web"])
    fixture.settings.leaderWait = .seconds(40)
    fixture.settings.recovery = .auto
    fixture.agent.setCluster(servers)
    fixture.agent.set { state in
      state.leader = nil
      for index in state.members.indices.dropFirst() { state.members[index].status = 4 }
      state.catalog = ["own": "i-0aaa", "s1": "i-0001", "s2": "i-0002", "s3": "i-0003", "s4": "i-0004"]
    }
    fixture.aws.setInstances(
      [FakeInstance("i-0aaa", ip: "10.0.1.10")]
        + (1...4).map { FakeInstance("i-000\($0)", ip: nil, group: nil, state: "terminated") })
    let context = fixture.context, agent = fixture.agent
    context.files.put(
      SidecarFixture.configuration,
      #"{"bind_addr": "10.0.1.10", "node_name": "own", "retry_join": ["10.0.1.11"]}"#, mode: 0o640)
    context.files.put("/opt/consul/raft/raft.db", "data")
    port = FakeConsulAgent(context, at: "10.0.1.10:8500")
    port.setCluster(servers)
    port.set { state in
      state.leader = nil
      state.lastLog = LogPosition(term: 2, index: 90)
    }
    for verb in ["kill", "stop"] { context.launcher.run("/bin/systemctl", [verb]) }
    // An agent that finds peers.json leads, and removes it.
    context.launcher.onRun("/bin/systemctl", ["start"]) { _, _ in
      if try context.files.status(Self.peersPath) != nil {
        context.files.delete(Self.peersPath)
        agent.set { $0.leader = "10.0.1.10:8300" }
      }
      return CommandResult(end: .exited(0), output: "")
    }
    context.launcher.run("/bin/cp", ["-a"])
  }

  private func watch(_ body: () async throws -> Void) async throws {
    let sidecar = fixture.sidecar(), instance = try await fixture.instance()
    let task = Task { await sidecar.watchOutage(at: instance) }
    defer { task.cancel() }
    try await body()
  }

  private func time(_ seconds: Int) async throws { try await fixture.context.clock.sleep(for: .seconds(seconds)) }

  private var report: OutageReport? {
    get throws {
      try fixture.context.files.text(fixture.settings.outageReportPath)
        .flatMap { OutageReport(json: try JSONValue(parsing: $0)) }
    }
  }

  private var hasRecovered: Bool { fixture.log.contains { $0.contains("recovered the cluster: this server leads it") } }

  private func request(assumedDead: Set<String> = [], bootID: String? = nil, age: Duration = .zero) {
    let context = fixture.context.context
    let request = RecoveryRequest(
      assumedDead: assumedDead, uptime: context.uptime() - age, bootID: bootID ?? context.bootID)
    fixture.context.files.put(fixture.settings.recoveryRequestPath, request.json.compactText, mode: 0o600)
  }

  @Test func `the survivor of five recovers by itself`() async throws {
    try await watch {
      try await time(48)
      #expect(!hasRecovered)
      #expect(try report?.decision == .wait)
      try await time(60)
      #expect(hasRecovered)
      #expect(try report == nil)
    }
    #expect(
      fixture.context.launcher.commands.filter { $0.hasPrefix("/bin/") }.map { $0.prefix(24) }
        == [
          "/bin/systemctl kill --sig", "/bin/systemctl stop consu", "/bin/cp -a --reflink=auto",
          "/bin/systemctl start cons",
        ].map { $0.prefix(24) })
  }

  @Test func `by hand it waits for a person, whose request is used once`() async throws {
    var fixture = fixture
    fixture.settings.recovery = .manual
    let sidecar = fixture.sidecar(), instance = try await fixture.instance()
    let task = Task { await sidecar.watchOutage(at: instance) }
    defer { task.cancel() }
    try await time(120)
    #expect(!hasRecovered)
    #expect(try report?.decision == .recoverable && report?.best == "i-0aaa")
    request(bootID: "another")
    try await time(60)
    #expect(!hasRecovered)
    request(age: .seconds(181))
    try await time(60)
    #expect(!hasRecovered)
    request()
    try await time(60)
    #expect(hasRecovered)
    #expect(try fixture.context.files.status(fixture.settings.recoveryRequestPath) == nil)
  }

  @Test(arguments: ["stopped", "running", "shutting-down"])
  func `a server that may come back is waited for, unless a person gives it up`(_ state: String) async throws {
    fixture.aws.change("i-0004") { ($0.state, $0.ip, $0.group) = (state, "10.0.1.14", "web") }
    try await watch {
      try await time(200)
      #expect(!hasRecovered)
      #expect(try report?.details.contains { $0.hasPrefix("i-0004 (10.0.1.14): ") } == true)
      request(assumedDead: ["i-0004"])
      try await time(60)
      #expect(hasRecovered)
    }
  }

  @Test func `an election in time needs nothing`() async throws {
    try await watch {
      try await time(30)
      fixture.agent.set { $0.leader = "10.0.1.11:8300" }
      try await time(60)
      #expect(try report == nil)
    }
    #expect(fixture.context.launcher.commands.allSatisfy { !$0.contains("systemctl") })
    #expect(fixture.aws.calls("DescribeInstances").isEmpty)
  }

  @Test func `another survivor with a longer log recovers, this one only says so`() async throws {
    fixture.aws.change("i-0001") { ($0.state, $0.ip, $0.group) = ("running", "10.0.1.11", "web") }
    let other = FakeConsulAgent(fixture.context, at: "10.0.1.11:8500")
    other.set { state in
      state.peers = Self.addresses.map { "\($0):8300" }
      state.lastLog = LogPosition(term: 2, index: 91)
    }
    try await watch {
      try await time(200)
      #expect(!hasRecovered)
      #expect(try report?.best == "i-0001")
      other.set { $0.lastLog = LogPosition(term: 2, index: 89) }
      try await time(60)
      #expect(hasRecovered)
    }
  }

  @Test func `a leader that has appeared meanwhile ends it, and the agent starts as it was`() async throws {
    let other = FakeConsulAgent(fixture.context, at: "10.0.1.11:8500")
    fixture.aws.change("i-0001") { ($0.state, $0.ip, $0.group) = ("running", "10.0.1.11", "web") }
    other.set { state in
      state.peers = Self.addresses.map { "\($0):8300" }
      state.lastLog = LogPosition(term: 1, index: 5)
    }
    fixture.context.launcher.onRun("/bin/systemctl", ["stop"], times: 1) { _, _ in
      other.set { $0.leader = "10.0.1.11:8300" }
      return CommandResult(end: .exited(0), output: "")
    }
    try await watch {
      try await time(110)
      #expect(!hasRecovered)
      #expect(fixture.log.contains { $0.contains("another server knows a leader: the agent starts as it was") })
      #expect(!fixture.context.files.changes.contains { "\($0)".contains("peers.json") })
    }
  }

  @Test func `a recovery that brings no leader is not tried again by itself`() async throws {
    fixture.context.launcher.onRun("/bin/systemctl", ["start"]) { _, _ in CommandResult(end: .exited(0), output: "") }
    try await watch {
      try await time(400)
      #expect(try report?.decision == .recoverable)
      let kills = fixture.context.launcher.commands.filter { $0.contains("kill") }
      #expect(kills.count == 1)
      #expect(try fixture.context.files.status(Self.peersPath) == nil)
      #expect(fixture.context.files.changes.contains { "\($0)".contains("peers.json.failed.") })
    }
  }

  @Test func `an agent that cannot be started again leaves no peers.json for a later start`() async throws {
    fixture.context.launcher.run("/bin/systemctl", ["start"], end: .exited(1), output: "failed")
    try await watch {
      try await time(110)
      #expect(!hasRecovered)
      #expect(try fixture.context.files.status(Self.peersPath) == nil)
      #expect(fixture.context.files.changes.contains { "\($0)".contains("peers.json.failed.") })
    }
  }

  @Test func `without room for a copy nothing is changed`() async throws {
    fixture.context.launcher.run("/bin/cp", ["-a"], end: .exited(1), output: "No space left on device")
    try await watch {
      try await time(200)
      #expect(!hasRecovered)
      #expect(!fixture.context.files.changes.contains { "\($0)".contains("peers.json") })
      #expect(fixture.log.contains { $0.contains("No space left on device") })
    }
  }

  // MARK: Files

  @Test func `report and request are read as they were written, and nothing else is one`() throws {
    let report = OutageReport(
      .recoverable, reason: "r", details: ["a"], best: "i-1", time: fixture.context.context.now(), uptime: .seconds(9),
      bootID: "boot")
    #expect(OutageReport(json: report.json) == report)
    #expect(report.isCurrent(uptime: .seconds(54), bootID: "boot"))
    #expect(!report.isCurrent(uptime: .seconds(55), bootID: "boot") && !report.isCurrent(uptime: .zero, bootID: "boot"))
    #expect(!report.isCurrent(uptime: .seconds(9), bootID: "another"))
    let request = RecoveryRequest(assumedDead: ["i-1"], uptime: .seconds(3), bootID: "boot")
    #expect(RecoveryRequest(json: request.json) == request)
    for text in ["[]", "{}", #"{"decision": "other"}"#, #"{"boot_id": 1, "assume_dead": []}"#] {
      let json = try JSONValue(parsing: text)
      #expect(OutageReport(json: json) == nil && RecoveryRequest(json: json) == nil)
    }
  }
}
