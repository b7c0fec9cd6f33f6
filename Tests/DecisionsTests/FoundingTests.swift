import Base
import Consul
import Testing

@testable import Decisions
@testable import Model

/// Every small case: up to three other instances, each with a lifecycle state, an instance state and an answer, with
/// each state of this server's data and each number that may be expected. `bootstrap_expect` appears only where no
/// instance that may hold a cluster's data is left out of the number that Consul waits for.
@Suite(.timeLimit(.minutes(5))) struct FoundingTests {
  private enum Answer: CaseIterable {
    case refused, silent, empty, survivor, member

    var value: PeerAnswer {
      switch self {
      case .refused: .refused
      case .silent: .unknown(reason: "no answer")
      case .empty: .status(ClusterStatus(leader: nil, peers: [], lastLog: .init(term: 0, index: 0)))
      case .survivor: .status(ClusterStatus(leader: nil, peers: ["10.0.9.1:8300"], lastLog: .init(term: 2, index: 9)))
      case .member: .status(ClusterStatus(leader: "10.0.9.1:8300", peers: ["10.0.9.1:8300"]))
      }
    }
  }

  private struct Other {
    let lifecycle: String?
    let state: String
    let answer: Answer

    var isCounted: Bool { ["InService", "Pending:Wait", nil].contains(lifecycle) && state == "running" }
    var isGone: Bool { state == "terminated" }

    func instance(_ number: Int) -> Instance {
      DecisionsTests.instance("i-\(number)", "10.0.1.\(number)", lifecycle: lifecycle, state: state)
    }
  }

  /// A stopped or terminated instance does not answer.
  private static let others: [Other] = ["InService", "Pending:Wait", "Standby", "Terminating:Wait"].flatMap {
    lifecycle in
    Answer.allCases.map { Other(lifecycle: lifecycle, state: "running", answer: $0) }
      + ["stopped", "terminated"].map { Other(lifecycle: lifecycle, state: $0, answer: .silent) }
  }

  private static let ownData: [RaftState] = [
    .none, .present(evidence: "/opt/consul/raft/raft.db"), .unknown(reason: "input/output error"),
  ]

  private static func decide(_ world: [Other], expect: Int, own: RaftState, knows: [Bool]? = nil) -> ClusterDecision {
    let data = DataDirectoryObservation(
      content: own == .none ? nil : .init(snapshotNamesThisAddress: nil), raftState: own, isMount: false)
    var answers: [String: PeerAnswer] = [:]
    for (index, other) in world.enumerated() where other.state == "running" {
      answers["10.0.1.\(index + 20)"] = other.answer.value
    }
    let members =
      [instance("i-2", "10.0.1.10")]
      + world.enumerated().filter { knows?[$0.offset] ?? true }.map { $0.element.instance($0.offset + 20) }
    let seen = observation(machine(data: data, recorded: "i-2"), members: members, desired: expect, peers: answers)
    let settings = Settings()
    return ClusterDecision(
      seen, Readiness(seen.group!, identity: me, settings: settings), keepsData: own != .none, settings)
  }

  /// Worlds in which the order of the others differs are the same.
  private static func worlds(of size: Int, from first: Int = 0) -> [[Other]] {
    guard size > 0 else { return [[]] }
    return (first..<others.count).flatMap { index in
      worlds(of: size - 1, from: index).map { [others[index]] + $0 }
    }
  }

  @Test(arguments: 0...3)
  func `a cluster is founded only where no data can be left out`(_ size: Int) {
    var founded = 0
    for world in Self.worlds(of: size) {
      for expect in 1...4 {
        for own in Self.ownData {
          guard case .newCluster(let number, _) = Self.decide(world, expect: expect, own: own) else { continue }
          founded += 1
          let living = world.filter { !$0.isGone }
          // Consul bootstraps once `number` servers have joined, and asks each of them: all that may hold data are
          // among them, and no other server can take the place of one of them.
          let mayHoldData = living.filter { !($0.state == "running" && $0.answer == .empty) }
          #expect(
            own == .none && number >= expect && number == 1 + world.count(where: \.isCounted)
              && mayHoldData.allSatisfy(\.isCounted)
              && !living.contains { [.survivor, .member].contains($0.answer) },
            "expect \(expect), \(world)")
        }
      }
    }
    // The property is empty if nothing is ever founded.
    #expect(founded > 0)
  }

  /// Two servers of one world, of which each may know only some of the others: where both found, no two disjoint sets
  /// of servers have the numbers that Consul would wait for.
  @Test func `two views that share a server never found two clusters`() {
    for world in Self.worlds(of: 3) where world.allSatisfy({ $0.isCounted && $0.answer == .refused }) {
      for expect in 1...4 {
        for first in 0..<8 {
          for second in 0..<8 where first & second != 0 {
            let views = [first, second].map { mask in (0..<3).map { mask >> $0 & 1 == 1 } }
            let numbers = views.map { view -> Int? in
              guard case .newCluster(let number, _) = Self.decide(world, expect: expect, own: .none, knows: view) else {
                return nil
              }
              return number
            }
            guard let one = numbers[0], let other = numbers[1] else { continue }
            // Each founder and the servers that it knows: without the shared ones, one of the two is not complete.
            let shared = (first & second).nonzeroBitCount
            let known = views.map { 1 + $0.count { $0 } }
            #expect(one + other > known[0] + known[1] - shared, "\(expect) \(views)")
          }
        }
      }
    }
  }
}
