import Consul
import Testing

@testable import Base
@testable import Artifacts
@testable import Decisions
@testable import Model

@Suite struct EligibilityTests {
  @Test(arguments: ["Pending", "Pending:Wait", "Pending:Proceed", "InService"])
  func `launching and serving instances are eligible`(_ state: String) {
    // Pending:Wait: a launch hook holds members there; waiting for InService would deadlock.
    #expect(
      Eligibility(instance("i-1", "10.0.1.9", lifecycle: state, state: "pending"), vpcID: "vpc-1").address
        == address("10.0.1.9"))
  }

  @Test(arguments: [
    "Terminating", "Terminating:Wait", "Terminating:Proceed", "Terminated", "EnteringStandby", "Standby", "Detaching",
    "Detached",
    "Warmed:Stopped", "Warmed:Running", "Quarantined", "SomethingNew",
  ])
  func `instances that terminate, or are on standby, are not eligible`(_ state: String) {
    #expect(
      Eligibility(instance("i-1", "10.0.1.9", lifecycle: state), vpcID: "vpc-1")
        == .ineligible(reason: "lifecycle state \(state)"))
  }

  @Test(arguments: [
    (instance("i", "10.0.1.9", state: "shutting-down"), "instance state shutting-down"),
    (instance("i", "10.0.1.9", state: "stopped"), "instance state stopped"),
    (instance("i", nil, state: nil), "not known to EC2 yet"),
    (instance("i", nil, state: "pending"), "no private address yet"),
    (instance("i", "10.0.1.9", vpc: "vpc-2"), "in another VPC, vpc-2"),
  ])
  func `an ineligible instance has a reason`(_ instance: Instance, _ reason: String) {
    #expect(Eligibility(instance, vpcID: "vpc-1") == .ineligible(reason: reason))
  }
}

@Suite struct ReadinessTests {
  private func readiness(_ members: [Instance], desired: Int?, expect: Int? = nil) -> Readiness {
    var settings = Settings()
    settings.expect = expect
    return Readiness(observation(members: members, desired: desired).group!, identity: me, settings: settings)
  }

  @Test func `members are in numeric order of address whatever order the API answers in`() {
    for order in [three, three.reversed(), [three[1], three[2], three[0]]] {
      #expect(
        readiness(order, desired: 3).members.map(\.address.description) == ["10.0.1.9", "10.0.1.10", "10.0.2.100"])
    }
  }

  @Test func `the group is complete with as many as expected, this instance among them`() {
    #expect(readiness(three, desired: 3).isComplete)
    #expect(readiness(three, desired: 5, expect: 3).isComplete)
    #expect(!readiness(three, desired: 5).isComplete)
    #expect(!readiness(three, desired: nil).isComplete)
    #expect(!readiness([three[0], three[2], instance("i-4", "10.0.2.4")], desired: 3).isComplete)
  }

  @Test func `what is missing is listed, with the number of those not launched`() {
    let members = [three[1], instance("i-5", "10.0.1.5", lifecycle: "Standby")]
    #expect(
      readiness(members, desired: 5).missing(identity: me) == ["i-5 (lifecycle state Standby)", "3 not launched yet"])
    #expect(readiness([three[0]], desired: 2).missing(identity: me) == ["i-2 (this instance is not listed)"])
  }
}

@Suite struct ClusterDecisionTests {
  private func decide(_ observation: Observation, keepsData: Bool = true) -> ClusterDecision {
    ClusterDecision(
      observation, observation.group.map { Readiness($0, identity: me, settings: Settings()) }, keepsData: keepsData,
      Settings())
  }

  private let refused = PeerAnswer.unknown(reason: "connection refused")

