import Consul
import Testing

@testable import Base
@testable import Decisions
@testable import Model

/// Another instance of a small world, and what is true of it in the words of the design (not of the code under test).
struct OtherInstance: Sendable, CustomStringConvertible {
  enum Answer: Sendable, CaseIterable {
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

  /// Nil for an instance that is found by its tag.
  let lifecycle: String?
  /// Nil: EC2 does not know it yet.
  let state: String?
  let answer: Answer
  var isListed = true
  var isAssumedDead = false

  var description: String {
    "\(lifecycle ?? "tagged") \(state ?? "unknown") \(answer)" + (isListed ? "" : " unlisted")
      + (isAssumedDead ? " assumed dead" : "")
  }

  static let answering = ["pending", "running", "shutting-down"]
  static let silentStates: [String?] = ["stopping", "stopped", "terminated", nil]
  static let launching = ["Pending", "Pending:Wait", "Pending:Proceed"]

  var isGone: Bool { state == "terminated" }
  var counts: Bool {
    isListed && lifecycle.map { ["InService"].contains($0) || Self.launching.contains($0) } ?? true
      && ["pending", "running"].contains(state)
  }
  var holdsData: Bool { !isGone && [.survivor, .member].contains(answer) }
  /// Its disk has nothing of a cluster: it is destroyed, its agent or an operator says so, or nothing ever set it up.
  var holdsNothing: Bool {
    isGone || answer == .empty || isAssumedDead || lifecycle?.hasPrefix("Warmed:") ?? false && !holdsData
  }

  func instance(_ number: Int) -> Instance {
    DecisionsTests.instance(
      "i-\(number)", "10.0.1.\(number)", lifecycle: lifecycle, state: state, isListed: isListed)
  }
}

/// A server among up to four other instances, with its own data and the number that is expected.
struct SmallWorld: CustomStringConvertible {
  let others: [OtherInstance]
  let expect: Int
  var own = RaftState.none

  var description: String { "\(own), expect \(expect), \(others)" }

  /// The others are i-20, i-21, …
  static func id(_ index: Int) -> String { "i-\(index + 20)" }

  /// The first safety rule: `bootstrap_expect` only where no instance that may hold data exists, or is unknown.
  /// Consul itself asks all servers that count before it bootstraps, for it waits for so many. So one that counts and
  /// does not answer is no danger, unless more run than are expected and may already have what this server lacks.
  var mayFound: Bool {
    let counted = 1 + others.count(where: \.counts)
    return own == .none && counted >= expect && !others.contains(where: \.holdsData)
      && others.allSatisfy { other in
        other.holdsNothing || other.counts && (other.answer == .refused || counted <= expect)
      }
  }

  var settings: Settings {
    var settings = Settings()
    settings.assumedDead = Set(others.indices.filter { others[$0].isAssumedDead }.map(Self.id))
    return settings
  }

  var observation: Observation {
    let data = DataDirectoryObservation(
      content: own == .none ? nil : .init(snapshotNamesThisAddress: nil), raftState: own, isMount: false)
    var answers: [String: PeerAnswer] = [:]
    for (index, other) in others.enumerated() where other.state.map(OtherInstance.answering.contains) ?? false {
      answers["10.0.1.\(index + 20)"] = other.answer.value
    }
    return DecisionsTests.observation(
      machine(data: data, recorded: "i-2"),
      members: [instance("i-2", "10.0.1.10")] + others.enumerated().map { $1.instance($0 + 20) }, desired: expect,
      peers: answers)
  }

  /// The number that the configuration would have; nil without `bootstrap_expect`.
  func number() -> Int? { View(of: self).number(nil) }

  /// What this server sees, for several states of the record.
  struct View {
    let keepsData: Bool
    let settings: Settings
    let observation: Observation
    let readiness: Readiness

    init(of world: SmallWorld) {
      keepsData = world.own != .none
      settings = world.settings
      observation = world.observation
      readiness = Readiness(observation.group!, identity: me, settings: settings)
    }

    func number(_ record: RecordObservation?, _ onTotalLoss: Settings.OnTotalLoss = .refuse) -> Int? {
      var seen = observation, settings = settings
      seen.record = record
      settings.onTotalLoss = onTotalLoss
      let decision = ClusterDecision(seen, readiness, keepsData: keepsData, settings)
      if case .newCluster(let number, _) = decision { return number }
      return nil
    }
  }

