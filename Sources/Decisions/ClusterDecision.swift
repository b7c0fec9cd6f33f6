package import Base
package import Model
internal import Consul

/// New cluster or join. This decision prevents a second cluster beside one that a peer reports.
package enum ClusterDecision: Sendable, Equatable {
  /// The group is complete and no member reports a cluster: the configuration contains `bootstrap_expect`. A member
  /// that cannot be reached does not block it.
  case newCluster(expect: Int, evidence: [String])
  /// A peer knows a leader: the configuration contains `retry_join` only.
  case join(through: [IPv4Address], evidence: [String])
  /// A client joins any server.
  case joinAsClient(servers: [IPv4Address], evidence: [String])
  /// The data directory contains raft state, with which the agent rejoins; or AWS cannot be reached and the
  /// configuration of this client lists servers.
  case rejoin(evidence: [String])
  /// Peers have raft state but elected no leader in time: the cluster has lost its quorum. A second cluster beside it
  /// would lose data silently. This server joins without bootstrapping and becomes a voter once the cluster is
  /// recovered.
  case joinWithoutLeader(survivors: [IPv4Address], evidence: [String])
  /// The observation does not suffice for a decision yet.
  case wait(reason: String, evidence: [String])

  package var evidence: [String] {
    switch self {
    case .newCluster(_, let evidence), .join(_, let evidence), .joinAsClient(_, let evidence), .rejoin(let evidence),
      .joinWithoutLeader(_, let evidence), .wait(_, let evidence):
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
    case .wait: "wait"
    }
  }

  /// - Parameters:
  ///   - readiness: nil if AWS cannot be reached.
  ///   - keepsData: whether the agent will use the current content of the data directory.
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
    let answers = others.map { (member: $0, answer: observation.peers[$0.address] ?? .unknown(reason: "not queried")) }
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
        : .wait(reason: "peers have raft state but no leader; an election may be in progress", evidence: evidence)
    } else if let readiness, readiness.isComplete, let expected = readiness.expected {
      self = .newCluster(expect: expected, evidence: evidence.isEmpty ? ["this is the only member"] : evidence)
    } else {
      self = .wait(reason: "the group is not complete", evidence: evidence)
    }
  }

  private init(client readiness: Readiness?) {
    guard let readiness else {
      self = .rejoin(evidence: ["AWS cannot be reached; the agent's configuration lists servers"])
      return
    }
    if readiness.members.isEmpty {
      self = .wait(reason: "no server is running", evidence: [])
    } else {
      self = .joinAsClient(
        servers: readiness.members.map(\.address),
        evidence: readiness.members.map { "\($0.address) (\($0.instanceID)): server" })
    }
  }

  private static func evidence(of state: RaftState) -> String {
    switch state {
    case .present(let path): "\(path) contains raft state"
    case .unknown(let reason): "the data directory may contain raft state: \(reason)"
    case .none: "no raft state"
    }
  }

  private static func text(of answer: PeerAnswer) -> String {
    switch answer {
    case .unknown(let reason): "unknown, \(reason)"
    case .refused: "no agent runs"
    case .status(let status):
      (status.leader.map { "leader \($0)" } ?? "no leader") + ", "
        + (status.peers.isEmpty ? "no raft peers" : counted(status.peers.count, "raft peer"))
    }
  }
}
