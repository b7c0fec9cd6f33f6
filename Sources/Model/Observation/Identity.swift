package import Base

/// This instance, as its metadata describes it.
package struct Identity: Sendable, Equatable {
  package let instanceID: String
  package let region: String
  package let availabilityZone: String
  /// For example `euw1-az1`; nil unless the settings need it.
  package var zoneID: String?
  /// The primary private address of the primary interface.
  package let privateIP: IPv4Address
  package let vpcID: String?
  /// Auto Scaling group that the instance belongs to; nil if there is none, or the settings do not need it.
  package var groupName: String?
  /// The state for which Auto Scaling prepares the instance, as metadata says: `InService`, `Warmed:Stopped`, …; nil
  /// outside of a group.
  package var targetLifecycleState: String?
  /// Networks of the VPC; empty unless the settings need them.
  package var vpcNetworks: [IPv4Network] = []
  /// In the order of their device numbers; empty unless the settings need more than the primary address.
  package var interfaces: [NetworkInterface] = []

  package init(
    instanceID: String, region: String, availabilityZone: String, privateIP: IPv4Address, vpcID: String?,
    groupName: String? = nil
  ) {
    self.instanceID = instanceID
    self.region = region
    self.availabilityZone = availabilityZone
    self.privateIP = privateIP
    self.vpcID = vpcID
    self.groupName = groupName
  }
}
