import Consul
import Testing

@testable import Base
@testable import Decisions
@testable import Model

/// Several servers decide, each by what it sees: never two clusters.
@Suite(.serialized, .timeLimit(.minutes(5))) struct FoundingProtocolTests {
  // MARK: Without a record

  /// Four empty servers, of which each may know only some. Where two of them found and their views share a server, no
  /// two sets of servers that have none in common have the numbers that Consul waits for.
  @Test(arguments: 1...4) func `two views that share a server never found two clusters`(_ expect: Int) {
    let known = OtherInstance(lifecycle: "InService", state: "running", answer: .refused)
    // Servers differ in name and address only: the number depends on how many a server knows.
    let numbers = (0..<4).map { SmallWorld(others: Array(repeating: known, count: $0), expect: expect).number() }
    func views(of server: Int) -> [Int] { (0..<16).filter { $0 >> server & 1 == 1 } }
    func parts(of view: Int, with server: Int, _ number: Int) -> [Int] {
      views(of: server).filter { $0 & ~view == 0 && $0.nonzeroBitCount >= number }
    }
    var pairs = 0
    for (one, other) in (0..<4).flatMap({ one in (one + 1..<4).map { (one, $0) } }) {
      for first in views(of: one) {
        for second in views(of: other) where first & second != 0 {
          guard let number = numbers[first.nonzeroBitCount - 1], let next = numbers[second.nonzeroBitCount - 1] else {
            continue
          }
          pairs += 1
          for left in parts(of: first, with: one, number) {
            for right in parts(of: second, with: other, next) where left & right == 0 {
              Issue.record("expect \(expect): \(one) of \(first) and \(other) of \(second)")
            }
          }
        }
      }
    }
    #expect(pairs > 0)
  }

  // MARK: With a record

  /// What is true of a server. Servers differ in name only: a state of all is the same in any order.
  private struct Server: Hashable, Comparable {
    /// `bootstrap_expect` of its agent; 0: none runs.
    var number = 0
    var isDead = false
    var hasData = false
    /// Whether the newest entry of the record names it, and the entry before.
    var isFounder = false, wasFounder = false

    private var rank: [Int] { [number] + [isDead, hasData, isFounder, wasFounder].map { $0 ? 1 : 0 } }
    static func < (one: Server, other: Server) -> Bool { one.rank.lexicographicallyPrecedes(other.rank) }
  }

  /// How one server sees another, whatever that is: AWS and the network may be late, slow or wrong about it.
  private enum Sight: CaseIterable {
    case absent, counts, silent, standby, terminated

    func isPossible(of server: Server) -> Bool {
      // A server that has died is reported as running for some time. The other way round does not happen.
      server.isDead ? [.terminated, .silent, .absent].contains(self) : self != .terminated
    }
  }

  private enum Action: Hashable { case nothing, claim, found }

  /// What decides, besides names and addresses.
  private struct View: Hashable {
    struct Seen: Hashable, Comparable {
      let sight: Sight
      let isNamed, isRunning, hasData: Bool

      private var rank: [Int] {
        [Sight.allCases.firstIndex(of: sight)!] + [isNamed, isRunning, hasData].map { $0 ? 1 : 0 }
      }
      static func < (one: Seen, other: Seen) -> Bool { one.rank.lexicographicallyPrecedes(other.rank) }
    }

    let others: [Seen]
    let isNamed, hasEntry: Bool

    func action(expect: Int) -> Action {
      let world = SmallWorld(
        others: others.filter { $0.sight != .absent }.map { seen in
          let answer: OtherInstance.Answer =
            seen.sight == .silent || seen.sight == .terminated
            ? .silent : seen.hasData ? .survivor : seen.isRunning ? .empty : .refused
          return OtherInstance(
            lifecycle: seen.sight == .standby ? "Standby" : "InService",
            state: seen.sight == .terminated ? "terminated" : "running", answer: answer)
        }, expect: expect)
      var observation = world.observation
      observation.record = record
      let settings = world.settings, readiness = Readiness(observation.group!, identity: me, settings: settings)
      guard case .newCluster(let number, _) = ClusterDecision(observation, readiness, keepsData: false, settings) else {
        return .nothing
      }
      switch RecordDecision(observation, readiness, settings) {
      case .claim(_, _, let founders):
        #expect(number == founders.count && number == 1 + others.count { [.counts, .silent].contains($0.sight) })
        return .claim
      case .found:
        #expect(number == (isNamed ? 1 : 0) + others.count(where: \.isNamed))
        return .found
      default:
        Issue.record("a new cluster that the record does not found: \(self)")
        return .nothing
      }
    }

    /// The founders of the entry, those that are not listed here among them.
    private var record: RecordObservation {
      var record = RecordObservation(path: "/r", newCluster: "new")
      record.newest = .none
      guard hasEntry else { return record }
      let listed = others.filter { $0.sight != .absent } + others.filter { $0.sight == .absent }
      var servers = isNamed ? [ClusterRecord.Server(instance: "i-2", address: address("10.0.1.10"))] : []
      for (index, seen) in listed.enumerated() where seen.isNamed {
        servers.append(.init(instance: SmallWorld.id(index), address: address("10.0.1.\(index + 20)")))
        record.standings[SmallWorld.id(index)] = .state(seen.sight == .terminated ? "terminated" : "running")
      }
      record.newest = .entry(
        RecordEntry(
          number: 1,
          record: ClusterRecord(
            .forming, cluster: "old", epoch: 1, by: "i-9", at: Timestamp(milliseconds: 0), datacenter: "dc1",
            servers: servers)))
      return record
    }
  }

  /// Every order in which four servers may look, claim, start, bootstrap and die (two of them), from no entry on. Each
  /// sees the others in any way at each look, and acts late: by an entry that another has replaced meanwhile. Servers
  /// that have data never lose the sole right to it, but by death.
  ///
  /// Consul is taken at its worst: servers with one number bootstrap as soon as so many know each other, dead ones
  /// among them, without asking those that they cannot reach.
  @Test(arguments: 1...3) func `four servers with one record never form two clusters`(_ expect: Int) async {
    var actions: [View: Action] = [:], seen: Set<[Server]> = [], open = [Array(repeating: Server(), count: 4)]
    var bootstraps = 0, claimsAgain = 0
    func action(_ view: View) -> Action {
      if let known = actions[view] { return known }
      let action = view.action(expect: expect)
      actions[view] = action
      return action
    }
    func visit(_ state: [Server]) {
      let sorted = state.sorted()
      if seen.insert(sorted).inserted { open.append(sorted) }
    }
    while let state = open.popLast() {
      // Other tests run beside this one, some of them against a clock.
      await Task.yield()
      if state.count(where: \.isDead) < 2 {
        for index in state.indices where !state[index].isDead {
          var next = state
          next[index].isDead = true
          visit(next)
        }
      }
      for set in Self.bootstrapping(state) {
        bootstraps += 1
        if state.contains(where: { $0.hasData && !$0.isDead }) {
          Issue.record("expect \(expect): \(set) would form a second cluster: \(state)")
          return
        }
        var next = state
        for index in set { next[index].hasData = true }
        visit(next)
      }
      for index in state.indices where !state[index].isDead && !state[index].hasData {
        for sights in Self.sights(of: state, without: index) {
          for isLate in [false, true] {
            let isNamed = { (server: Server) in isLate ? server.wasFounder : server.isFounder }
            let view = View(
              others: sights.map { other, sight in
                .init(
                  sight: sight, isNamed: isNamed(state[other]), isRunning: state[other].number > 0,
                  hasData: state[other].hasData)
              }.sorted(), isNamed: isNamed(state[index]), hasEntry: state.contains(where: isNamed))
            var next = state
            switch action(view) {
            case .nothing: continue
            case .found: next[index].number = state.count(where: isNamed)
            case .claim:
              // Late: another server has created the entry.
              guard !isLate else { continue }
              let founders = [index] + sights.filter { [.counts, .silent].contains($0.sight) }.map(\.server)
              if view.hasEntry { claimsAgain += 1 }
              for server in next.indices {
                (next[server].wasFounder, next[server].isFounder) = (next[server].isFounder, founders.contains(server))
              }
              next[index].number = founders.count
            }
            visit(next)
          }
        }
      }
    }
    #expect(bootstraps > 0 && claimsAgain > 0 && seen.count > 100)
  }

  /// Sets of living servers without data that wait for one number, are so many with the dead that waited for it, and
  /// are a majority of them.
  private static func bootstrapping(_ state: [Server]) -> [[Int]] {
    (1..<1 << state.count).map { mask in state.indices.filter { mask >> $0 & 1 == 1 } }.filter { set in
      let number = state[set[0]].number
      guard number > 0, set.allSatisfy({ !state[$0].isDead && !state[$0].hasData && state[$0].number == number }) else {
        return false
      }
      let dead = state.count { $0.isDead && !$0.hasData && $0.number == number }
      return set.count + dead >= number && set.count * 2 > number
    }
  }

  private static func sights(of state: [Server], without own: Int) -> [[(server: Int, sight: Sight)]] {
    state.indices.filter { $0 != own }.reduce(into: [[]]) { views, other in
      let possible = Sight.allCases.filter { $0.isPossible(of: state[other]) }
      views = views.flatMap { view in possible.map { view + [(other, $0)] } }
    }
  }
}
