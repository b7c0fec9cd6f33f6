package import Base
package import Consul
package import Model

/// What a server does that runs and finds that the others have changed.
package enum ReturnDecision: Sendable, Equatable {
  /// It belongs to the cluster that the others report.
  case stay
  /// The agent joins these servers.
  case join([IPv4Address])
  /// The raft data is renamed, and the agent joins these servers empty.
  case setAside(reason: String, servers: [IPv4Address])
  /// The agent has no raft state, and the leader does not add it: a restart makes gossip announce it again.
  case restartEmpty(reason: String)
  /// Nothing can be decided yet.
  case wait(reason: String)

  /// - Parameters:
  ///   - status: of this server's own agent.
  ///   - own: `address:port` under which raft may name this server.
  ///   - answers: of the other servers, by address.
  ///   - alive: addresses of the servers that the agent knows as alive; nil where its ACLs hide them.
  ///   - port: of raft, on every server.
  package init(
    status: ClusterStatus, own: Set<String>, answers: [IPv4Address: PeerAnswer], alive: Set<IPv4Address>?, port: Int64
  ) {
    let others = answers.compactMap { address, answer -> (address: IPv4Address, status: ClusterStatus)? in
      guard case .status(let status) = answer, status.leader != nil, !status.peers.isEmpty else { return nil }
      return (address, status)
    }.sorted { $0.address < $1.address }
    if let first = others.first, let other = others.first(where: { first.status.isOfAnotherCluster(than: $0.status) }) {
      self = .wait(reason: "\(first.address) and \(other.address) report two clusters")
      return
    }
    let missing = others.map(\.address).filter { !(alive?.contains($0) ?? false) }
    guard !status.isMember(own) else {
      // Servers with a leader of their own: the check of the cluster's identity reports them.
      let sameLeader = missing.filter { address in
        others.contains { $0.address == address && $0.status.leader == status.leader }
      }
      self = sameLeader.isEmpty ? .stay : .join(sameLeader)
      return
    }
    guard !others.isEmpty else {
      self = .wait(reason: "no other server knows a leader")
      return
    }
    switch (RaftDataDecision(ownAddresses: own, answers: answers, port: port), status.isEmpty) {
    case (.setAside(let reason), false):
      self = .setAside(reason: reason, servers: others.map(\.address))
    case (.setAside(let reason), true) where missing.count < others.count || alive == nil:
      self = .restartEmpty(reason: reason)
    case (.keep(let reason), false) where !others.contains { !own.isDisjoint(with: $0.status.peers) }:
      self = .wait(reason: reason)
    case (.setAside, true), (.keep, _):
      self = missing.isEmpty ? .wait(reason: "the leader has not added this server yet") : .join(missing)
    }
  }
}

extension ClusterStatus {
  /// Whether the agent knows a leader whose raft configuration names this server.
  /// - Parameter own: `address:port` under which raft may name it.
  package func isMember(_ own: Set<String>) -> Bool { leader != nil && !own.isDisjoint(with: peers) }

  /// Raft configurations of one cluster share servers, also while it changes.
  fileprivate func isOfAnotherCluster(than other: ClusterStatus) -> Bool { Set(peers).isDisjoint(with: other.peers) }
}
