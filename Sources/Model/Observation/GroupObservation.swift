internal import Base
package import Consul

/// The servers' instances and groups as Auto Scaling and EC2 describe them at one time.
package struct GroupObservation: Sendable, Equatable {
  package var instances: [Instance]
  /// Empty if the membership is by tags.
  package var scalingGroups: [ScalingGroup]

  package struct ScalingGroup: Sendable, Equatable {
    package let name: String
    package let desiredCapacity: Int
    /// Sorted.
    package let zones: [String]

    package init(name: String, desiredCapacity: Int, zones: [String]) {
      self.name = name
      self.desiredCapacity = desiredCapacity
      self.zones = zones
    }
  }

  package init(instances: [Instance], scalingGroups: [ScalingGroup]) {
    self.instances = instances
    self.scalingGroups = scalingGroups
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
}
