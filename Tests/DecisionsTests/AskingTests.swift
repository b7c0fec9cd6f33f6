import Artifacts
import Base
import Consul
import Testing

@testable import Decisions
@testable import Model

/// Every instance that may hold a cluster's data is asked, whatever AWS says about it; what does not answer is unknown.
struct AskingTests {
  /// i-2 is this instance, 10.0.1.10.
  private func decide(
    _ others: [Instance], desired: Int? = 3, expect: Int? = nil, assumedDead: Set<String> = [],
    own: [Instance] = [instance("i-2", "10.0.1.10")], _ answers: [String: PeerAnswer]
  ) -> ClusterDecision {
    var settings = Settings()
    settings.expect = expect
    settings.assumedDead = assumedDead
    let seen = observation(members: own + others, desired: desired, peers: answers)
    return ClusterDecision(
      seen, seen.group.map { Readiness($0, identity: me, settings: settings) }, keepsData: true, settings)
  }

  private func servers(_ numbers: ClosedRange<Int>, lifecycle: String? = "InService", state: String = "running")
    -> [Instance]
  {
    numbers.map { instance("i-\($0)0", "10.0.2.\($0)", lifecycle: lifecycle, state: state) }
  }

  private func answers(_ numbers: ClosedRange<Int>, _ answer: PeerAnswer) -> [String: PeerAnswer] {
    Dictionary(uniqueKeysWithValues: numbers.map { ("10.0.2.\($0)", answer) })
  }

  private let noAnswer = PeerAnswer.unknown(reason: "no connection in time")
  private let old = status("10.0.2.7:8300", ["10.0.2.7:8300", "10.0.2.8:8300", "10.0.2.9:8300"])

  // MARK: Instances that do not count

