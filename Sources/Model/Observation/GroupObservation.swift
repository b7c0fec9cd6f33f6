internal import Base
package import Consul

/// The group as the Auto Scaling and EC2 APIs show it at one time.
package struct GroupObservation: Sendable, Equatable {
  package var instances: [Instance]
  /// Empty where tags are the membership.
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

  /// The sum over the groups; nil where tags are the membership.
  package var desiredCapacity: Int? {
    guard !scalingGroups.isEmpty else { return nil }
    return scalingGroups.reduce(0) { sum, group in
      let (total, overflow) = sum.addingReportingOverflow(group.desiredCapacity)
      return overflow ? .max : total
    }
  }
}

/// What a peer's agent said to `/v1/status/leader` and `/v1/status/peers`.
package enum PeerAnswer: Sendable, Equatable {
  case status(ClusterStatus)
  /// It could not be asked: that is not a no.
  case unknown(reason: String)
}
