package import Base
package import Model
internal import Consul

/// New cluster or join. This decision prevents a second cluster beside one that exists.
package enum ClusterDecision: Sendable, Equatable {
  /// The group is complete, no server that was asked has a cluster, and none that may have one is left out: the
  /// configuration contains `bootstrap_expect`, the number of all servers that count. Consul bootstraps only once so
  /// many have joined and none of them reports raft peers.
  case newCluster(expect: Int, evidence: [String])
  /// A server knows a leader: the configuration contains `retry_join` only.
  case join(through: [IPv4Address], evidence: [String])
  /// A client joins any server.
  case joinAsClient(servers: [IPv4Address], evidence: [String])
  /// The data directory contains raft state, with which the agent rejoins; or AWS cannot be reached and the
  /// configuration of this client lists servers.
  case rejoin(evidence: [String])
  /// Servers have raft state but elected no leader in time: the cluster has lost its quorum. A second cluster beside it
  /// would lose data silently. This server joins without bootstrapping and becomes a voter once the cluster is
  /// recovered.
  case joinWithoutLeader(survivors: [IPv4Address], evidence: [String])
  /// The instance is being prepared for a warm pool, in which it is stopped: a server there would join and leave again.
  /// Nothing is set up; it boots normally once it leaves the pool.
  case stayInWarmPool(evidence: [String])
  /// The observation does not suffice for a decision yet.
  case wait(WaitReason, evidence: [String])

  package var evidence: [String] {
    switch self {
    case .newCluster(_, let evidence), .join(_, let evidence), .joinAsClient(_, let evidence), .rejoin(let evidence),
      .joinWithoutLeader(_, let evidence), .stayInWarmPool(let evidence), .wait(_, let evidence):
      evidence
    }
  }

  /// Name of the decision in reports.
  package var name: String {
    switch self {
    case .newCluster: "new cluster"
    case .join: "join"
    case .joinAsClient: "join as a client"
    case .rejoin: "rejoin"
    case .joinWithoutLeader: "join without a leader"
    case .stayInWarmPool: "stay in the warm pool"
    case .wait: "wait"
    }
  }

  /// - Parameters:
  ///   - readiness: nil if AWS cannot be reached.
  ///   - keepsData: whether the agent will use the current content of the data directory.
  package init(_ observation: Observation, _ readiness: Readiness?, keepsData: Bool, _ settings: Settings) {
    if let state = observation.warmPoolState {
      self = .stayInWarmPool(evidence: ["lifecycle state \(state)"])
      return
    }
    if settings.role == .client {
      self.init(client: readiness)
      return
    }
    switch RaftDataDecision(observation, settings, keepsData: keepsData) {
    case .keep(let reason):
      let state = Self.evidence(of: observation.machine.dataDirectory.raftState)
      self = .rejoin(evidence: [state, reason])
      return
    case .setAside(let reason) where readiness == nil:
      let leaders = observation.peers.filter(\.value.knowsLeader)
      self = .join(through: leaders.keys.sorted(), evidence: [reason])
      return
    case .setAside, nil: break
    }
    let asked = (readiness?.asked ?? []).map { AskedServer($0, observation.peers) }
    let evidence = asked.map { "\($0.instance.evidenceText): \($0.answerText)" }
    let clusters = asked.filter { $0.status?.leader != nil }
    let survivors = asked.filter { $0.hasClusterState }
    if let other = clusters.first(where: { $0.isOfAnotherCluster(than: clusters[0]) }) {
      self = .wait(
        .twoClusters([clusters[0], other].map { "\($0.instance.text), \($0.answerText)" }), evidence: evidence)
    } else if !clusters.isEmpty {
      self = .join(through: clusters.compactMap(\.instance.address), evidence: evidence)
    } else if !survivors.isEmpty {
      self =
        observation.leaderWaitIsOver
        ? .joinWithoutLeader(survivors: survivors.compactMap(\.instance.address), evidence: evidence)
        : .wait(.election, evidence: evidence)
    } else if let readiness, readiness.isComplete, let expected = readiness.expected {
      let left = asked.filter { $0.isLeftOut(isFull: readiness.members.count <= expected) }
      let evidence = evidence.isEmpty ? ["this is the only member"] : evidence
      if !left.isEmpty {
        self = .wait(.unknownServers(left.map(\.instance.text)), evidence: evidence)
      } else if let record = RecordDecision(observation, readiness, settings) {
        self.init(record, evidence: evidence)
      } else {
        self = .newCluster(expect: max(expected, readiness.members.count), evidence: evidence)
      }
    } else {
      self = .wait(.groupIncomplete, evidence: evidence)
    }
  }

  /// Where nothing but the record speaks against a new cluster. All founders that the record names wait for each other.
  private init(_ record: RecordDecision, evidence: [String]) {
    switch record {
    case .claim(_, _, let founders): self = .newCluster(expect: founders.count, evidence: evidence)
    case .found(let entry):
      let names = "the cluster's record names this server among \(counted(entry.record.servers.count, "founder"))"
      self = .newCluster(expect: entry.record.servers.count, evidence: evidence + [names])
    case .wait(let reason): self = .wait(.record(reason), evidence: evidence)
    case .unavailable(let failure): self = .wait(.recordUnavailable(failure), evidence: evidence)
    case .refuse(let refusal): self = .wait(.clusterExisted(refusal), evidence: evidence)
    }
  }

  private init(client readiness: Readiness?) {
    guard let readiness else {
      self = .rejoin(evidence: ["AWS cannot be reached; the agent's configuration lists servers"])
      return
    }
    let servers = readiness.joinableServers
    if servers.isEmpty {
      self = .wait(.noServer, evidence: [])
    } else {
      self = .joinAsClient(
        servers: servers.compactMap(\.address), evidence: servers.map { "\($0.evidenceText): server" })
    }
  }

  private static func evidence(of state: RaftState) -> String {
    switch state {
    case .present(let path): "\(path) contains raft state"
    case .unknown(let reason): "the data directory may contain raft state: \(reason)"
    case .none: "no raft state"
    }
  }
}

