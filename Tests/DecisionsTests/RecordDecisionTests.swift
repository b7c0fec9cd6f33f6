import Base
import Consul
import Testing

@testable import Artifacts
@testable import Decisions
@testable import Model

private let path = "/consul/web/cluster"
private let uuid = "11111111-2222-4333-8444-555555555555"

private func server(_ id: String?, _ ip: String = "10.0.1.1") -> ClusterRecord.Server {
  ClusterRecord.Server(instance: id, address: address(ip))
}

private func entry(
  _ state: ClusterRecord.State, _ servers: [String?], number: Int = 1, by: String = "i-1", epoch: Int64 = 1
) -> RecordEntry {
  RecordEntry(
    number: number,
    record: ClusterRecord(
      state, cluster: uuid, epoch: epoch, by: by, at: Timestamp(iso8601: "2026-01-02T03:00:00Z"), datacenter: "dc1",
      servers: servers.map { server($0) }))
}

/// Every state of the record against what is here, for the complete group i-1, i-2 (this one), i-3 without any data.
@Suite struct RecordDecisionTests {
  private static let founders = [server("i-1", "10.0.1.9"), server("i-2", "10.0.1.10"), server("i-3", "10.0.2.100")]

  private func decide(
    _ newest: RecordObservation.Newest, _ standings: [String: RecordObservation.Standing] = [:],
    onTotalLoss: Settings.OnTotalLoss = .refuse, mayClaim: Bool = true, empty: Set<String> = [],
    asked: [String] = ["i-1", "i-3"], assumedDead: Set<String> = []
  ) -> RecordDecision {
    var record = RecordObservation(path: path, newCluster: uuid, mayClaim: mayClaim)
    record.newest = newest
    record.standings = standings
    var settings = Settings()
    settings.onTotalLoss = onTotalLoss
    settings.assumedDead = assumedDead
    let seen = observation()
    let readiness = Readiness(seen.group!, identity: me, settings: settings)
    return RecordDecision(
      record, identity: me, members: readiness.members, asked: asked.map { ($0, empty.contains($0)) }, settings)
  }

  private func claim(_ number: Int, epoch: Int64) -> RecordDecision {
    .claim(number: number, epoch: epoch, founders: Self.founders)
  }

  private static let gone = RecordObservation.Standing.state("terminated")
  private static let running = RecordObservation.Standing.state("running")

  @Test func `without an entry the counted servers claim the first`() {
    #expect(decide(.notRead) == claim(1, epoch: 1))
    #expect(decide(.none) == claim(1, epoch: 1))
  }

  @Test func `a closed record is as none, and counts on`() {
    #expect(decide(.entry(entry(.closed, [], number: 4, epoch: 3))) == claim(5, epoch: 4))
  }

  @Test func `a founder that the entry names founds, and waits for all founders`() {
    let forming = entry(.forming, ["i-1", "i-2", "i-3", "i-4", "i-5"])
    #expect(decide(.entry(forming)) == .found(forming))
    #expect(decide(.entry(forming), ["i-4": .state("stopped"), "i-5": Self.running]) == .found(forming))
  }