  @Test func `without a cluster and with a complete group: a new cluster`() {
    let decision = decide(observation(peers: ["10.0.1.9": refused, "10.0.2.100": status(nil, [])]))
    #expect(
      decision
        == .newCluster(
          expect: 3,
          evidence: ["10.0.1.9 (i-1): unknown, connection refused", "10.0.2.100 (i-3): no leader, no raft peers"]))
  }

  @Test func `a known leader means join, without waiting for a full group`() {
    let members = [three[0], three[1]]
    let decision = decide(
      observation(members: members, desired: 5, peers: ["10.0.1.9": status("10.0.1.9:8300", ["10.0.1.9:8300"])]))
    #expect(
      decision
        == .join(through: [address("10.0.1.9")], evidence: ["10.0.1.9 (i-1): leader 10.0.1.9:8300, 1 raft peer"]))
  }

  /// Guards against a second cluster beside a survivor: the most expensive mistake there is.
  @Test func `raft peers without a leader get time for an election and are joined then, never bootstrapped over`() {
    let peers = ["10.0.1.9": status(nil, ["10.0.1.9:8300", "10.0.1.8:8300"]), "10.0.2.100": refused]
    guard case .wait = decide(observation(peers: peers)) else {
      return #expect(Bool(false), "an election may be under way")
    }
    guard case .joinWithoutLeader(let survivors, _) = decide(observation(peers: peers, over: true)) else {
      return #expect(Bool(false), "the survivor must be joined")
    }
    #expect(survivors == [address("10.0.1.9")])
  }

  @Test func `one answer with a leader outweighs any number without`() {
    let peers = ["10.0.1.9": status(nil, ["a:8300"]), "10.0.2.100": status("x:8300", ["x:8300"])]
    guard case .join(let through, _) = decide(observation(peers: peers, over: true)) else {
      return #expect(Bool(false))
    }
    #expect(through == [address("10.0.2.100")])
  }

  @Test func `raft state here means rejoin, whatever peers say; unknown state counts as state`() {
    for state in [RaftState.present(evidence: "/opt/consul/raft/raft.db"), .unknown(reason: "permission denied")] {
      let here = machine(data: .init(content: .init(snapshotNamesThisAddress: nil), raftState: state, isMount: false))
      guard case .rejoin = decide(observation(here)) else { return #expect(Bool(false)) }
      // Renamed, it is no state of this server.
      guard case .newCluster = decide(observation(here), keepsData: false) else { return #expect(Bool(false)) }
    }
  }

  @Test func `an incomplete group waits`() {
    #expect(decide(observation(members: [three[1]])) == .wait(.groupIncomplete, evidence: []))
  }

  /// Every combination of two peers' answers, for complete and incomplete groups: bootstrap_expect appears only where
  /// no peer reports a leader or raft peers and all expected members are eligible.
  @Test func `bootstrap_expect is written only where it is safe`() {
    let answers: [PeerAnswer] = [
      refused, status(nil, []), status(nil, ["a:8300"]), status("a:8300", ["a:8300"]), status("a:8300", []),
    ]
    for first in answers {
      for second in answers {
        for members in [three, [three[0], three[1]], [three[0], three[2]]] {
          for over in [false, true] {
            let seen = observation(members: members, peers: ["10.0.1.9": first, "10.0.2.100": second], over: over)
            let asked = members.contains { $0.instanceID == "i-3" } ? [first, second] : [first]
            let safe = members.count == 3 && asked.allSatisfy { $0 == refused || $0 == status(nil, []) }
            if case .newCluster = decide(seen) { #expect(safe) } else { #expect(!safe) }
          }
        }
      }
    }
  }
}

@Suite struct PeerSelectionTests {
  private func select(_ join: Settings.Join, _ decision: ClusterDecision) -> [String] {
    let readiness = Readiness(observation(members: three.reversed()).group!, identity: me, settings: Settings())
    return selectPeers(join, decision: decision, readiness: readiness, identity: me).map(\.description)
  }

  @Test func `all is every server except this one, in numeric order`() {
    #expect(select(.all, .newCluster(expect: 3, evidence: [])) == ["10.0.1.9", "10.0.2.100"])
  }

  @Test func `leader is the numerically lowest, the same on every member`() {
    #expect(select(.leader, .newCluster(expect: 3, evidence: [])) == ["10.0.1.9"])
  }

  /// Guards against a fresh server with the lowest address that joins itself and stays alone.
  @Test func `for a join, leader is the lowest server of the cluster`() {
    #expect(
      select(.leader, .join(through: [address("10.0.2.100"), address("10.0.2.20")], evidence: [])) == ["10.0.2.20"])
    #expect(select(.leader, .rejoin(evidence: [])) == ["10.0.1.9"])
  }
}

@Suite struct DataDirectoryDecisionTests {
  private func decide(_ machine: MachineObservation, keep: Bool = false) -> DataDirectoryDecision {
    var settings = Settings()
    settings.keepData = keep
    return DataDirectoryDecision(observation(machine), settings)
  }

  private func data(names: Bool? = nil, mount: Bool = false) -> DataDirectoryObservation {
    .init(content: .init(snapshotNamesThisAddress: names), raftState: .none, isMount: mount)
  }

  @Test func `data of another instance is renamed with a date`() {
    #expect(
      decide(machine(data: data(), recorded: "i-old"))
        == .rename(to: "/opt/consul.i-old.20260102T030405Z", reason: "created by instance i-old"))
    #expect(!decide(machine(data: data(names: false))).keepsData)
  }

  @Test func `what is this instance's is kept`() {
    #expect(decide(machine()) == .fresh)
    #expect(decide(machine(data: data(), recorded: "i-2")).keepsData)
    #expect(decide(machine(data: data(names: true))).keepsData)
    #expect(decide(machine(data: data(), running: true)).keepsData)
  }

  @Test func `a mount point and --keep-data keep it, with the reason`() {
    #expect(
      decide(machine(data: data(mount: true), recorded: "i-old"))
        == .keep(reason: "created by instance i-old, but it is a mount point"))
    #expect(
      decide(machine(data: data(), recorded: "i-old"), keep: true)
        == .keep(reason: "created by instance i-old, but --keep-data is set"))
  }
}
