import Base
import Bootstrap
import Execution
import Model
import TestSupport
import Testing

/// Three servers found a cluster, of which two suffice: i-0aaa, this one, i-0bbb and i-0ccc, which is lost before it
/// has joined the others. Consul itself would wait for it for ever.
@Suite(.timeLimit(.minutes(5))) struct FounderLossTests {
  private static let first = "/consul/web/000001", second = "/consul/web/000002", third = "/consul/web/000003"
  private static let restart = "/bin/systemctl restart consul.service"

  private var fixture = BootstrapFixture(.systemd)

  init() {
    fixture.settings.clusterRecord = "/consul/web"
    fixture.settings.expect = 2
    fixture.settings.verifyTimeout = .seconds(60)
    fixture.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10", lifecycle: "Pending:Wait"), FakeInstance("i-0bbb", ip: "10.0.1.11"),
      FakeInstance("i-0ccc", ip: "10.0.1.12"),
    ])
    for address in ["10.0.1.11", "10.0.1.12"] { fixture.test.refuseAgent(at: address) }
  }

  /// - Parameter loss: carried out once the agent runs, which then knows i-0bbb.
  private func lose(_ loss: @escaping @Sendable () -> Void) {
    let fixture = fixture
    fixture.test.launcher.onRun("/bin/systemctl", ["start", "consul.service"]) { _, _ in
      fixture.agent.set { state in
        (state.failure, state.leader, state.peers) = (nil, nil, [])
        state.members = [.init("i-0aaa", "10.0.1.10", expect: 3), .init("i-0bbb", "10.0.1.11", expect: 3)]
      }
      _ = FakeConsulAgent(fixture.test, at: "10.0.1.11:8500")
      loss()
      return CommandResult(end: .exited(0), output: "")
    }
    fixture.test.launcher.onRun("/bin/systemctl", ["restart", "consul.service"]) { _, _ in
      fixture.agent.setCluster([("i-0aaa", "10.0.1.10"), ("i-0bbb", "10.0.1.11")])
      return CommandResult(end: .exited(0), output: "")
    }
  }

  private func record(_ parameter: String) throws -> ClusterRecord? {
    try fixture.aws.parameter(parameter).map { try ClusterRecord(parsing: $0) }
  }

  private var expect: JSONValue? {
    get throws {
      try fixture.test.files.text("/etc/consul.d/00-consul-bootstrap.json")
        .map { try JSONValue(parsing: $0) }?["bootstrap_expect"]
    }
  }

  private var restarts: Int { fixture.test.launcher.commands.count { $0 == Self.restart } }

  @Test func `those that are left claim the record again, and form the cluster in the same run`() async throws {
    lose { [fixture] in fixture.aws.change("i-0ccc") { $0.state = "terminated" } }
    let outcome = try await fixture.start()
    #expect(outcome.health?.servers == 2 && fixture.test.clock.uptime() < .seconds(20))
    let before = try #require(try record(Self.first)), forming = try #require(try record(Self.second))
    #expect(before.servers.map(\.instance) == ["i-0aaa", "i-0bbb", "i-0ccc"])
    #expect(forming.state == .forming && forming.servers.map(\.instance) == ["i-0aaa", "i-0bbb"])
    #expect(forming.cluster != before.cluster && forming.epoch == 2)
    #expect(try expect == 2 && restarts == 1)
    // The leader's sidecar names the cluster so.
    let memory = try #require(fixture.test.files.text("/var/lib/consul-bootstrap/cluster-record.json"))
    #expect(try RememberedRecord(parsing: Array(memory.utf8)).entry == RecordEntry(number: 2, record: forming))
    // Neither the entry before nor a cluster of it is recorded as formed.
    #expect(try record(Self.third) == nil)
  }

  @Test func `a server that is second follows the claim of the first`() async throws {
    lose { [fixture] in
      fixture.aws.change("i-0ccc") { $0.state = "terminated" }
      let record = ClusterRecord(
        .forming, cluster: "c", epoch: 2, by: "i-0bbb", at: Timestamp(milliseconds: 1), datacenter: "dc1",
        servers: [("i-0aaa", "10.0.1.10"), ("i-0bbb", "10.0.1.11")].map {
          .init(instance: $0, address: IPv4Address($1)!)
        })
      fixture.aws.setParameter(Self.second, record.json.compactText)
    }
    try await fixture.start()
    #expect(try expect == 2 && restarts == 1 && record(Self.third) == nil)
  }

  @Test func `a lost race is decided again at the next look`() async throws {
    lose { [fixture] in
      fixture.aws.change("i-0ccc") { $0.state = "terminated" }
      fixture.aws.refuse("PutParameter", .init(status: 400, code: "ParameterAlreadyExists"), times: 1)
    }
    try await fixture.start()
    #expect(fixture.aws.calls("PutParameter").compactMap { $0.parameters["Name"] }.count >= 2)
    // Nothing starts again before its claim has won.
    #expect(try record(Self.second)?.state == .forming)
    #expect(try expect == 2)
  }

  @Test func `without a record the number is that of those that are left`() async throws {
    var fixture = fixture
    fixture.settings.clusterRecord = nil
    lose { [fixture] in fixture.aws.change("i-0ccc") { $0.state = "terminated" } }
    try await fixture.start()
    #expect(try expect == 2 && restarts == 1)
    #expect(fixture.aws.calls("PutParameter").isEmpty)
  }

  /// A stopped server may come back and a silent one may live: both are founders still.
  @Test(arguments: [
    ("stopped", "not known whether i-0ccc (instance state stopped) has a cluster's data"),
    ("running", "i-0ccc (10.0.1.12) runs no agent"),
  ])
  func `a founder that is not terminated is waited for, and named`(_ state: String, _ reason: String) async throws {
    lose { [fixture] in fixture.aws.change("i-0ccc") { $0.state = state } }
    let failure = try #require(try await fixture.failure())
    #expect(failure.status == .agentUnhealthy)
    #expect(failure.message == "the Consul agent is not healthy after 60 s: the agent knows no leader; \(reason)")
    #expect(try record(Self.second) == nil && expect == 3 && restarts == 0)
  }

  @Test func `a group that is not complete waits for a replacement`() async throws {
    var fixture = fixture
    fixture.settings.expect = 3
    lose { [fixture] in fixture.aws.change("i-0ccc") { $0.state = "terminated" } }
    let failure = try #require(try await fixture.failure())
    #expect(
      failure.message == "the Consul agent is not healthy after 60 s: the agent knows no leader; the group has 2 of 3 "
        + "servers: missing i-0ccc (instance state terminated)")
    #expect(try record(Self.second) == nil && restarts == 0)
  }

  /// It has met the third server before that died: its own data decides, and Consul ignores the number.
  @Test func `a survivor that has raft state claims nothing`() async throws {
    var fixture = fixture
    fixture.settings.lifecycleHook = nil
    lose { [fixture] in
      fixture.aws.change("i-0ccc") { $0.state = "terminated" }
      fixture.test.files.put("/opt/consul/raft/raft.db", "no database")
    }
    let failure = try #require(try await fixture.failure())
    #expect(
      failure.message == "the Consul agent is not healthy after 60 s: the agent knows no leader; this server has raft "
        + "data and no leader")
    #expect(failure.needsRepair)
    #expect(try record(Self.second) == nil && restarts == 0)
  }
}