/// What a decision waits for.
package enum WaitReason: Sendable, Equatable {
  case groupIncomplete
  /// Servers have raft state but no leader.
  case election
  /// These instances may hold the data of a cluster, and did not answer.
  case unknownServers([String])
  /// The servers report two clusters; one server of each.
  case twoClusters([String])
  /// The cluster's record does not let this server found a cluster now.
  case record(String)
  /// The cluster's record cannot be read.
  case recordUnavailable(Failure)
  /// A cluster exists by its record, and does not answer.
  case clusterExisted(RecordRefusal)
  /// A client knows no server.
  case noServer

  package var text: String {
    switch self {
    case .groupIncomplete: "the group is not complete"
    case .election: "servers have raft state but no leader; an election may be in progress"
    case .unknownServers(let servers):
      "not known whether \(servers.joined(separator: ", ")) \(servers.count == 1 ? "has" : "have") a cluster's data"
    case .twoClusters(let servers): "the servers belong to two clusters: \(servers.joined(separator: "; "))"
    case .record(let reason): reason
    case .recordUnavailable(let failure): failure.message
    case .clusterExisted(let refusal): refusal.text
    case .noServer: "no server is running"
    }
  }
}

extension RecordDecision {
  /// The decision where nothing else speaks against a new cluster; nil without a record.
  package init?(_ observation: Observation, _ readiness: Readiness, _ settings: Settings) {
    guard let record = observation.record else { return nil }
    let asked = readiness.asked.map { AskedServer($0, observation.peers) }
    self.init(
      record, identity: observation.identity, members: readiness.members,
      asked: asked.map { ($0.instance.instanceID, $0.answersEmpty) }, settings)
  }
}

/// An instance that may hold data, with its answer.
private struct AskedServer {
  let instance: AskedInstance
  let answer: PeerAnswer

  init(_ instance: AskedInstance, _ answers: [IPv4Address: PeerAnswer]) {
    self.instance = instance
    let silence = instance.address == nil ? "it cannot be asked" : "not queried"
    answer = instance.address.flatMap { answers[$0] } ?? .unknown(reason: silence)
  }

  var status: ClusterStatus? { if case .status(let status) = answer { status } else { nil } }

  /// Whether the server has raft state, with or without a leader.
  var hasClusterState: Bool { status.map { !$0.isEmpty } ?? false }

  /// Raft configurations of one cluster share servers, also while it changes.
  func isOfAnotherCluster(than other: AskedServer) -> Bool {
    guard let own = status?.peers, let others = other.status?.peers, !own.isEmpty, !others.isEmpty else { return false }
    return Set(own).isDisjoint(with: others)
  }

  /// Whether a new cluster would leave out data that this instance may hold.
  ///
  /// Consul's own bootstrap waits for every server that counts and asks each for raft peers; that covers those which do
  /// not answer here, but not an instance that does not count, and no more servers than are expected.
  /// - Parameter isFull: no more servers count than are expected.
  func isLeftOut(isFull: Bool) -> Bool {
    if instance.isAssumedDead { return false }
    switch answer {
    case .status: return false
    case .refused: return !instance.isCounted && !instance.isWarm
    case .unknown: return instance.isCounted ? !isFull : !instance.isWarm
    }
  }

  /// Whether its agent runs and has no data.
  var answersEmpty: Bool { status?.isEmpty ?? false }

  var answerText: String {
    switch answer {
    case .unknown(let reason): "unknown, \(reason)"
    case .refused: "no agent runs"
    case .status(let status):
      (status.leader.map { "leader \($0)" } ?? "no leader") + ", "
        + (status.peers.isEmpty ? "no raft peers" : counted(status.peers.count, "raft peer"))
    }
  }
}
