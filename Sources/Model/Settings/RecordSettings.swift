extension Settings {
  /// What a server without a record cannot know.
  package static let withoutRecord =
    "no --cluster-record: a loss of all servers, and servers that AWS no longer lists, cannot be told from a first boot"

  /// What a boot does when every server that the cluster's record names is gone.
  package enum OnTotalLoss: String, Sendable, CaseIterable {
    /// It stops: its data may be in a backup.
    case refuse
    /// It forms a new, empty cluster.
    case new
  }

  /// What a server does once the quorum is lost for good and it has the longest log.
  package enum RecoveryMode: String, Sendable, CaseIterable {
    /// It waits for `consul-bootstrap recover`.
    case manual
    /// It recovers the cluster.
    case auto
  }

  /// Path of the record of the datacenter that an instance belongs to; nil without a record.
  package func clusterRecordPath(for identity: Identity) -> String? {
    clusterRecord.map { layout == .single ? $0 : "\($0)/\(identity.availabilityZone)" }
  }
}
