internal import Base
package import Model

/// What becomes of what the data directory holds: an image baked after Consul ran gives all its instances one node id.
package enum DataDirectoryDecision: Sendable, Equatable {
  /// Absent or empty.
  case fresh
  case keep(reason: String)
  case moveAside(to: String, reason: String)

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
        self = .keep(reason: "made by this instance")
        return
      }
      reason = "made by instance \(recorded)"
    } else if content.snapshotNamesThisAddress == true {
      self = .keep(reason: "its gossip snapshot names this machine's address")
      return
    } else if observation.machine.agentIsRunning {
      self = .keep(reason: "an agent is running on it")
      return
    } else {
      reason = "made by another machine: nothing in it names this one"
    }
    if settings.keepData {
      self = .keep(reason: "\(reason), but --keep-data")
    } else if directory.isMount {
      self = .keep(reason: "\(reason), but it is a mount of its own")
    } else {
      let name = observation.machine.recordedInstanceID ?? "unknown-instance"
      self = .moveAside(to: "\(settings.dataDirectory).\(name).\(observation.time.basic)", reason: reason)
    }
  }
}