  /// Worlds that differ in the order of the others only are the same: each is enumerated once.
  static func multisets(_ kinds: [OtherInstance], of size: Int, from first: Int = 0) -> [[OtherInstance]] {
    guard size > 0 else { return [[]] }
    return (first..<kinds.count).flatMap { index in
      multisets(kinds, of: size - 1, from: index).map { [kinds[index]] + $0 }
    }
  }
}

/// Every small world: `bootstrap_expect` appears exactly where the design's first safety rule allows it.
///
/// Enumerated are up to four other instances × lifecycle state × instance state × answer × state of the record × data
/// of this server × expected number. Symmetric worlds are skipped, of three kinds:
/// - Others in another order. The decision sorts them by address, and their addresses are arbitrary.
/// - Lifecycle and instance states of one class. The first test takes every one of them (all that AWS documents, each
///   with every answer), alone and beside every representative, against the same rule; so does each pair, not each
///   quadruple. The rule asks of each other instance by itself, and for how many count.
/// - States of the record where the world itself forbids a new cluster: one of each kind, not each set of founders.
///   A record only forbids.
///
/// The enumeration yields again and again: other tests run beside it, some of them against a clock.
@Suite(.serialized, .timeLimit(.minutes(5))) struct FoundingTests {
  private static let counted = ["InService", "Pending", "Pending:Wait", "Pending:Proceed", nil]
  private static let uncounted = [
    "Standby", "EnteringStandby", "Detaching", "Detached", "Quarantined", "Terminating", "Terminating:Wait",
    "Terminating:Proceed", "Terminating:Retained", "Terminated", "Warmed:Pending:Wait", "Warmed:Running",
    "Warmed:Stopped", "Warmed:Terminating:Wait",
  ]

  private static func kinds(_ lifecycles: [String?], running: [String], silent: [String?]) -> [OtherInstance] {
    lifecycles.flatMap { lifecycle in
      running.flatMap { state in
        OtherInstance.Answer.allCases.map { OtherInstance(lifecycle: lifecycle, state: state, answer: $0) }
      } + silent.map { OtherInstance(lifecycle: lifecycle, state: $0, answer: .silent) }
    }
  }

  private static let all: [OtherInstance] =
    kinds(counted + uncounted, running: OtherInstance.answering, silent: OtherInstance.silentStates)
    + kinds([nil], running: ["running"], silent: ["stopped"]).map {
      OtherInstance(lifecycle: nil, state: $0.state, answer: $0.answer, isListed: false)
    }

  /// One of each class: it counts, does not count or is in a warm pool; it runs, or cannot be asked; it is gone.
  private static let representatives: [OtherInstance] =
    kinds(["InService", "Standby"], running: ["running"], silent: ["stopped"])
    + kinds(["Warmed:Running"], running: ["running"], silent: [])
    + [
      OtherInstance(lifecycle: "Terminating:Proceed", state: "terminated", answer: .silent),
      OtherInstance(lifecycle: "Standby", state: "stopped", answer: .silent, isAssumedDead: true),
    ]

  private static let ownData: [RaftState] = [
    .none, .present(evidence: "/opt/consul/raft/raft.db"), .unknown(reason: "input/output error"),
  ]

  private func check(_ world: SmallWorld, _ founded: inout Int) {
    let number = world.number(), counted = 1 + world.others.count(where: \.counts)
    if number != nil { founded += 1 }
    if number != (world.mayFound ? counted : nil) { Issue.record("\(String(describing: number)): \(world)") }
  }

  @Test(arguments: 0..<4) func `every lifecycle and instance state decides as its class does`(_ part: Int) async {
    var founded = 0
    for (index, kind) in Self.all.enumerated() where index % 4 == part {
      await Task.yield()
      for other in Self.representatives.map({ [$0] }) + [[]] {
        for expect in 1...3 { check(SmallWorld(others: [kind] + other, expect: expect), &founded) }
      }
    }
    // The property is empty if nothing is ever founded.
    #expect(founded > 0)
  }

  @Test(arguments: 0...4) func `a cluster is founded only where no data can be left out`(_ size: Int) async {
    var founded = 0
    for others in SmallWorld.multisets(Self.representatives, of: size) {
      await Task.yield()
      for expect in max(1, size - 1)...(size + 2) { check(SmallWorld(others: others, expect: expect), &founded) }
    }
    #expect(founded > 0)
  }

  /// Whatever the others say: Consul would start with the data.
  @Test(arguments: 0...3) func `a server that has data, or may have, never founds`(_ size: Int) async {
    for others in SmallWorld.multisets(Self.representatives, of: size) {
      await Task.yield()
      for own in Self.ownData.dropFirst() {
        let world = SmallWorld(others: others, expect: size + 1, own: own)
        if world.number() != nil { Issue.record("\(world)") }
      }
    }
  }

  // MARK: The record

  /// In each world in which the record alone decides, each state of the record, with each set of founders.
  @Test(arguments: 0...3) func `the record founds only with all founders, and never beside a cluster`(_ size: Int) async
  {
    var founded = 0
    for others in SmallWorld.multisets(Self.representatives, of: size) {
      await Task.yield()
      for expect in max(1, size)...(size + 1) {
        let world = SmallWorld(others: others, expect: expect)
        let view = SmallWorld.View(of: world)
        await Task.yield()
        for record in world.mayFound ? SmallRecord.all(for: others) : SmallRecord.oneOfEach(for: others) {
          let observation = record.observation(others)
          // What to do after a total loss counts where there was a cluster.
          for policy in record.state == .formed ? Settings.OnTotalLoss.allCases : [.new] {
            let number = view.number(observation, policy)
            if number != nil { founded += 1 }
            if number != (world.mayFound ? record.founders(in: others, policy) : nil) {
              Issue.record("\(String(describing: number)), on total loss \(policy): \(record), \(world)")
            }
          }
        }
      }
    }
    #expect(founded > 0)
  }
}

/// A state of the record: which of the servers here it names, and whether it names one that is not here.
struct SmallRecord: CustomStringConvertible {
  enum Outsider: CaseIterable { case none, living, unknown, gone, forgotten }

