package import Base
internal import Consul

/// Everything that the decisions rest on.
package struct Observation: Sendable, Equatable {
  package var identity: Identity
  package var machine: MachineObservation
  /// Nil when a reboot finds AWS out of reach.
  package var group: GroupObservation?
  /// By address: every other counted member, once asked.
  package var peers: [IPv4Address: PeerAnswer]
  package var secrets = Secrets()
  /// Peers with raft state but no leader have had `leaderWait` to elect one.
  package var leaderWaitIsOver: Bool
  package var time: Timestamp

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
}
