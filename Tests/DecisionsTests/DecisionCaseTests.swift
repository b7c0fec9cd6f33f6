import Artifacts
import Consul
import Foundation
import Testing

@testable import Base
@testable import Decisions
@testable import Model

/// The situations of `Tests/Fixtures/decisions`, each with the right result: what one server must decide, or all of
/// them. A key of a case or of its result that this suite does not know fails.
@Suite struct DecisionCaseTests {
  private static let directory = URL(filePath: #filePath).deletingLastPathComponent().appending(
    path: "../Fixtures/decisions")
  /// Empty if the directory cannot be read.
  private static let names =
    FileManager.default.enumerator(atPath: directory.path)?.compactMap { $0 as? String }
    .filter { $0.hasSuffix(".json") }.sorted() ?? []

  /// One situation.
  private struct Case {
    let json: JSONValue
    let instances: [JSONValue]

    init(_ name: String) throws {
      json = try JSONValue(parsing: Array(try Data(contentsOf: DecisionCaseTests.directory.appending(path: name))))
      instances = json["instances"]?.array ?? []
      let known: Set = ["what", "self", "desired", "arguments", "instances", "right", "own_data"]
      let keys = json.object.map { Set($0.keys) } ?? []
      #expect(keys.isSubset(of: known), "\(name)")
    }

    private func text(_ value: JSONValue, _ key: String) throws -> String { try #require(value[key]?.string, "\(key)") }

    var settings: Settings {
      var settings = Settings(), arguments = (json["arguments"]?.array ?? []).compactMap(\.string)[...]
      while let option = arguments.popFirst(), let value = arguments.popFirst() {
        switch option {
        case "--expect": settings.expect = Int(value)
        case "--lifecycle-hook": settings.lifecycleHook = value
        default: Issue.record("unknown option \(option)")
        }
      }
      settings.start = .systemd
      return settings
    }

    /// `silent` is a server that starts: no agent runs on it yet.
    private func answer(_ text: String) throws -> PeerAnswer {
      if ["silent", "connection refused"].contains(text) { return .refused }
      if text == "no answer" { return .unknown(reason: text) }
      let pattern = /(?:no leader|leader (.+?:\d+)), (?:(\d+) raft peers|raft peers (.+))/
      let match = try #require(text.wholeMatch(of: pattern), "\(text)")
      let peers =
        match.3.map { $0.split(separator: ", ").map { "\($0):8300" } }
        ?? (1...(Int(match.2 ?? "") ?? 0)).map { "10.0.1.\($0):8300" }
      return .status(ClusterStatus(leader: match.1.map(String.init), peers: peers))
    }

    /// What one of the servers sees; by default the one that the case is about.
    func observation(from own: String? = nil) throws -> Observation {
      let own = try own ?? text(json, "self")
      var members: [Instance] = [], answers: [String: PeerAnswer] = [:], identity = me
      for instance in instances {
        let id = try text(instance, "id"), ip = try text(instance, "address"), zone = try text(instance, "zone")
        members.append(
          DecisionsTests.instance(
            id, ip, lifecycle: try text(instance, "lifecycle"), state: try text(instance, "instance_state"),
            zone: zone, weight: instance["weight"]?.integer.flatMap { Int(exactly: $0) }))
        if id == own {
          identity = Identity(
            instanceID: id, region: "eu-west-1", availabilityZone: zone, privateIP: address(ip), vpcID: "vpc-1")
        } else {
          answers[ip] = try answer(text(instance, "agent"))
        }
      }
      var data = DataDirectoryObservation(content: nil, raftState: .none, isMount: false)
      if json["own_data"]?.string?.hasPrefix("raft, voters ") == true {
        data = .init(
          content: .init(snapshotNamesThisAddress: nil), raftState: .present(evidence: "raft.db"), isMount: false)
      }
      var seen = DecisionsTests.observation(
        machine(data: data, recorded: own, systemd: true), members: members,
        desired: json["desired"]?.integer.flatMap { Int(exactly: $0) }, peers: answers)
      seen.identity = identity
      return seen
    }
  }

  private func name(_ decision: ClusterDecision) -> String {
    switch decision {
    case .wait(.election, _): "wait for recovery"
    case .stayInWarmPool: "nothing"
    default: decision.name
    }
  }

  @Test func `there are situations`() { #expect(!Self.names.isEmpty) }

  @Test(arguments: names) func `a situation has the right result`(_ file: String) throws {
    let situation = try Case(file), settings = situation.settings
    let plan = try Plan(try situation.observation(), settings)
    let expect = plan.configuration.document["bootstrap_expect"]
    let right = try #require(situation.json["right"]?.object)
    for (key, value) in right {
      switch (key, value) {
      case ("decision", .string(let decision)): #expect(name(plan.decision) == decision)
      case ("bootstrap_expect", .null): #expect(expect == nil)
      case ("bootstrap_expect", .integer): #expect(expect == value)
      case ("bootstrap_expect", "the same number on all five"):
        let numbers = try situation.instances.map { instance in
          let seen = try situation.observation(from: instance["id"]?.string)
          return try Plan(seen, settings).configuration.document["bootstrap_expect"]?.integer
        }
        #expect(numbers == [5, 5, 5, 5, 5])
      case ("expected", .integer(let number)): #expect(plan.readiness?.expected == Int(number))
      case ("joins", .array(let servers)):
        guard case .join(let through, _) = plan.decision else {
          Issue.record("\(plan.decision)")
          continue
        }
        #expect(through.map(\.description) == servers.compactMap(\.string))
      case ("names", .array(let servers)):
        #expect(plan.decision == .wait(.unknownServers(servers.compactMap(\.string)), evidence: plan.decision.evidence))
      case ("own data", "renamed with a date"):
        let target = "/opt/consul/raft.removed.20260102T030405Z"
        #expect(
          plan.steps.prepare.contains { if case .rename("/opt/consul/raft", target, _) = $0 { true } else { false } })
      case ("written", "nothing"):
        #expect(plan.steps.prepare + plan.steps.start + plan.steps.verify == [])
      case ("hook", "CONTINUE"): #expect(plan.steps.after == [.completeLifecycleAction(hook: "launching")])
      case ("status", 0): #expect(plan.obstacle == nil)
      // A wait that ends (UnknownServerTests), and the writes of a living cluster meanwhile (test_return.py).
      case ("status at the time-out", 13), ("leadership lost by the others", 0): break
      default: Issue.record("\(key) of \(file) is not known: \(value)")
      }
    }
    #expect(!right.isEmpty)
  }

  /// The survivor's cluster is never replaced, also once its servers have waited long enough for an election.
  @Test func `a survivor without a leader is joined, not founded beside`() throws {
    var seen = try Case("survivor-without-leader.json").observation()
    seen.leaderWaitIsOver = true
    let plan = try Plan(seen, Settings())
    #expect(plan.decision.name == "join without a leader" && plan.configuration.document["bootstrap_expect"] == nil)
  }
}