  @Test(arguments: [
    "Standby", "EnteringStandby", "Detaching", "Terminating", "Terminating:Wait", "Terminating:Proceed", "Quarantined",
  ])
  func `a cluster whose servers do not count is joined`(_ lifecycle: String) {
    let others = servers(1...2) + servers(7...9, lifecycle: lifecycle)
    let decision = decide(others, answers(1...2, .refused).merging(answers(7...9, old)) { first, _ in first })
    guard case .join(let through, let evidence) = decision else {
      Issue.record("\(decision)")
      return
    }
    #expect(through == [address("10.0.2.7"), address("10.0.2.8"), address("10.0.2.9")])
    #expect(
      evidence.last == "10.0.2.9 (i-90, lifecycle state \(lifecycle)): leader 10.0.2.7:8300, 3 raft peers")
    let settings = Settings()
    let readiness = Readiness(
      observation(members: [instance("i-2", "10.0.1.10")] + others).group!, identity: me, settings: settings)
    let joined = selectPeers(.all, decision: decision, readiness: readiness, identity: me).map(\.description)
    #expect(joined == ["10.0.2.1", "10.0.2.2", "10.0.2.7", "10.0.2.8", "10.0.2.9"])
    #expect(selectPeers(.leader, decision: decision, readiness: readiness, identity: me) == [address("10.0.2.7")])
  }

  @Test(arguments: [PeerAnswer.refused, .unknown(reason: "no connection in time")])
  func `one that does not count and may hold data blocks a new cluster until it is gone`(_ answer: PeerAnswer) {
    let fresh = answers(1...2, .refused)
    let held = servers(7...7, lifecycle: "Terminating:Wait")
    #expect(
      decide(servers(1...2) + held, fresh.merging(answers(7...7, answer)) { first, _ in first })
        == .wait(
          .unknownServers(["i-70 (lifecycle state Terminating:Wait)"]),
          evidence: [
            "10.0.2.1 (i-10): no agent runs", "10.0.2.2 (i-20): no agent runs",
            "10.0.2.7 (i-70, lifecycle state Terminating:Wait): "
              + (answer == .refused ? "no agent runs" : "unknown, no connection in time"),
          ]))
    let gone = servers(7...7, lifecycle: "Terminating:Proceed", state: "terminated")
    #expect(decide(servers(1...2) + gone, fresh).name == "new cluster")
    #expect(decide(servers(1...2) + held, assumedDead: ["i-70"], fresh).name == "new cluster")
    // An empty server holds nothing.
    let empty = answers(7...7, .status(ClusterStatus(leader: nil, peers: [], lastLog: .init(term: 0, index: 0))))
    #expect(decide(servers(1...2) + held, fresh.merging(empty) { first, _ in first }).name == "new cluster")
  }

  @Test func `stopped instances with the tag may come back with their data`() {
    let others = servers(1...2, lifecycle: nil) + servers(7...9, lifecycle: nil, state: "stopped")
    let own = [instance("i-2", "10.0.1.10", lifecycle: nil)]
    #expect(
      decide(others, desired: nil, expect: 3, own: own, answers(1...2, .refused))
        == .wait(
          .unknownServers((7...9).map { "i-\($0)0 (instance state stopped)" }),
          evidence: ["10.0.2.1 (i-10): no agent runs", "10.0.2.2 (i-20): no agent runs"]
            + (7...9).map { "i-\($0)0 (instance state stopped): unknown, it cannot be asked" }))
  }

  @Test func `an assumed death does not hide a cluster that answers`() {
    let decision = decide(
      servers(1...2) + servers(7...7, lifecycle: "Standby"), assumedDead: ["i-70"],
      answers(1...2, .refused).merging(answers(7...7, old)) { first, _ in first })
    #expect(decision.name == "join")
  }

  @Test func `a warm pool holds nothing, unless it answers that it does`() {
    let pool = [
      instance("i-80", "10.0.2.8", lifecycle: "Warmed:Stopped", state: "stopped"),
      instance("i-90", "10.0.2.9", lifecycle: "Warmed:Running"),
    ]
    #expect(decide(servers(1...2) + pool, answers(1...2, .refused)).name == "new cluster")
    let refused = answers(1...2, .refused).merging(answers(9...9, .refused)) { first, _ in first }
    #expect(decide(servers(1...2) + pool, refused).name == "new cluster")
    #expect(
      decide(servers(1...2) + pool, answers(1...2, .refused).merging(answers(9...9, old)) { first, _ in first }).name
        == "join")
  }

  @Test func `an instance that its group no longer lists is asked`() {
    let detached = instance("i-70", "10.0.2.7", lifecycle: nil, isListed: false)
    let text = "i-70 (no longer listed by its group, instance state running)"
    guard case .wait(let reason, _) = decide(servers(1...2) + [detached], answers(1...2, .refused)) else {
      Issue.record("no wait")
      return
    }
    #expect(reason == .unknownServers([text]))
    #expect(
      reason.text == "not known whether \(text) has a cluster's data")
  }

  @Test func `a new instance without an address, and one of another network, are not asked`() {
    let others =
      servers(1...2) + [
        instance("i-7", nil, lifecycle: "Pending", state: "pending"),
        instance("i-8", nil, lifecycle: "Pending", state: nil),
        instance("i-9", "10.9.0.1", vpc: "vpc-2"),
      ]
    #expect(decide(others, answers(1...2, .refused)).name == "new cluster")
    // In service and unknown to EC2, or on its way to a stop: neither is new.
    for old in [instance("i-9", nil, state: nil), instance("i-9", nil, lifecycle: "Pending", state: "stopping")] {
      guard case .wait = decide(servers(1...2) + [old], answers(1...2, .refused)) else {
        Issue.record("no wait for \(old)")
        continue
      }
    }
  }

  // MARK: More than are expected

  @Test func `bootstrap_expect is the number of all that count`() {
    #expect(
      decide(servers(1...4), desired: 5, expect: 3, answers(1...4, .refused))
        == .newCluster(expect: 5, evidence: (1...4).map { "10.0.2.\($0) (i-\($0)0): no agent runs" }))
    // As many as are expected: Consul's own bootstrap waits for all of them, and asks them.
    #expect(decide(servers(1...2), answers(1...2, noAnswer)).name == "new cluster")
  }

  @Test func `of more than are expected each must be known`() {
    let some = answers(1...2, .refused).merging(answers(3...4, noAnswer)) { first, _ in first }
    guard case .wait(let reason, _) = decide(servers(1...4), desired: 5, expect: 3, some) else {
      Issue.record("no wait")
      return
    }
    #expect(reason == .unknownServers(["i-30", "i-40"]))
    #expect(reason.text == "not known whether i-30, i-40 have a cluster's data")
    #expect(decide(servers(1...4), desired: 5, expect: 3, assumedDead: ["i-30", "i-40"], some).name == "new cluster")
  }

  // MARK: Two clusters, and data of this server

  @Test func `two clusters are neither joined nor outnumbered`() {
    let new = status("10.0.2.1:8300", ["10.0.2.1:8300", "10.0.2.2:8300"])
    let decision = decide(servers(1...2), ["10.0.2.1": new, "10.0.2.2": old])
    #expect(
      decision
        == .wait(
          .twoClusters(["i-10, leader 10.0.2.1:8300, 2 raft peers", "i-20, leader 10.0.2.7:8300, 3 raft peers"]),
          evidence: decision.evidence))
    // While a configuration changes, it still shares servers with the one before.
    let grown = status("10.0.2.1:8300", ["10.0.2.1:8300", "10.0.2.2:8300", "10.0.1.10:8300"])
    #expect(decide(servers(1...2), ["10.0.2.1": new, "10.0.2.2": grown]).name == "join")
  }

  @Test func `a log without peers or leader is a survivor's`() {
    let survivor = PeerAnswer.status(ClusterStatus(leader: nil, peers: [], lastLog: .init(term: 3, index: 12)))
    guard case .wait(.election, _) = decide(servers(1...2), ["10.0.2.1": survivor, "10.0.2.2": .refused]) else {
      Issue.record("no wait")
      return
    }
  }

  @Test func `a removed server renames its raft data and joins`() throws {
    let data = DataDirectoryObservation(
      content: .init(snapshotNamesThisAddress: nil), raftState: .present(evidence: "/opt/consul/raft/raft.db"),
      isMount: false)
    let living = status("10.0.1.9:8300", ["10.0.1.9:8300", "10.0.2.100:8300"])
    for running in [false, true] {
      var seen = observation(
        machine(
          data: data, recorded: "i-2", running: running, systemd: true,
          configuration: CurrentConfiguration(.present(Secret("{}")))),
        peers: ["10.0.1.9": living, "10.0.2.100": living])
      let plan = try Plan(seen, Settings())
      #expect(plan.decision.name == "join" && plan.configuration.document["bootstrap_expect"] == nil)
      let titles = plan.steps.prepare.map(\.title)
      let rename =
        "rename /opt/consul/raft to /opt/consul/raft.removed.20260102T030405Z (the raft configuration that 10.0.1.9 "
        + "reports does not name this server: 10.0.1.9:8300, 10.0.2.100:8300)"
      #expect(titles.first == (running ? "stop the agent, whose data is renamed" : rename))
      #expect(!plan.steps.start.contains { if case .reloadAgent = $0 { true } else { false } })
      #expect(titles.contains(rename) && plan.warnings.contains { $0.hasPrefix("this server joins empty") })
      // Without AWS, the servers of the configuration on disk say the same.
      seen.group = nil
      #expect(
        try Plan(seen, Settings()).decision
          == .join(
            through: [address("10.0.1.9"), address("10.0.2.100")],
            evidence: [
              "the raft configuration that 10.0.1.9 reports does not name this server: 10.0.1.9:8300, 10.0.2.100:8300"
            ]))
    }
  }

  @Test func `clients join servers in any running state`() {
    var settings = Settings()
    settings.role = .client
    let members =
      servers(1...1, lifecycle: "Standby") + servers(2...2, lifecycle: "Terminating:Wait")
      + servers(3...3, state: "stopped") + servers(5...5, state: "shutting-down")
      + servers(4...4, lifecycle: "Terminated", state: "terminated")
    let readiness = Readiness(observation(members: members).group!, identity: me, settings: settings)
    guard case .joinAsClient(let servers, _) = ClusterDecision(observation(), readiness, keepsData: true, settings)
    else {
      Issue.record("no join")
      return
    }
    #expect(servers == [address("10.0.2.1"), address("10.0.2.2")])
  }
}

