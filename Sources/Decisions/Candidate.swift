package import Base

/// An instance that was looked at, with AWS's own words for its states.
package struct Candidate: Sendable, Equatable {
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

/// Whether a candidate counts as a member, or why not.
package enum Verdict: Sendable, Equatable {
  case counted(IPv4Address)
  case notCounted(reason: String)

  /// Launching and serving count. A launch hook holds members in `Pending:Wait`, where they boot like any other: waiting
  /// for `InService` would wait for ever.
  private static let countedLifecycleStates: Set = ["Pending", "Pending:Wait", "Pending:Proceed", "InService"]
  private static let countedInstanceStates: Set = ["pending", "running"]

  package init(_ candidate: Candidate, vpcID: String?) {
    if let state = candidate.lifecycleState, !Self.countedLifecycleStates.contains(state) {
      self = .notCounted(reason: "lifecycle state \(state)")
    } else if let state = candidate.instanceState, !Self.countedInstanceStates.contains(state) {
      self = .notCounted(reason: "instance state \(state)")
    } else if candidate.instanceState == nil {
      self = .notCounted(reason: "not known to EC2 yet")
    } else if let vpcID, let other = candidate.vpcID, other != vpcID {
      self = .notCounted(reason: "in another VPC, \(other)")
    } else if let address = candidate.privateIP {
      self = .counted(address)
    } else {
      self = .notCounted(reason: "no private address yet")
    }
  }

  package var address: IPv4Address? { if case .counted(let address) = self { address } else { nil } }
}
