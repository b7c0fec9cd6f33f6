internal import Base
package import Consul

/// The servers' instances and groups as Auto Scaling and EC2 describe them at one time.
package struct GroupObservation: Sendable, Equatable {
  package var instances: [Instance]
  /// Empty if the membership is by tags.
  package var scalingGroups: [ScalingGroup]
  /// Groups that `--group` names and that do not exist, beside others that do.
  package let missingGroups: [String]

  package struct ScalingGroup: Sendable, Equatable {
    package let name: String
    /// In instances, or in the units of their weights.
    package let desiredCapacity: Int
    /// Sorted.
    package let zones: [String]
    /// Processes that are suspended, in AWS's words: `Launch`, `Terminate`, …
    package let suspendedProcesses: [String]
    /// Nil if it is not known.
    package let maxSize: Int?
    /// One or more, separated by commas, in AWS's words: `EC2`, `ELB`, …
    package let healthCheckType: String?

    package init(
      name: String, desiredCapacity: Int, zones: [String], suspendedProcesses: [String] = [], maxSize: Int? = nil,
      healthCheckType: String? = nil
    ) {
      (self.maxSize, self.healthCheckType) = (maxSize, healthCheckType)
      self.name = name
      self.desiredCapacity = desiredCapacity
      self.zones = zones
      self.suspendedProcesses = suspendedProcesses
    }
  }

  package init(instances: [Instance], scalingGroups: [ScalingGroup], missingGroups: [String] = []) {
    self.instances = instances
    self.scalingGroups = scalingGroups
    self.missingGroups = missingGroups
  }

  /// Sum over the groups; nil if the membership is by tags. A sum beyond `Int` is `Int.max`.
  package var desiredCapacity: Int? {
    scalingGroups.isEmpty ? nil : scalingGroups.map(\.desiredCapacity).reduce(0) { $0.saturatingAdding($1) }
  }
}

/// The state of a peer's cluster: its agent's answers at `/v1/status/leader` and `/v1/status/peers`.
package enum PeerAnswer: Sendable, Equatable {
  case status(ClusterStatus)
  /// The machine runs and nothing listens: no agent runs there now. It may start with data later.
  case refused
  /// The agent did not answer, which does not mean that the peer has no cluster.
  case unknown(reason: String)

  /// Whether the server knows a leader.
  package var knowsLeader: Bool { if case .status(let status) = self { status.leader != nil } else { false } }
}