/// The expected number where a group counts in units.
struct WeightTests {
  private func expected(_ desired: Int, _ weights: Int?..., zone: String? = nil) -> Int? {
    let members = weights.enumerated().map { index, weight in
      instance("i-\(index)", "10.0.1.\(10 + index)", zone: "eu-west-1\(index % 2 == 0 ? "a" : "b")", weight: weight)
    }
    var settings = Settings()
    if zone != nil { settings.layout = .datacenterPerAZ }
    return Readiness(observation(members: members, desired: desired).group!, identity: me, settings: settings).expected
  }

  @Test func `as many instances as make the units`() {
    #expect(expected(6, 2, 2, 2) == 3)
    #expect(expected(5, 2, 2, 2) == 3)
    #expect(expected(6, 4, 1, 1) == 3)
    #expect(expected(6, 2) == 3)
    #expect(expected(6, 4) == 2)
    #expect(expected(5, 1, 4, 1) == 2)
    #expect(expected(6, 2, 2, 2, 2) == 3)
    #expect(expected(3, nil, nil) == 3)
    #expect(expected(.max, 2, 2) == Int.max / 2 + 1)
  }

  @Test func `a zone has its share of the units`() {
    #expect(expected(12, 2, 2, 2, 2, 2, 2, zone: "eu-west-1a") == 3)
    #expect(expected(12, 2, 6, 2, 6, 2, zone: "eu-west-1a") == 3)
  }