  @Test func `a server that the entry does not name waits for its founders`() {
    #expect(
      decide(.entry(entry(.forming, ["i-1", "i-3"])), ["i-1": Self.running])
        == .wait(reason: "\(path)/000001 names others as the founders: i-1, i-3"))
  }

  /// A founder that is gone would be waited for in vain, whether this server is named or not.
  @Test(arguments: [["i-1", "i-2", "i-9"], ["i-1", "i-9"], ["i-8", "i-9"]], [gone, .unknownToEC2])
  func `founders of which one is gone give way to the servers that count now`(
    _ names: [String], _ standing: RecordObservation.Standing
  ) {
    #expect(
      decide(.entry(entry(.forming, names, number: 2)), ["i-9": standing, "i-8": standing]) == claim(3, epoch: 2))
  }

  @Test func `an operator's word for a founder that is dead counts as gone`() {
    #expect(
      decide(.entry(entry(.forming, ["i-2", "i-9"])), ["i-9": .state("stopped")], assumedDead: ["i-9"])
        == claim(2, epoch: 2))
  }

  /// It waits for the number of the entry before, and others that do so may make it up with the one that is gone.
  @Test(arguments: [["i-1", "i-3"], ["i-1", "i-3", "i-8"]])
  func `a living founder that does not count keeps the others from starting again`(_ asked: [String]) {
    #expect(
      decide(
        .entry(entry(.forming, ["i-2", "i-8", "i-9"])), ["i-9": Self.gone, "i-8": Self.running], empty: ["i-8"],
        asked: asked)
        == .wait(reason: "\(path)/000001 names founders that are not terminated and do not count: i-8"))
  }

  @Test(arguments: [ClusterRecord.State.recovering, .restoring])
  func `a recovery is waited for`(_ state: ClusterRecord.State) {
    #expect(
      decide(.entry(entry(state, ["i-1"])))
        == .wait(reason: "\(path)/000001 says that i-1 is \(state.rawValue) the cluster"))
  }

  // MARK: A cluster that was formed

  private func refusal(_ decision: RecordDecision) -> RecordRefusal? {
    if case .refuse(let refusal) = decision { refusal } else { nil }
  }

  @Test(arguments: Settings.OnTotalLoss.allCases)
  func `a formed cluster whose servers may live is never formed again`(_ policy: Settings.OnTotalLoss) throws {
    let formed = entry(.formed, ["i-1", "i-3", "i-8", "i-9"], number: 2)
    let found = try #require(
      refusal(
        decide(
          .entry(formed), ["i-1": Self.running, "i-8": .state("stopped"), "i-9": Self.gone], onTotalLoss: policy,
          empty: ["i-1"])))
    #expect(found.unreachable == ["i-3", "i-8"] && found.empty == ["i-1"] && found.gone == ["i-9"])
    #expect(!found.isTotalLoss)
    var expected = Failure(
      .clusterExisted,
      "/consul/web/cluster/000002 says that a cluster exists, but none answers: "
        + "i-3, i-8 neither reachable nor terminated; i-1 running without the cluster's data; i-9 terminated",
      details: ["cluster \(uuid), epoch 1, last recorded by i-1 at 2026-01-02T03:00:00.000Z"],
      hint: "bring i-3, i-8, i-1 back with their data, or restore a snapshot, or start over, without the old data: "
        + "terminate all of them and set --on-total-loss new, or close the record (docs/operations.md)")
    // The hook waits for a person: an instance in the place of this one would stop for the same reason.
    expected.needsRepair = true
    #expect(found.failure == expected)
  }

  @Test func `all servers gone is refused, or starts over where the option says so`() throws {
    let formed = entry(.formed, ["i-8", "i-9"], number: 7, epoch: 2)
    let standings = ["i-8": Self.gone, "i-9": RecordObservation.Standing.unknownToEC2]
    let found = try #require(refusal(decide(.entry(formed), standings)))
    #expect(found.isTotalLoss && found.gone == ["i-8", "i-9"])
    #expect(
      found.failure.hint
        == "all its servers are terminated: restore a snapshot into a new cluster, "
        + "or start over, without the old data: set --on-total-loss new, or close the record (docs/operations.md)")
    #expect(decide(.entry(formed), standings, onTotalLoss: .new) == claim(8, epoch: 3))
  }

  /// Nothing proves that it is gone: it is no instance that EC2 could be asked about.
  @Test func `a server that is no instance is never gone`() {
    let formed = entry(.formed, [nil])
    #expect(refusal(decide(.entry(formed), onTotalLoss: .new))?.unreachable == ["10.0.1.1"])
  }

  @Test func `nor is a founder that is no instance: it is waited for`() {
    let forming = entry(.forming, ["i-2", nil])
    #expect(decide(.entry(forming)) == .found(forming))
  }

  /// Someone's word is no proof for the data of a whole cluster.
  @Test func `a server that is only assumed dead is not gone`() {
    #expect(
      refusal(decide(.entry(entry(.formed, ["i-9"])), onTotalLoss: .new, assumedDead: ["i-9"]))?.unreachable == ["i-9"])
  }

  // MARK: What this server may do

  @Test func `a sidecar claims nothing, and founds what is claimed`() {
    let forming = entry(.forming, ["i-2"])
    #expect(decide(.entry(forming), mayClaim: false) == .found(forming))
    for newest in [RecordObservation.Newest.notRead, .none, .entry(entry(.closed, []))] {
      #expect(
        decide(newest, mayClaim: false) == .wait(reason: "only a run adds to the cluster's record \(path)"))
    }
  }

  @Test func `a record that is full and one that cannot be read are waited for`() {
    #expect(
      decide(.entry(entry(.closed, [], number: 999_999)))
        == .wait(reason: "the cluster's record \(path) is full: name another one"))
    let failure = Failure(.awsFailed, "no")
    #expect(decide(.unavailable(failure)) == .unavailable(failure))
  }
}

