extension Settings {
  /// Which instances are the servers.
  package enum Membership: Sendable, Equatable {
    /// Those of the Auto Scaling group that this instance belongs to.
    case ownGroup
    /// Those of the Auto Scaling groups with these names, at least one.
    case groups([String])
    /// The instances of this VPC that have all of these tags.
    case tags([Tag])
  }

  /// A tag of an EC2 instance or a log group.
  package struct Tag: Sendable, Equatable {
    package let key: String
    package let value: String

    package init(key: String, value: String) {
      self.key = key
      self.value = value
    }
  }

  package enum Role: String, Sendable, CaseIterable {
    case server, client
  }

  /// What a datacenter is.
  package enum Layout: String, Sendable, CaseIterable {
    case single
    /// Each availability zone is a datacenter, joined with the others over the WAN.
    case datacenterPerAZ = "datacenter-per-az"
  }

  /// What a datacenter is named after. A zone's name stands for different zones in different accounts, its ID does not.
  package enum DatacenterSource: String, Sendable, CaseIterable {
    case zoneName = "zone-name"
    case zoneID = "zone-id"
  }

  /// Which servers `retry_join` lists.
  package enum Join: String, Sendable, CaseIterable {
    /// Every eligible server except this one.
    case all
    /// The server with the numerically lowest address.
    case leader
  }
}
