package import Base

/// Who this instance is.
package struct Identity: Sendable, Equatable {
  package let instanceID: String
  package let region: String
  package let availabilityZone: String
  /// For example `euw1-az1`; nil if nobody needed to know.
  package var zoneID: String?
  /// The primary private address of the primary interface.
  package let privateIP: IPv4Address
  package let vpcID: String?
  /// The Auto Scaling group that it belongs to; nil if none, or if nobody needed to know.
  package var groupName: String?
  /// Of the VPC; empty if nobody needed to know.
  package var vpcNetworks: [IPv4Network] = []
  /// In the order of their device numbers; empty if nobody needed to know more than the primary address.
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
