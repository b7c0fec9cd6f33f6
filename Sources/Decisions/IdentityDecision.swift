package import Consul

/// Whether the data of a server is that of the cluster whose leader it follows. raft itself does not notice foreign
/// data: it becomes a voter, serves its old keys to stale reads and lacks new ones.
package enum IdentityDecision: Sendable, Equatable {
  case same
  case diverged(reason: String)

  /// - Parameters:
  ///   - cluster: by a consistent read.
  ///   - own: in this server's own data; nil if it has none, or lags behind.
  ///   - file: of the state directory; nil if there is none yet.
  ///   - applied: index of the last entry that this server has applied.
  ///   - leaderLast: index of the leader's last entry, read some seconds after `applied`.
  package init(
    cluster: ClusterIdentity, own: ClusterIdentity?, file: ClusterIdentity?, applied: UInt64?, leaderLast: UInt64?
  ) {
    if let reason = own?.divergence(from: cluster) {
      self = .diverged(reason: reason)
    } else if let file, file.cluster != cluster.cluster {
      self = .diverged(reason: "it held the data of cluster \(file.cluster), the leader's is of \(cluster.cluster)")
    } else if let applied, let leaderLast, applied > leaderLast {
      self = .diverged(
        reason: "it has applied entries up to \(applied), the leader has none after \(leaderLast)")
    } else {
      self = .same
    }
  }
}

/// Whether the others can do without a server: alive voters without it are a majority of all voters.
package func keepsQuorum(_ voters: [RaftServer], without own: Set<String>, alive: Set<String>) -> Bool {
  let all = voters.filter(\.isVoter)
  return all.count { !own.contains($0.address) && alive.contains($0.address) } > all.count / 2
}
