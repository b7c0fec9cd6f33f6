internal import AWS
internal import Base
internal import Consul
internal import Decisions
internal import Model
internal import Observers

/// A suspect whose instance is terminated.
struct ProvenDead: Sendable {
  let suspect: Suspect
  let instanceID: String
  let evidence: String
}

typealias JudgedSuspect = (suspect: Suspect, instanceID: String?, verdict: DeathVerdict)

/// What proves that a suspect is dead: EC2, Auto Scaling and the suspect's own port.
extension Sidecar {
  private static let portTimeout = Duration.seconds(1)
  private static let pauseAfterError = Duration.seconds(30)
  private static let maximumProbes = 60
  private static let serfPort: Int64 = 8301

  /// - Returns: the suspects that are gone by EC2's last two answers, the longest dead first.
  func prove(
    _ view: ReaperView, _ instance: LocatedInstance, _ reaper: inout ReaperState
  ) async throws -> [ProvenDead] {
    let own = instance.identity.instanceID
    let proof = InstanceProof(settings: settings, context: context, instance: instance)
    reaper.asksAt = context.uptime() + Self.pauseAfterError
    let asked = Set(view.suspects.compactMap { $0.instanceID(view.catalog) }).subtracting([own])
    if !asked.isEmpty {
      let answer = try await proof.ask(about: asked.sorted())
      reaper.answers = (reaper.answers.second, answer)
      reaper.known = reaper.known.union(answer.states.keys).intersection(asked)
    }
    let known = reaper.known
    let (first, second) = reaper.answers
    func judge(_ view: ReaperView, _ states: [String: String], _ probes: [String: ProbeResult]?) -> [JudgedSuspect] {
      view.suspects.map { suspect in
        let instanceID = suspect.instanceID(view.catalog)
        let node = SuspectedNode(
          node: suspect.node, instanceID: instanceID,
          failedFor: reaper.failedSince[suspect.key].map { context.uptime() - $0 } ?? .zero,
          probe: probes.map { $0[suspect.key] } ?? .silent,
          livingTwins: suspect.livingTwins(view.members, view.catalog),
          wasKnown: instanceID.map(known.contains) ?? false)
        let verdict = DeathVerdict(
          of: node, own: own, first: first, second: second, lifecycleStates: states, rules: reaper.rules)
        return (suspect, instanceID, verdict)
      }
    }
    // Whether it is worth while to ask Auto Scaling, and to probe.
    let likely = judge(view, [:], nil)
    reaper.asksAt = nextCall(likely, second, reaper)
    guard likely.contains(where: \.verdict.isGone) else {
      log(likely, &reaper)
      return []
    }
    let states = try await proof.lifecycleStates(&reaper.ownGroup)
    // The cluster may have changed during the calls.
    let current = try await self.view()
    note(current, &reaper)
    let dead = judge(current, states, nil).filter(\.verdict.isGone).map(\.suspect)
      .sorted { reaper.failedSince[$0.key] ?? .zero < reaper.failedSince[$1.key] ?? .zero }
    let probes = await probe(dead.filter(\.isRaftPeer) + dead.filter { !$0.isRaftPeer })
    let judged = judge(current, states, probes)
    log(judged.filter { judged in !dead.contains(judged.suspect) || probes[judged.suspect.key] != nil }, &reaper)
    return dead.compactMap { suspect in
      guard let found = judged.first(where: { $0.suspect == suspect }), let instanceID = found.instanceID,
        case .gone(let evidence) = found.verdict
      else { return nil }
      return ProvenDead(suspect: suspect, instanceID: instanceID, evidence: evidence)
    }
  }

  /// Uptime of the next call of EC2: soon for what may be proven then, rarely for what has failed for long and is not
  /// terminated, as a stopped instance.
  private func nextCall(_ judged: [JudgedSuspect], _ answer: InstanceAnswer?, _ reaper: ReaperState) -> Duration {
    let now = context.uptime(), earliest = now + reaper.rules.interval
    return judged.map { suspect, instanceID, verdict in
      guard let since = reaper.failedSince[suspect.key] else { return earliest }
      let isTerminated = instanceID.map { answer?.states[$0] == "terminated" } ?? false
      if isTerminated, !verdict.isGone, now - since < Self.youth {
        return max(earliest, since + reaper.rules.failedFor)
      }
      return now + Self.pause(failedFor: now - since, reaper.rules)
    }.min() ?? earliest
  }

  /// An instance that has just failed may be shutting down.
  private static let youth = Duration.seconds(120)

  private static func pause(failedFor age: Duration, _ rules: DeathVerdict.Rules) -> Duration {
    age < youth ? rules.interval : age < .seconds(600) ? .seconds(30) : .seconds(300)
  }

  // MARK: The network

  /// By key of the suspect.
  private func probe(_ suspects: [Suspect]) async -> [String: ProbeResult] {
    let port = current.merged.port("serf_lan", otherwise: Self.serfPort)
    return await withTaskGroup(of: (String, ProbeResult).self) { group in
      for suspect in suspects.prefix(Self.maximumProbes) {
        guard let address = suspect.address else { continue }
        group.addTask {
          (suspect.key, await self.context.ports.connect(address, port: port, timeout: Self.portTimeout))
        }
      }
      return await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
    }
  }
}