  /// Nil: there is no entry.
  let state: ClusterRecord.State?
  let isReadable: Bool
  let namesThis: Bool
  /// By index.
  let named: [Int]
  let outsider: Outsider

  var description: String {
    "\(isReadable ? state?.rawValue ?? "none" : "unreadable"), names \(namesThis ? "this, " : "")\(named), \(outsider)"
  }

  private init(
    _ state: ClusterRecord.State?, isReadable: Bool = true, namesThis: Bool = false, named: [Int] = [],
    outsider: Outsider = .none
  ) {
    (self.state, self.isReadable, self.namesThis) = (state, isReadable, namesThis)
    (self.named, self.outsider) = (named, outsider)
  }

  /// Of instances of one kind, those with the lowest indexes: the others would be the same world.
  private static func sets(of others: [OtherInstance]) -> [[Int]] {
    (0..<1 << others.count).map { mask in others.indices.filter { mask >> $0 & 1 == 1 } }.filter { set in
      set.allSatisfy { index in
        others.indices.allSatisfy { lower in
          lower >= index || others[lower].description != others[index].description || set.contains(lower)
        }
      }
    }
  }

  private static let simple = [SmallRecord(nil), SmallRecord(nil, isReadable: false), SmallRecord(.closed)]

  /// A recovery is waited for, of whichever servers: those here, or one that is gone.
  private static func busy(_ others: [OtherInstance]) -> [SmallRecord] {
    [ClusterRecord.State.recovering, .restoring].flatMap { state in
      [
        SmallRecord(state, namesThis: true, named: Array(others.indices)), SmallRecord(state, outsider: .gone),
      ]
    }
  }

  static func all(for others: [OtherInstance]) -> [SmallRecord] {
    simple + busy(others)
      + [ClusterRecord.State.forming, .formed].flatMap { state in
        sets(of: others).flatMap { named in
          Outsider.allCases.flatMap { outsider in
            [true, false].map {
              SmallRecord(state, namesThis: $0, named: named, outsider: outsider)
            }.filter { $0.namesThis || !named.isEmpty || outsider != .none }
          }
        }
      }
  }

  static func oneOfEach(for others: [OtherInstance]) -> [SmallRecord] {
    simple + busy(others)
      + [.forming, .formed].map { SmallRecord($0, namesThis: true, named: Array(others.indices)) }
      + [.forming, .formed].map { SmallRecord($0, outsider: .gone) }
  }

  func observation(_ others: [OtherInstance]) -> RecordObservation {
    var observation = RecordObservation(path: "/r", newCluster: "new")
    guard let state, isReadable else {
      observation.newest = isReadable ? .none : .unavailable(Failure(.awsFailed, "no"))
      return observation
    }
    let ids = (namesThis ? ["i-2"] : []) + named.map(SmallWorld.id) + (outsider == .none ? [] : ["i-9"])
    let record = ClusterRecord(
      state, cluster: "old", epoch: 1, by: "i-9", at: Timestamp(milliseconds: 0), datacenter: "dc1",
      servers: ids.map { .init(instance: $0, address: address("10.0.1.1")) })
    observation.newest = .entry(RecordEntry(number: 1, record: record))
    for index in named { observation.standings[SmallWorld.id(index)] = others[index].state.map { .state($0) } }
    observation.standings["i-9"] =
      switch outsider {
      case .none, .unknown: nil
      case .living: .state("stopped")
      case .gone: .state("terminated")
      case .forgotten: .unknownToEC2
      }
    return observation
  }

  /// The design's table: how many servers found by the record, in a world that itself allows it; nil: none does.
  func founders(in others: [OtherInstance], _ policy: Settings.OnTotalLoss) -> Int? {
    let here = 1 + others.count(where: \.counts)
    guard isReadable else { return nil }
    let hasGoneOutsider = [.gone, .forgotten].contains(outsider)
    let allAreGone = !namesThis && named.allSatisfy { others[$0].isGone } && (outsider == .none || hasGoneOutsider)
    switch state {
    case nil, .closed: return here
    case .recovering, .restoring: return nil
    case .formed: return allAreGone && policy == .new ? here : nil
    case .forming:
      func isDead(_ index: Int) -> Bool { others[index].isGone || others[index].isAssumedDead }
      guard hasGoneOutsider || named.contains(where: isDead) else {
        return namesThis ? 1 + named.count + (outsider == .none ? 0 : 1) : nil
      }
      // All that are left are among those that start again.
      let areLeft = named.filter { !isDead($0) }.allSatisfy { others[$0].counts }
      return areLeft && (outsider == .none || hasGoneOutsider) ? here : nil
    }
  }
}
