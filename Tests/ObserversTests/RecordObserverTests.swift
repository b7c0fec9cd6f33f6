import AWS
import Base
import Decisions
import TestSupport
import Testing

@testable import Model
@testable import Observers

/// The record of a cluster as Parameter Store and EC2 show it.
@Suite(.timeLimit(.minutes(5))) struct RecordObserverTests {
  private static let path = "/consul/web"
  private static let uuid = "11111111-2222-4333-8444-555555555555"
  private let flow = Flow()

  private func put(_ number: Int, _ state: ClusterRecord.State, _ servers: [String], age: Duration = .seconds(3600)) {
    let record = ClusterRecord(
      state, cluster: Self.uuid, epoch: 1, by: "i-1", at: flow.context.clock.wall() + (.zero - age), datacenter: "dc1",
      servers: servers.map { .init(instance: $0, address: address("10.0.1.1")) })
    flow.aws.setParameter("\(Self.path)/\(RecordEntry.name(number))", record.json.compactText)
  }

  private func observe() async throws -> RecordObservation {
    let client = flow.aws.client().withoutRetries()
    let group = try await GroupObserver(membership: .groups(["web"]), addressing: .primary, client: client).observe(
      flow.identity, groupName: nil)
    return try await RecordObserver(context: flow.context.context, client: client).observe(
      RecordObservation(path: Self.path, newCluster: Self.uuid), group, flow.identity)
  }

  private var calls: [String] {
    flow.aws.calls.filter { $0.service == "SSM" }.map { "\($0.action) \($0.parameters["Name"] ?? "")" }
  }

  @Test func `a record without entries is none`() async throws {
    #expect(try await observe().newest == .none)
    #expect(calls == ["GetParametersByPath ", "GetParameter /consul/web/000001"])
    // A policy for PATH/* covers a path with a slash at its end only.
    #expect(flow.aws.calls("GetParametersByPath")[0].parameters["Path"] == "/consul/web/")
  }

  @Test func `the highest number of many pages is the newest`() async throws {
    for number in 1...25 { put(number, .formed, ["i-1"]) }
    put(26, .closed, [])
    flow.aws.setParameter("/consul/web/eu-west-1a/000099", "another datacenter's")
    flow.aws.setParameter("/consul/web/readme", "not an entry")
    guard case .entry(let entry) = try await observe().newest else {
      Issue.record("no entry")
      return
    }
    #expect(entry.number == 26 && entry.record.state == .closed)
    #expect(calls.filter { $0.hasPrefix("GetParametersByPath") }.count == 3)
  }

  /// The list is eventually consistent.
  @Test func `entries that follow the list are read one by one`() async throws {
    put(3, .formed, ["i-1"])
    flow.aws.refuse("GetParametersByPath", .init(status: 500, code: "InternalServerError"), times: 1)
    #expect(try await observe().newest != .none)
    for number in 1...2 { put(number, .forming, ["i-1"]) }
    guard case .entry(let entry) = try await observe().newest else {
      Issue.record("no entry")
      return
    }
    #expect(entry.number == 3 && calls.last == "GetParameter /consul/web/000004")
  }

  /// The second server of a first boot: one call after the one that it lost.
  @Test func `a forming entry that names this server needs one call`() async throws {
    put(1, .forming, ["i-1", "i-2", "i-3"])
    let seen = try await observe()
    #expect(calls == ["GetParametersByPath "])
    #expect(seen.standings == ["i-1": .state("running"), "i-2": .state("running"), "i-3": .state("running")])
    #expect(flow.aws.calls("DescribeInstances").count == 1)
  }

  @Test(arguments: ["forming", #"{"state":"abandoned"}"#, #"{"state":"formed"}"#])
  func `a newest entry that is not understood is status 14, never none`(_ text: String) async throws {
    put(1, .closed, [])
    flow.aws.setParameter("/consul/web/000002", text)
    let failed = await failure { _ = try await observe() }
    #expect(failed?.status == .configurationRejected)
    #expect(
      failed?.message == "/consul/web/000002 is no entry of a cluster's record that this version understands")
    put(3, .closed, [])
    #expect(try await observe().newest != .none)
  }

  @Test(arguments: ["2", "00002", "0000002", "000000"])
  func `a number of another form is an error: it was meant as an entry`(_ name: String) async throws {
    put(1, .formed, ["i-1"])
    flow.aws.setParameter("/consul/web/\(name)", #"{"state":"closed"}"#)
    let failed = await failure { _ = try await observe() }
    #expect(failed?.details == ["an entry's number has six digits, from 000001"])
  }

  @Test(arguments: ["GetParametersByPath", "GetParameter"])
  func `a record that cannot be read is unavailable with status 12, never none`(_ action: String) async throws {
    put(1, .formed, ["i-1"])
    flow.aws.refuse(action, .accessDenied)
    guard case .unavailable(let failure) = try await observe().newest else {
      Issue.record("available")
      return
    }
    #expect(failure.status == .awsFailed)
    #expect(failure.message == "cannot read the cluster's record /consul/web: access denied")
    #expect(failure.hint == "allow ssm:\(action) for role web-node")
  }

  // MARK: The servers that it names

  @Test func `EC2 is asked about named servers that the group does not list`() async throws {
    flow.aws.setInstances(
      Flow.three + [
        FakeInstance("i-7", ip: nil, group: nil, state: "terminated"),
        FakeInstance("i-8", ip: "10.0.1.88", group: nil, state: "stopped"),
      ])
    put(1, .formed, ["i-1", "i-7", "i-8", "i-9"])
    let seen = try await observe()
    #expect(
      seen.standings
        == ["i-1": .state("running"), "i-7": .state("terminated"), "i-8": .state("stopped"), "i-9": .unknownToEC2])
    #expect(seen.standings.filter(\.value.isGone).keys.sorted() == ["i-7", "i-9"])
  }

  /// EC2's answers are eventually consistent: an instance may be too new for them.
  @Test func `a server that EC2 does not know is not gone while its entry is young`() async throws {
    put(1, .formed, ["i-9"], age: .seconds(299))
    #expect(try await observe().standings.isEmpty)
    put(1, .formed, ["i-9"], age: .seconds(300))
    #expect(try await observe().standings == ["i-9": .unknownToEC2])
  }

  /// An answer of another region or account.
  @Test func `a server is not gone for an EC2 that does not know this instance either`() async throws {
    put(1, .formed, ["i-9"])
    flow.aws.setInstances(
      Flow.three.map { instance in
        var instance = instance
        instance.isInEC2 = instance.id != "i-2"
        return instance
      })
    #expect(try await observe().standings.isEmpty)
  }

  @Test func `without an answer of EC2 no server is gone`() async throws {
    put(1, .formed, ["i-9"])
    let client = flow.aws.client().withoutRetries()
    flow.aws.refuse("DescribeInstances", .accessDenied)
    let seen = try await RecordObserver(context: flow.context.context, client: client).observe(
      RecordObservation(path: Self.path, newCluster: Self.uuid), nil, flow.identity)
    #expect(seen.standings.isEmpty && seen.newest != .none)
    #expect(flow.lines.count == 1 && flow.lines[0].hasPrefix("warning cannot ask EC2 about the servers"))
  }
}

/// The wait of a boot that would form a new cluster, for what its record says.
@Suite(.timeLimit(.minutes(5))) struct RecordWaitTests {
  private var flow = Flow()

  init() {
    flow.settings.clusterRecord = "/consul/web"
    flow.settings.waitTimeout = .seconds(60)
  }

  private func wait() async throws -> Observation {
    var first = flow.observation()
    first.record = RecordObservation(path: "/consul/web", newCluster: "c")
    return try await flow.waiter.wait(first, waits: true, rejoins: false)
  }

  private func put(_ number: Int, _ state: String, _ servers: [String]) {
    let list = servers.map { #"{"instance":"\#($0)","address":"10.0.9.9"}"# }.joined(separator: ",")
    flow.aws.setParameter(
      "/consul/web/00000\(number)",
      #"{"state":"\#(state)","cluster":"c","epoch":1,"by":"i-1","at":"2020-01-01T00:00:00Z","servers":[\#(list)]}"#)
  }

  @Test func `a cluster that was formed and does not answer is status 18 at the time-out`() async throws {
    put(1, "formed", ["i-1", "i-2", "i-3"])
    _ = flow.agent("10.0.1.9")
    let failed = await failure { _ = try await wait() }
    #expect(failed?.status == .clusterExisted)
    #expect(
      failed?.message
        == "/consul/web/000001 says that a cluster exists, but none answers: "
        + "i-2, i-3 neither reachable nor terminated; i-1 running without the cluster's data")
    #expect(flow.elapsed == .seconds(60))
  }

  @Test func `a cluster whose servers are all terminated is status 18 at once`() async throws {
    put(1, "formed", ["i-8", "i-9"])
    let failed = await failure { _ = try await wait() }
    #expect(failed?.status == .clusterExisted && flow.elapsed == .zero)
    #expect(failed?.message.hasSuffix("none answers: i-8, i-9 terminated") == true)
  }

  @Test func `a server of the cluster that comes back ends the wait`() async throws {
    put(1, "formed", ["i-1"])
    let waiting = Task { try await wait() }
    _ = try await flow.log.record(containing: "says that a cluster exists")
    flow.agent("10.0.1.9", leader: "10.0.1.9:8300", peers: ["10.0.1.9:8300"])
    #expect(try await waiting.value.peers.values.contains { if case .status = $0 { true } else { false } })
  }

  @Test func `a record that cannot be read is waited for, then status 12 with the cause`() async throws {
    flow.aws.refuse("GetParametersByPath", .accessDenied)
    let failed = await failure { _ = try await wait() }
    #expect(failed?.status == .awsFailed && flow.elapsed == .seconds(60))
    #expect(failed?.message == "cannot read the cluster's record /consul/web: access denied")
    #expect(
      flow.log.progress.contains { $0.message.hasPrefix("waiting for the cluster's record: cannot read") })
  }

  @Test func `a server that the founders do not name waits for them, and names them at the end`() async throws {
    put(1, "forming", ["i-1", "i-3"])
    let failed = await failure { _ = try await wait() }
    #expect(failed?.status == .groupIncomplete)
    #expect(
      failed?.message
        == "no new cluster was formed in 60 s: /consul/web/000001 names others as the founders: i-1, i-3")
  }

  /// A join needs no record, also while SSM is away.
  @Test func `a server that reports a leader is joined without a call`() async throws {
    flow.aws.refuse("GetParametersByPath", .accessDenied)
    flow.agent("10.0.1.9", leader: "10.0.1.9:8300", peers: ["10.0.1.9:8300"])
    _ = try await wait()
    #expect(!flow.aws.calls.contains { $0.service == "SSM" } && flow.elapsed == .zero)
  }
}