  @Test func `a group of three instances of two units is complete`() throws {
    let members = three.map { instance($0.instanceID, $0.privateIP!.description, weight: 2) }
    let seen = observation(members: members, desired: 6)
    #expect(try Plan(seen, Settings()).configuration.document["bootstrap_expect"]?.integer == 3)
  }

  @Test func `a suspended process is named where the group does not fill`() {
    let group = GroupObservation(
      instances: three,
      scalingGroups: [
        .init(name: "web", desiredCapacity: 5, zones: ["eu-west-1a"], suspendedProcesses: ["Launch", "Terminate"])
      ])
    #expect(
      Readiness(group, identity: me, settings: Settings()).missing(identity: me) == [
        "2 not launched yet", "the process Launch of Auto Scaling group web is suspended",
      ])
  }
  /// A terminating instance is missing, too, and nothing takes its place.
  @Test func `a suspended process is named beside instances that do not count`() {
    let instances = three.dropLast() + [instance("i-3", "10.0.2.100", lifecycle: "Terminating:Wait")]
    let group = GroupObservation(
      instances: Array(instances),
      scalingGroups: [
        .init(
          name: "web", desiredCapacity: 3, zones: ["eu-west-1a"], suspendedProcesses: ["Launch", "ReplaceUnhealthy"])
      ])
    #expect(
      Readiness(group, identity: me, settings: Settings()).missing(identity: me) == [
        "i-3 (lifecycle state Terminating:Wait)", "the process Launch of Auto Scaling group web is suspended",
        "the process ReplaceUnhealthy of Auto Scaling group web is suspended",
      ])
  }
}
