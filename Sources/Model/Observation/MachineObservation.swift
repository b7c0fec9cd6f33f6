package import Base
package import Consul

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
  package var configuration: CurrentConfiguration
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
  /// Files that exist and could not be read. They count as present, and no run goes on without them.
  package var unreadable: [UnreadableFile] = []
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
    dataDirectory: DataDirectoryObservation, recordedInstanceID: String?, configuration: CurrentConfiguration,
    unit: FileContent,
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

  /// Status 14: unreadable is not absent.
  package var failure: Failure {
    Failure(
      .configurationRejected, "cannot read \(path)", details: [reason],
      hint: isPermissionDenied
        ? "run as root" : "repair \(path) or its file system; an unreadable file does not count as absent")
  }
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
