package import Base
package import Consul

/// The state of this machine before a run changes anything.
package struct MachineObservation: Sendable, Equatable {
  /// Path of Consul, or of the Docker client that runs it.
  package var consulPath: String
  package var consulVersion: ConsulVersion
  package var isBootedBySystemd: Bool
  package var hostName: String
  /// User that runs the agent; nil: the user that runs this program.
  package var agentOwner: FileOwner?
  package var dataDirectory: DataDirectoryObservation
  /// Instance ID that the state directory records: another instance's if both were baked into the image.
  package var recordedInstanceID: String?
  /// The state directory names the cluster whose data this server has, or had.
  package var namesCluster = false
  package var configuration: CurrentConfiguration
  /// The agent's systemd unit.
  package var unit: FileContent
  /// An agent answers at this machine's HTTP address.
  package var agentIsRunning: Bool
  /// Process that supervises the agent and forwards its logs; nil if none does.
  package var supervisorPID: Int32?
  /// Name servers of this machine: those in `/etc/resolv.conf`, or those that systemd-resolved forwards to.
  package var nameServers: [IPv4Address] = []
  /// Address of Docker's bridge, if there is one.
  package var dockerBridge: IPv4Address?
  /// Nil unless systemd is the init system and the settings need its version, or if the version is not known.
  package var systemdVersion: Int?
  package var hasDnsmasq = false
  /// `/etc/resolv.conf`; absent unless the settings need it.
  package var resolverConfiguration = FileContent.absent
  /// `/etc/resolv.conf` is a symbolic link: another program writes it.
  package var resolverConfigurationIsManaged = false
  /// Environment variables for the sidecar's unit. None of them is a secret.
  package var sidecarEnvironment: [String: String] = [:]
  /// The machine's log file; nil if only the journal has the log.
  package var syslogFile: String?
  /// Path of this program.
  package var programPath = "/usr/local/bin/consul-bootstrap"
  /// Files that exist and could not be read. They do not count as absent: no run continues without them.
  package var unreadable: [UnreadableFile] = []
  /// The other files of the configuration directory, in the order in which Consul reads them.
  package var otherConfigurationFiles: [OtherConfigurationFile]

  package init(
    consulPath: String, consulVersion: ConsulVersion, isBootedBySystemd: Bool, hostName: String, agentOwner: FileOwner?,
    dataDirectory: DataDirectoryObservation, recordedInstanceID: String?, configuration: CurrentConfiguration,
    unit: FileContent,
    agentIsRunning: Bool, otherConfigurationFiles: [OtherConfigurationFile]
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

/// A file or directory that exists and could not be read.
package struct UnreadableFile: Sendable, Equatable {
  package let path: String
  package let reason: String
  package let isPermissionDenied: Bool

  package init(path: String, reason: String, isPermissionDenied: Bool) {
    self.path = path
    self.reason = reason
    self.isPermissionDenied = isPermissionDenied
  }

  /// The error of a run that needs the file, with status 14.
  package var failure: Failure {
    Failure(
      .configurationRejected, "cannot read \(path)", details: [reason],
      hint: isPermissionDenied
        ? "run as root" : "repair \(path) or its file system; an unreadable file does not count as absent")
  }
}

/// The data directory before a run changes it.
package struct DataDirectoryObservation: Sendable, Equatable {
  /// Nil if the directory is absent or empty.
  package var content: Content?
  package var raftState: RaftState
  /// Whether the directory is the root of a file system.
  package var isMount: Bool

  package struct Content: Sendable, Equatable {
    /// Whether the agent's gossip snapshot lists this machine's address as alive; nil if there is no snapshot.
    package var snapshotNamesThisAddress: Bool?

    package init(snapshotNamesThisAddress: Bool?) { self.snapshotNamesThisAddress = snapshotNamesThisAddress }
  }

  package init(content: Content?, raftState: RaftState, isMount: Bool) {
    self.content = content
    self.raftState = raftState
    self.isMount = isMount
  }
}

/// A text file at the time of the observation.
package enum FileContent: Sendable, Equatable {
  case absent
  case text(String)
  case unreadable(reason: String)
}
