import Base
import Bootstrap
import Execution
import Model
import TestSupport
import Testing

/// Runs of servers that have a record of their cluster: i-0aaa, this one, and in some tests i-0bbb.
@Suite(.timeLimit(.minutes(5))) struct RecordRunTests {
  private static let first = "/consul/web/000001", second = "/consul/web/000002"

  private var fixture = BootstrapFixture(.systemd)

  init() {
    fixture.settings.clusterRecord = "/consul/web"
    fixture.settings.waitTimeout = .seconds(30)
  }

  private var configuration: JSONValue? {
    get throws {
      try fixture.test.files.text("/etc/consul.d/00-consul-bootstrap.json").map { try JSONValue(parsing: $0) }
    }
  }

  private func record(_ parameter: String) throws -> ClusterRecord {
    try ClusterRecord(parsing: try #require(fixture.aws.parameter(parameter)))
  }

  private var calls: [String] {
    fixture.aws.calls.filter { $0.service == "SSM" }.map { "\($0.action) \($0.parameters["Name"] ?? "")" }
  }

  private func put(_ parameter: String, _ state: ClusterRecord.State, _ servers: [String], by: String = "i-0bbb") {
    let record = ClusterRecord(
      state, cluster: "c", epoch: 4, by: by, at: Timestamp(milliseconds: 1), datacenter: "dc1",
      servers: servers.map { .init(instance: $0, address: IPv4Address("10.0.1.10")!) })
    fixture.aws.setParameter(parameter, record.json.compactText)
  }

  private func addServer() {
    fixture.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10", lifecycle: "Pending:Wait"), FakeInstance("i-0bbb", ip: "10.0.1.11"),
    ])
    fixture.test.streams.fail("10.0.1.11:8300", .refused)
    fixture.test.transport.fail("http://10.0.1.11:8500/", .refused)
  }

  // MARK: First boots

  @Test func `the first server claims the record, founds, and records the cluster: two calls`() async throws {
    try await fixture.start()
    #expect(calls == ["PutParameter \(Self.first)", "PutParameter \(Self.second)"])
    #expect(fixture.aws.calls("PutParameter").allSatisfy { $0.parameters["Type"] == "String" })
    let forming = try record(Self.first), formed = try record(Self.second)
    #expect(forming.state == .forming && formed.state == .formed)
    #expect(forming.cluster == formed.cluster && forming.epoch == 1 && formed.names("i-0aaa"))
    let memory = try #require(fixture.test.files.text("/var/lib/consul-bootstrap/cluster-record.json"))
    #expect(
      try RememberedRecord(parsing: Array(memory.utf8)).entry == RecordEntry(number: 1, record: forming))
    #expect(try configuration?["bootstrap_expect"] == 1)
    #expect(
      fixture.test.sink.lines.first { $0.contains("claim") }
        == "info claim \(Self.first) in Parameter Store, to form a new cluster")
  }

  @Test func `a server that is second founds with the founders of the first: two calls`() async throws {
    addServer()
    put(Self.first, .forming, ["i-0aaa", "i-0bbb"])
    fixture.agent.setCluster([("i-0aaa", "10.0.1.10"), ("i-0bbb", "10.0.1.11")])
    fixture.test.launcher.onRun("/bin/systemctl", ["start", "consul.service"]) { [fixture] _, _ in
      fixture.agent.set { $0.failure = nil }
      return CommandResult(end: .exited(0), output: "")
    }
    try await fixture.start()
    #expect(calls == ["PutParameter \(Self.first)", "GetParametersByPath "])
    // Nothing but the record is observed again.
    #expect(fixture.aws.calls("DescribeAutoScalingGroups").count == 1)
    #expect(try configuration?["bootstrap_expect"] == 2)
    #expect(fixture.aws.parameter(Self.second) == nil)
  }

  /// Between the claim and the start: the second run finds its own entry.
  @Test func `a run that was killed after its claim founds at the next try, and records the cluster`() async throws {
    put(Self.first, .forming, ["i-0aaa"], by: "i-0aaa")
    try await fixture.start()
    #expect(try configuration?["bootstrap_expect"] == 1)
    #expect(try record(Self.second).state == .formed)
  }

  @Test func `an obstacle stops the run before it claims`() async throws {
    fixture.test.files.put("/etc/consul.d/baked.json", #"{"bootstrap_expect": 1}"#)
    #expect(try await fixture.failure()?.status == .configurationRejected)
    #expect(calls.isEmpty)
  }

  /// The cluster is healthy: the leader's sidecar records it later.
  @Test func `a cluster that cannot be recorded as formed is an error in the log of a boot that succeeds`() async throws
  {
    fixture.test.launcher.onRun("/bin/systemctl", ["start", "consul.service"]) { [fixture] _, _ in
      fixture.aws.refuse("PutParameter", .accessDenied)
      fixture.startAgent()
      return CommandResult(end: .exited(0), output: "")
    }
    try await fixture.start()
    #expect(
      fixture.test.sink.records(.error).map(\.message)
        == ["cannot write the cluster's record \(Self.second): access denied"])
    #expect(fixture.aws.completedHooks == ["launching web i-0aaa CONTINUE"])
  }

  // MARK: Clusters that exist

  @Test func `a formed cluster is status 18, and the hook is left to its time-out`() async throws {
    put(Self.first, .formed, ["i-0aaa"])
    let failure = try #require(try await fixture.failure())
    #expect(failure.status == .clusterExisted)
    #expect(
      failure.message
        == "\(Self.first) says that a cluster exists, but none answers: i-0aaa neither reachable nor terminated")
    #expect(fixture.changes.isEmpty && fixture.aws.completedHooks.isEmpty)
  }

  @Test func `a cluster whose servers are all gone is formed again where the option says so`() async throws {
    var fixture = fixture
    fixture.settings.onTotalLoss = .new
    put(Self.first, .forming, ["i-0ccc"])
    put(Self.second, .formed, ["i-0ccc"])
    try await fixture.start()
    let forming = try record("/consul/web/000003"), formed = try record("/consul/web/000004")
    #expect(forming.state == .forming && forming.epoch == 5 && forming.cluster != "c" && formed.state == .formed)
    #expect(try configuration?["bootstrap_expect"] == 1)
  }

  @Test func `a new cluster is not formed while one server of the old one may live`() async throws {
    var fixture = fixture
    fixture.settings.onTotalLoss = .new
    addServer()
    fixture.aws.change("i-0bbb") { ($0.group, $0.state) = (nil, "stopped") }
    put(Self.first, .formed, ["i-0bbb", "i-0ccc"])
    let failure = try #require(try await fixture.failure())
    #expect(failure.message.hasSuffix("i-0bbb neither reachable nor terminated; i-0ccc terminated"))
    #expect(fixture.aws.parameter(Self.second) == nil)
  }

  /// Rule 1 of the design: the record is asked last.
  @Test func `a join makes no call, whatever the record says`() async throws {
    addServer()
    put(Self.first, .formed, ["i-0ccc"])
    _ = FakeConsulAgent(fixture.test, at: "10.0.1.11:8500") { state in
      (state.leader, state.peers) = ("10.0.1.11:8300", ["10.0.1.11:8300"])
    }
    fixture.agent.setCluster([("i-0bbb", "10.0.1.11"), ("i-0aaa", "10.0.1.10")])
    try await fixture.start()
    #expect(calls.isEmpty)
    #expect(try configuration?["bootstrap_expect"] == nil)
  }

  // MARK: Parameter Store away

  @Test func `a claim that AWS refuses is waited for, then status 12`() async throws {
    fixture.aws.refuse("PutParameter", .accessDenied)
    let failure = try #require(try await fixture.failure())
    #expect(failure.status == .awsFailed)
    #expect(failure.message == "cannot write the cluster's record \(Self.first): access denied")
    #expect(fixture.test.clock.uptime() == .seconds(30))
    #expect(fixture.changes.isEmpty)
  }

  @Test func `a claim that AWS refuses at first succeeds later`() async throws {
    fixture.aws.refuse("PutParameter", .accessDenied, times: 3)
    try await fixture.start()
    #expect(try record(Self.second).state == .formed)
  }

  // MARK: Races

  /// An entry is created once: the second server reads, and decides again.
  @Test func `of two groups with one record only one founds`() async throws {
    let other = BootstrapFixture(.systemd)
    var second = other
    second.settings.clusterRecord = "/consul/web"
    second.settings.waitTimeout = .seconds(5)
    try await fixture.start()
    // The other group's instances are others.
    let claimed = fixture.aws.parameter(Self.first)?.replacing("i-0aaa", with: "i-0zzz")
    second.aws.setParameter(Self.first, claimed)
    let failure = try #require(try await second.failure())
    #expect(
      failure.message == "no new cluster was formed in 5.0 s: \(Self.first) names others as the founders: i-0zzz")
  }
}
