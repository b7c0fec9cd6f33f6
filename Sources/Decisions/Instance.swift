package import Base

/// An instance that was looked at, with AWS's own words for its states.
package struct Instance: Sendable, Equatable {
  package let instanceID: String
  /// Nil where tags are the membership.
  package let group: String?
  package let availabilityZone: String
  /// Auto Scaling's; nil where tags are the membership.
  package let lifecycleState: String?
  /// EC2's; nil if EC2 does not show the instance (yet).
  package let instanceState: String?
  /// Where its agent is met: the primary private address, unless `--advertise` says otherwise.
  package let privateIP: IPv4Address?
  package let publicIP: IPv4Address?
  package let vpcID: String?

  package init(
    instanceID: String, group: String?, availabilityZone: String, lifecycleState: String?, instanceState: String?,
    privateIP: IPv4Address?, publicIP: IPv4Address? = nil, vpcID: String?
  ) {
    self.instanceID = instanceID
    self.group = group
    self.availabilityZone = availabilityZone
    self.lifecycleState = lifecycleState
    self.instanceState = instanceState
    self.privateIP = privateIP
    self.publicIP = publicIP
    self.vpcID = vpcID
  }
}

/// Whether a instance counts as a member, or why not.
package enum Eligibility: Sendable, Equatable {
  case eligible(IPv4Address)
  case ineligible(reason: String)

  /// Launching and serving count. A launch hook holds members in `Pending:Wait`, where they boot like any other: waiting
  /// for `InService` would wait for ever.
  private static let eligibleLifecycleStates: Set = ["Pending", "Pending:Wait", "Pending:Proceed", "InService"]
  private static let eligibleInstanceStates: Set = ["pending", "running"]

  package init(_ instance: Instance, vpcID: String?) {
    if let state = instance.lifecycleState, !Self.eligibleLifecycleStates.contains(state) {
      self = .ineligible(reason: "lifecycle state \(state)")
    } else if let state = instance.instanceState, !Self.eligibleInstanceStates.contains(state) {
      self = .ineligible(reason: "instance state \(state)")
    } else if instance.instanceState == nil {
      self = .ineligible(reason: "not known to EC2 yet")
    } else if let vpcID, let other = instance.vpcID, other != vpcID {
      self = .ineligible(reason: "in another VPC, \(other)")
    } else if let address = instance.privateIP {
      self = .eligible(address)
    } else {
      self = .ineligible(reason: "no private address yet")
    }
  }

  package var address: IPv4Address? { if case .eligible(let address) = self { address } else { nil } }
}
