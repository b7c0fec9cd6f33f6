internal import Base
internal import Model

extension Plan {
  static func warnings(
    _ observation: Observation, _ settings: Settings, readiness: Readiness?, decision: ClusterDecision,
    dataDirectory: DataDirectoryDecision,
    current: CurrentConfiguration
  ) -> [String] {
    var warnings: [String] = []
    if case .moveAside(let target, let reason) = dataDirectory {
      warnings.append("the data directory was \(reason); it is renamed to \(target)")
    }
    if case .joinWithoutLeader(let survivors, _) = decision {
      warnings.append(
        "the cluster has lost its quorum: \(survivors.map(\.description).joined(separator: ", ")) "
          + "\(survivors.count == 1 ? "has" : "have") raft state but no leader. "
          + "This server forms no second cluster beside it: it joins, and becomes a voter once the old one is recovered. "
          + "Bring back the missing servers with their data, or recover by peers.json on the survivors "
          + "(Consul documentation, \"Outage Recovery\")")
    }
    if settings.role == .server, let expected = readiness?.expected {
      warnings += quorumWarning(expected).map { [$0] } ?? []
    }
    if let readiness, settings.role == .server {
      warnings += readiness.otherZones.filter { !$0.isComplete }.map {
        "\($0.members.count) of \($0.expected.map(String.init) ?? "?") servers are known in \($0.name); the sidecar joins the others when they appear"
      }
      if settings.wanAddress == .public {
        let without = readiness.otherZones.flatMap(\.members).filter { $0.publicIP == nil }.map(\.instanceID)
        if !without.isEmpty {
          warnings.append(
            "without a public address, and so not joined over the WAN: \(without.joined(separator: ", "))")
        }
      }
    }
    if observation.secrets.gossipKeyIsToBeMade {
      warnings.append("\(settings.gossipKey?.description ?? "the gossip key") does not exist yet; a run makes it")
    } else if let old = current.gossipKey, let new = observation.secrets.gossipKey, old != new {
      warnings.append(
        "\(settings.gossipKey?.description ?? "the gossip key") has changed since this agent was configured. An agent keeps the keys of its keyring: "
          + "install the new key everywhere with consul keyring -install, then -use (Consul documentation, \"Gossip Encryption\")"
      )
    }
    if settings.dnsAddress == .dockerBridge, settings.dnsPort != 53 {
      warnings.append("containers ask port 53, the agent's DNS listens on \(settings.dnsPort): add --dns port-53")
    }
    if readiness == nil { warnings.append("the group could not be looked at; rejoining by what this machine knows") }
    return warnings
  }

  /// Raft needs a majority: what an even number or one below 3 means.
  static func quorumWarning(_ servers: Int) -> String? {
    let survived = (servers - 1) / 2
    let failures = survived == 0 ? "no failure" : survived == 1 ? "1 failure" : "\(survived) failures"
    switch servers {
    case 1: return "1 server survives no failure: with it the datacenter's state is gone; use 3 or 5"
    case 2: return "2 servers survive no failure, less than 1 does: both are needed for a majority; use 3 or 5"
    case let even where even % 2 == 0:
      return "\(even) servers survive \(failures), no more than \(even - 1) do; use an odd number"
    default: return nil
    }
  }
}
