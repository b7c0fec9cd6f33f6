package import Base
package import Consul

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
  package var desiredCapacity: Int? { scalingGroups.isEmpty ? nil : scalingGroups.map(\.desiredCapacity).reduce(0, +) }
}

/// What a peer's agent said to `/v1/status/leader` and `/v1/status/peers`.
package enum PeerAnswer: Sendable, Equatable {
  case status(ClusterStatus)
  /// It could not be asked: that is not a no.
  case unknown(reason: String)
}

/// The data directory, before anything is done.
package struct DataDirectoryObservation: Sendable, Equatable {
  /// Nil for one that is absent or empty.
  package var content: Content?
  package var raftState: RaftState
  /// It lies on a file system of its own.
  package var isMount: Bool

  package struct Content: Sendable, Equatable {
    /// The agent's gossip snapshot lists this machine's address among the living; nil if there is no snapshot.
    package var snapshotNamesThisAddress: Bool?

    package init(snapshotNamesThisAddress: Bool?) { self.snapshotNamesThisAddress = snapshotNamesThisAddress }
  }

  package init(content: Content?, raftState: RaftState, isMount: Bool) {
    self.content = content
    self.raftState = raftState
    self.isMount = isMount
  }
}

/// A text file as it is now.
package enum FileContent: Sendable, Equatable {
  case absent
  case text(String)
  case unreadable(reason: String)
}

/// This machine.
package struct MachineObservation: Sendable, Equatable {
  package var consulPath: String
  package var consulVersion: ConsulVersion
  package var isBootedBySystemd: Bool
  package var hostName: String
  /// The agent's user; nil: the user that runs this program.
  package var agentOwner: FileOwner?
  package var dataDirectory: DataDirectoryObservation
  /// The instance that the state directory says this machine was.
  package var recordedInstanceID: String?
  package var configuration: FileContent
  package var unit: FileContent
  /// An agent answers on this machine's own HTTP address.
  package var agentIsRunning: Bool
  /// The configured addresses of the name servers that this machine asks (`/etc/resolv.conf`, or what systemd-resolved forwards to).
  package var nameServers: [IPv4Address] = []
  /// The address of Docker's bridge, if there is one.
  package var dockerBridge: IPv4Address?
  /// Nil where systemd is not the init system, or nobody needed to know.
  package var systemdVersion: Int?
  package var hasDnsmasq = false
  package var resolverConfiguration = FileContent.absent
  /// `/etc/resolv.conf` is a link: something writes it.
  package var resolverConfigurationIsManaged = false
  package var environment: [String: String] = [:]
  /// The machine's log, where it is a file.
  package var syslogFile: String?
  /// This program.
  package var programPath = "/usr/local/bin/consul-bootstrap"
  /// Other files of the configuration directory, sorted, with whether each sets `bootstrap` or `bootstrap_expect`.
  package var otherConfigurationFiles: [OtherFile]

  package struct OtherFile: Sendable, Equatable {
    package let path: String
    package let setsBootstrap: Bool

    package init(path: String, setsBootstrap: Bool) {
      self.path = path
      self.setsBootstrap = setsBootstrap
    }
  }

  package init(
    consulPath: String, consulVersion: ConsulVersion, isBootedBySystemd: Bool, hostName: String, agentOwner: FileOwner?,
    dataDirectory: DataDirectoryObservation, recordedInstanceID: String?, configuration: FileContent, unit: FileContent,
    agentIsRunning: Bool, otherConfigurationFiles: [OtherFile]
  ) {
    self.consulPath = consulPath
    self.consulVersion = consulVersion
    self.isBootedBySystemd = isBootedBySystemd
    self.hostName = hostName
    self.agentOwner = agentOwner
    self.dataDirectory = dataDirectory
    self.recordedInstanceID = recordedInstanceID
    self.configuration = configuration
    self.unit = unit
    self.agentIsRunning = agentIsRunning
    self.otherConfigurationFiles = otherConfigurationFiles
  }
}

/// Everything that the decisions rest on.
package struct Observation: Sendable, Equatable {
  package var identity: Identity
  package var machine: MachineObservation
  /// Nil when a reboot finds AWS out of reach.
  package var group: GroupObservation?
  /// By address: every other counted member, once asked.
  package var peers: [IPv4Address: PeerAnswer]
  package var secrets = Secrets()
  /// Peers with raft state but no leader have had `leaderWait` to elect one.
  package var leaderWaitIsOver: Bool
  package var time: Timestamp

  package init(
    identity: Identity, machine: MachineObservation, group: GroupObservation?, peers: [IPv4Address: PeerAnswer] = [:],
    leaderWaitIsOver: Bool = false, time: Timestamp, secrets: Secrets = Secrets()
  ) {
    self.identity = identity
    self.machine = machine
    self.group = group
    self.peers = peers
    self.leaderWaitIsOver = leaderWaitIsOver
    self.time = time
    self.secrets = secrets
  }
}

/// The secrets that the options name, as read; nil for those that none names.
package struct Secrets: Sendable, Equatable {
  package var gossipKey: Secret?
  /// A dry run found that a run would make it.
  package var gossipKeyIsToBeMade = false
  package var agentToken: Secret?
  package var ca: TLSMaterial?
  package var cert: TLSMaterial?
  package var key: TLSMaterial?

  package init() {}

  package enum TLSMaterial: Sendable, Equatable {
    /// A file that is there: used where it is.
    case file(path: String)
    /// PEM to be written beside the configuration.
    case pem(Secret)
  }
}
