internal import Base
package import Model

/// Whether the agent uses the content of the data directory. An image built after Consul ran contains data of the build
/// machine: all its instances would have the same node ID.
package enum DataDirectoryDecision: Sendable, Equatable {
  /// The directory is absent or empty.
  case fresh
  case keep(reason: String)
  /// The content is another instance's: the directory is renamed.
  case rename(to: String, reason: String)

  package var keepsData: Bool { if case .keep = self { true } else { false } }

  package init(_ observation: Observation, _ settings: Settings) {
    let directory = observation.machine.dataDirectory
    guard let content = directory.content else {
      self = .fresh
      return
    }
    let reason: String
    if let recorded = observation.machine.recordedInstanceID {
      if recorded == observation.identity.instanceID {
        self = .keep(reason: "created by this instance")
        return
      }
      reason = "created by instance \(recorded)"
    } else if content.snapshotNamesThisAddress == true {
      self = .keep(reason: "its gossip snapshot lists this machine's address")
      return
    } else if Self.namesThisInstance(observation.machine.configuration, observation.identity) {
      self = .keep(reason: "the agent's configuration names this instance")
      return
    } else if observation.machine.agentIsRunning {
      self = .keep(reason: "an agent is running with it")
      return
    } else {
      reason = "created by another machine: nothing in it refers to this one"
    }
    if settings.keepData {
      self = .keep(reason: "\(reason), but --keep-data is set")
    } else if directory.isMount {
      self = .keep(reason: "\(reason), but it is a mount point")
    } else {
      let name = observation.machine.recordedInstanceID ?? "unknown-instance"
      self = .rename(to: "\(settings.dataDirectory).\(name).\(observation.time.basic)", reason: reason)
    }
  }

  /// Without the record, because the state directory was deleted, the agent's configuration still says whose data it
  /// is: an image's has the build machine's instance ID and address.
  private static func namesThisInstance(_ configuration: CurrentConfiguration, _ identity: Identity) -> Bool {
    guard let name = configuration.document?["node_name"]?.string, name.contains(identity.instanceID) else {
      return configuration.bindAddress == identity.privateIP
    }
    return true
  }
}
