package import Base

/// An instance as Auto Scaling and EC2 describe it, with AWS's own words for its states.
package struct Instance: Sendable, Equatable {
  package let instanceID: String
  /// Auto Scaling group; nil if the membership is by tags.
  package let group: String?
  package let availabilityZone: String
  /// Auto Scaling's lifecycle state; nil if the membership is by tags.
  package let lifecycleState: String?
  /// EC2's state; nil if EC2 does not describe the instance (yet).
  package let instanceState: String?
  /// Address of its agent: the primary private address, unless `--advertise` selects another.
  package let privateIP: IPv4Address?
  package let publicIP: IPv4Address?
  package let vpcID: String?
  /// What it counts towards the desired capacity of a group that counts in units (`WeightedCapacity`); nil where the
  /// group counts instances.
  package let weight: Int?
  /// False for an instance that has the tag of a group which does not list it (any more).
  package let isListed: Bool

  package init(
    instanceID: String, group: String?, availabilityZone: String, lifecycleState: String?, instanceState: String?,
    privateIP: IPv4Address?, publicIP: IPv4Address? = nil, vpcID: String?, weight: Int? = nil,
    isListed: Bool = true
  ) {
    self.instanceID = instanceID
    self.group = group
    self.availabilityZone = availabilityZone
    self.lifecycleState = lifecycleState
    self.instanceState = instanceState
    self.privateIP = privateIP
    self.publicIP = publicIP
    self.vpcID = vpcID
    self.weight = weight
    self.isListed = isListed
  }
}
