package import Base
internal import Consul

/// The input of every decision.
package struct Observation: Sendable, Equatable {
  package var identity: Identity
  package var machine: MachineObservation
  /// Nil if AWS could not be reached and this instance rejoins.
  package var group: GroupObservation?
  /// Answers of the other eligible members by address; empty until they were queried.
  package var peers: [IPv4Address: PeerAnswer]
  package var secrets = Secrets()
  /// Nil without `--cluster-record`.
  package var record: RecordObservation?
  /// Peers with raft state have had no leader for `leaderWait`.
  package var leaderWaitIsOver: Bool
  package var time: Timestamp

  /// The state of an instance that is prepared for a warm pool, or in it; nil for any other.
  package var warmPoolState: String? {
    let listed = group?.instances.first { $0.instanceID == identity.instanceID }?.lifecycleState
    return [identity.targetLifecycleState, listed].compactMap { $0 }.first { $0.hasPrefix("Warmed:") }
  }

  package init(
    identity: Identity, machine: MachineObservation, group: GroupObservation?, peers: [IPv4Address: PeerAnswer] = [:],
    leaderWaitIsOver: Bool = false, time: Timestamp, secrets: Secrets = Secrets()
  ) {
    self.identity = identity
    self.machine = machine
    self.group = group
    self.peers = peers
    self.leaderWaitIsOver = leaderWaitIsOver
    self.time = time
    self.secrets = secrets
  }

  /// As if there were no record of the cluster.
  package var withoutRecord: Observation {
    var observation = self
    observation.record = nil
    return observation
  }
}