/// The record in the whole decision and in the plan.
@Suite struct RecordPlanTests {
  private func plan(_ newest: RecordObservation.Newest, peers: [String: PeerAnswer] = [:], ownData: Bool = false) throws
    -> Plan
  {
    var settings = Settings()
    settings.clusterRecord = path
    settings.start = .systemd
    let data = DataDirectoryObservation(
      content: ownData ? .init(snapshotNamesThisAddress: nil) : nil,
      raftState: ownData ? .present(evidence: "/opt/consul/raft/raft.db") : .none, isMount: false)
    var seen = observation(machine(data: data, recorded: "i-2", systemd: true), peers: peers)
    seen.record = RecordObservation(path: path, newCluster: uuid)
    seen.record?.newest = newest
    return try Plan(seen, settings)
  }

  private static let silent: [String: PeerAnswer] = ["10.0.1.9": .refused, "10.0.2.100": .refused]

  private func recordSteps(_ plan: Plan) -> [Step] {
    plan.steps.all.filter {
      switch $0 {
      case .claimRecord, .recordFormed: true
      default: false
      }
    }
  }

  @Test func `a first boot claims before it changes anything, and records the cluster once it is healthy`() throws {
    let plan = try plan(.notRead, peers: Self.silent)
    let servers =
      #""servers":[{"address":"10.0.1.9","instance":"i-1"},{"address":"10.0.1.10","instance":"i-2"},"#
      + #"{"address":"10.0.2.100","instance":"i-3"}],"#
    func text(_ state: String) -> String {
      #"{"at":"2026-01-02T03:04:05.000Z","by":"i-2","cluster":"\#(uuid)","datacenter":"dc1","epoch":1,\#(servers)"#
        + #""state":"\#(state)"}"#
    }
    #expect(plan.steps.prepare.first == .claimRecord(parameter: "\(path)/000001", text: text("forming")))
    #expect(plan.claim == plan.steps.prepare.first)
    let entry = try ClusterRecord(parsing: text("forming"))
    #expect(
      plan.steps.prepare[1]
        == .writeFile(
          path: "/var/lib/consul-bootstrap/cluster-record.json",
          text: RememberedRecord(entry: RecordEntry(number: 1, record: entry)).text))
    #expect(plan.steps.after.last == .recordFormed(parameter: "\(path)/000002", text: text("formed")))
    #expect(plan.configuration.document["bootstrap_expect"] == 3)
  }

  /// Five booted, the record names three: all three wait for three.
  @Test func `the record's founders are bootstrap_expect`() throws {
    let plan = try plan(.entry(entry(.forming, ["i-1", "i-2"], by: "i-1")), peers: Self.silent)
    #expect(plan.configuration.document["bootstrap_expect"] == 2)
    #expect(recordSteps(plan).isEmpty)
    #expect(plan.decision.evidence.last == "the cluster's record names this server among 2 founders")
  }

  @Test func `a founder remembers the entry that another server has claimed`() throws {
    let entry = entry(.forming, ["i-1", "i-2"], by: "i-1")
    let plan = try plan(.entry(entry), peers: Self.silent)
    guard case .writeFile("/var/lib/consul-bootstrap/cluster-record.json", let text) = plan.steps.prepare[0] else {
      Issue.record("\(plan.steps.prepare[0])")
      return
    }
    #expect(try RememberedRecord(parsing: Array(text.utf8)) == RememberedRecord(entry: entry))
  }

  /// It would make the data of the new cluster look foreign, and be renamed once more.
  @Test func `a name of a cluster without its data is renamed`() throws {
    let path = "/var/lib/consul-bootstrap/cluster.json"
    func renames(_ data: RaftState, _ change: (inout Observation) -> Void = { _ in }) throws -> Bool {
      let content = data == .none ? nil : DataDirectoryObservation.Content(snapshotNamesThisAddress: nil)
      var machine = machine(data: .init(content: content, raftState: data, isMount: false), recorded: "i-2")
      machine.namesCluster = true
      var seen = observation(machine, peers: Self.silent)
      change(&seen)
      return try Plan(seen, Settings()).steps.prepare.contains(
        .rename(
          path, to: "\(path).stale.20260102T030405Z", reason: "this server has no data of the cluster that it names"))
    }
    #expect(try renames(.none))
    #expect(try !renames(.none) { $0.machine.namesCluster = false })
    #expect(try !renames(.present(evidence: "raft")) && !renames(.unknown(reason: "busy")))
    // The data is another machine's, or of a server that was removed: it is renamed as well.
    #expect(try renames(.present(evidence: "raft")) { $0.machine.recordedInstanceID = "i-9" })
    #expect(
      try renames(.present(evidence: "raft")) {
        $0.peers = [address("10.0.1.9"): status("10.0.1.9:8300", ["10.0.1.9:8300"])]
      })
  }

  /// The second run after a crash between the claim and the start.
  @Test func `a server that has claimed the record before records the cluster, too`() throws {
    let plan = try plan(.entry(entry(.forming, ["i-1", "i-2"], number: 3, by: "i-2")), peers: Self.silent)
    #expect(plan.claim == nil)
    guard case .recordFormed("\(path)/000004", _)? = recordSteps(plan).first else {
      Issue.record("\(recordSteps(plan))")
      return
    }
  }

  @Test func `a join, a rejoin and a wait leave the record alone`() throws {
    let leader = ["10.0.1.9": status("10.0.1.9:8300", ["10.0.1.9:8300"])]
    for plan in [
      try plan(.notRead, peers: leader), try plan(.notRead, peers: Self.silent, ownData: true),
      try plan(.entry(entry(.formed, ["i-9"])), peers: Self.silent),
    ] {
      #expect(recordSteps(plan).isEmpty && plan.configuration.document["bootstrap_expect"] == nil)
    }
  }

  /// Whatever the record says, a server that has data or a leader is asked first.
  @Test func `a formed record keeps no server from a living cluster`() throws {
    let formed = RecordObservation.Newest.entry(entry(.formed, ["i-9"]))
    #expect(try plan(formed, peers: ["10.0.1.9": status("10.0.1.9:8300", ["10.0.1.9:8300"])]).decision.name == "join")
    #expect(try plan(formed, ownData: true).decision.name == "rejoin")
  }

  @Test func `more servers than a parameter holds are refused before anything is written`() throws {
    let servers = (0..<80).map { server("i-0123456789abcde\($0)", "10.0.1.\($0)") }
    let record = ClusterRecord(
      .forming, cluster: uuid, epoch: 1, by: "i-1", at: Timestamp(milliseconds: 0), datacenter: "dc1", servers: servers)
    #expect(throws: Failure.self) { _ = try record.text() }
  }
}

