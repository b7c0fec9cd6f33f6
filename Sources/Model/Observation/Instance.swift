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
