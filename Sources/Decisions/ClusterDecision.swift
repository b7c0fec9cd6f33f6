package import Base
package import Model
internal import Consul

/// New cluster or join: what keeps one cluster from becoming two.
package enum ClusterDecision: Sendable, Equatable {
  /// Nobody has a cluster: `bootstrap_expect` is written.
  case newCluster(expect: Int, evidence: [String])
  /// A peer knows a leader: `retry_join` only.
  case join(through: [IPv4Address], evidence: [String])
  /// A client: any server will do.
  case joinAsClient(servers: [IPv4Address], evidence: [String])
  /// This data directory has raft state: the agent rejoins by itself. Or AWS is out of reach and a client's present
  /// configuration names servers.
  case rejoin(evidence: [String])
  /// Peers have raft state but no leader, and have had time for an election: the cluster has lost its quorum. A second one
  /// beside it would lose data silently; this server joins without bootstrapping and becomes a voter once it is recovered.
  case joinWithoutLeader(survivors: [IPv4Address], evidence: [String])
  /// Not yet to be decided.
  case wait(reason: String, evidence: [String])

  package var evidence: [String] {
    switch self {
    case .newCluster(_, let evidence), .join(_, let evidence), .joinAsClient(_, let evidence), .rejoin(let evidence),
      .joinWithoutLeader(_, let evidence), .wait(_, let evidence):
      evidence
    }
  }

  /// The word for reports.
  package var name: String {
    switch self {
    case .newCluster: "new cluster"
    case .join: "join"
    case .joinAsClient: "join as a client"
    case .rejoin: "rejoin"
    case .joinWithoutLeader: "join without a leader"
    case .wait: "wait"
    }
  }

  /// - Parameters:
  ///   - readiness: nil when AWS is out of reach.
  ///   - keepsData: whether what the data directory holds now will be the agent's.
  package init(_ observation: Observation, _ readiness: Readiness?, keepsData: Bool, role: Settings.Role) {
    if role == .client {
      self.init(client: readiness)
      return
    }
    let raft = observation.machine.dataDirectory.raftState
    if keepsData, raft.mayBePresent {
      self = .rejoin(evidence: [Self.evidence(of: raft)])
      return
    }
    let others = (readiness?.members ?? []).filter { $0.instanceID != observation.identity.instanceID }
    let answers = others.map { (member: $0, answer: observation.peers[$0.address] ?? .unknown(reason: "not asked")) }
    let evidence = answers.map { "\($0.member.address) (\($0.member.instanceID)): \(Self.text(of: $0.answer))" }

    var withLeader: [IPv4Address] = [], withPeers: [IPv4Address] = []
    for (member, answer) in answers {
      guard case .status(let status) = answer else { continue }
      if status.leader != nil {
        withLeader.append(member.address)
      } else if !status.peers.isEmpty {
        withPeers.append(member.address)
      }
    }
    if !withLeader.isEmpty {
      self = .join(through: withLeader, evidence: evidence)
    } else if !withPeers.isEmpty {
      self =
        observation.leaderWaitIsOver
        ? .joinWithoutLeader(survivors: withPeers, evidence: evidence)
        : .wait(reason: "peers have raft state but no leader; an election may be under way", evidence: evidence)
    } else if let readiness, readiness.isComplete, let expected = readiness.expected {
      self = .newCluster(expect: expected, evidence: evidence.isEmpty ? ["this is the only member"] : evidence)
    } else {
      self = .wait(reason: "the group is not complete", evidence: evidence)
    }
  }

  private init(client readiness: Readiness?) {
    guard let readiness else {
      self = .rejoin(evidence: ["AWS is out of reach; the present configuration names servers"])
      return
    }
    if readiness.members.isEmpty {
      self = .wait(reason: "no server is running", evidence: [])
    } else {
      self = .joinAsClient(
        servers: readiness.members.map(\.address),
        evidence: readiness.members.map { "\($0.address) (\($0.instanceID)): a server" })
    }
  }

  private static func evidence(of state: RaftState) -> String {
    switch state {
    case .present(let path): "\(path) holds raft state"
    case .unknown(let reason): "the data directory may hold raft state: \(reason)"
    case .none: "no raft state"
    }
  }

  private static func text(of answer: PeerAnswer) -> String {
    switch answer {
    case .unknown(let reason): "unknown, \(reason)"
    case .status(let status):
      switch (status.leader, status.peers.count) {
      case (let leader?, let count): "leader \(leader), \(count) raft peers"
      case (nil, 0): "no leader, no raft peers"
      case (nil, let count): "no leader, \(count) raft peers"
      }
    }
  }
}