/// The text of an entry: what this program writes, what an operator may write, and what is neither.
@Suite struct ClusterRecordTests {
  @Test(arguments: ClusterRecord.State.allCases)
  func `an entry is read as it was written`(_ state: ClusterRecord.State) throws {
    let record = ClusterRecord(
      state, cluster: uuid, epoch: 2, by: "i-1", at: Timestamp(milliseconds: 1_700_000_000_123), datacenter: "dc1",
      servers: [server("i-1"), server(nil, "10.0.0.2")], index: 12, why: "„quoted“ \"text\"")
    #expect(try ClusterRecord(parsing: try record.text()) == record)
  }

  /// `aws ssm put-parameter --value '{"state":"closed"}'`
  @Test func `an operator closes a record with one word`() throws {
    let record = try ClusterRecord(parsing: #"{"state": "closed"}"#)
    #expect(record.state == .closed && record.servers.isEmpty && record.epoch == 0)
    #expect(try ClusterRecord(parsing: #"{"state":"closed","why":"stack deleted"}"#).why == "stack deleted")
  }

  private static let valid =
    #"{"state":"formed","cluster":"c","epoch":1,"by":"i-1","at":"2026-01-02T03:04:05Z","#
    + #""servers":[{"address":"10.0.0.1"}]}"#

  @Test(arguments: [
    ("", "it is not JSON"), ("null", "it has no state"), ("[]", "it has no state"), ("{}", "it has no state"),
    (#"{"state":"abandoned"}"#, "its state abandoned is not known"), (#"{"state":7}"#, "its state is not plain text"),
    (#"{"state":"formed"}"#, "it has no cluster or no epoch"),
    (valid.replacing("\"epoch\":1", with: "\"epoch\":-1"), "its epoch is not a number from 0"),
    (valid.replacing("\"epoch\":1", with: "\"epoch\":1e30"), "its epoch is not a number from 0"),
    (valid.replacing("10.0.0.1", with: "::1"), "a server of it has no IPv4 address"),
    (valid.replacing(#"[{"address":"10.0.0.1"}]"#, with: "{}"), "its servers are not a list"),
    (valid.replacing(#"[{"address":"10.0.0.1"}]"#, with: "[]"), "it names no servers"),
    (valid.replacing(#"{"address":"10.0.0.1"}"#, with: "3"), "a server of it has no IPv4 address"),
    (valid.replacing("2026-01-02T03:04:05Z", with: "yesterday"), "its at is not a time in ISO 8601"),
    (valid.replacing("i-1", with: "\\u001b[31m"), "its by is not plain text"),
    (valid.replacing(#""by":"i-1","#, with: ""), "it does not say by which instance it is, and when"),
  ])
  func `an entry that is not understood is an error, never no entry`(_ text: String, _ reason: String) {
    #expect(throws: ClusterRecord.Malformed(explanation: reason)) { _ = try ClusterRecord(parsing: text) }
  }

  @Test func `an entry longer than a parameter is not parsed`() {
    let text = #"{"state":"closed","why":""# + String(repeating: "x", count: 4096) + #""}"#
    #expect(throws: ClusterRecord.Malformed(explanation: "it has more than 4096 bytes")) {
      _ = try ClusterRecord(parsing: text)
    }
  }

  @Test func `the name of an entry is six digits`() {
    #expect(RecordEntry.name(1) == "000001" && RecordEntry.name(999_999) == "999999")
    #expect(RecordEntry.number(of: "000042") == 42)
    for name in ["", "1", "000000", "0000001", "00001x", "+00001", "٠٠٠٠٠١", "outage"] {
      #expect(RecordEntry.number(of: name) == nil, "\(name)")
    }
  }
}
