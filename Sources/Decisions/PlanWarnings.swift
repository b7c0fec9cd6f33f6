internal import Base
internal import Consul
internal import Model

extension Plan {
  /// What a person should know before or after the run, although it does not stop the run.
  static func warnings(
    _ observation: Observation, _ settings: Settings, readiness: Readiness?, decision: ClusterDecision,
    dataDirectory: DataDirectoryDecision, raftData: RaftDataDecision?, current: CurrentConfiguration,
    merged: MergedConfiguration
  ) -> [String] {
    var warnings: [String] = []
    if case .rename(let target, let reason) = dataDirectory {
      warnings.append("the data directory was \(reason); it is renamed to \(target)")
    }
    if case .setAside(let reason)? = raftData {
      warnings.append("this server joins empty, and its raft data is renamed: \(reason)")
    }
    for name in observation.group?.missingGroups ?? [] {
      warnings.append("there is no Auto Scaling group \(name): if it was deleted, remove it from --group")
    }
    if case .joinWithoutLeader(let survivors, _) = decision { warnings.append(lostQuorum(survivors)) }
    if let readiness, settings.role == .server {
      if let warning = readiness.expected.flatMap(quorumWarning) { warnings.append(warning) }
      warnings += otherZoneWarnings(readiness, settings)
    }
    let gossipKey = settings.gossipKey?.description ?? "the gossip key"
    if observation.secrets.gossipKeyIsMissing {
      warnings.append("\(gossipKey) does not exist yet; a run creates it")
    } else if current.hasOtherGossipKey(than: observation.secrets) {
      warnings.append(
        "\(gossipKey) has changed since this agent was configured; \(CurrentConfiguration.gossipKeyHint)")
    }
    let open = [
      (merged.opensHTTPAPI, "HTTP", merged.port("http", otherwise: 8500)),
      (merged.opensHTTPSAPI, "HTTPS", merged.port("https", otherwise: -1)),
    ]
    for (isOpen, name, port) in open where isOpen && !merged.aclsDenyByDefault {
      warnings.append(
        "other machines can reach the \(name) API (port \(port)) without ACLs, which gives them the gossip key "
          + "and every value: add --acl-default-policy deny, or let only a load balancer reach the port")
    }
    warnings += autopilotWarnings(settings, decision)
    if settings.dnsAddress == .dockerBridge, settings.dnsPort != 53 {
      warnings.append("containers query port 53, the agent's DNS listens on \(settings.dnsPort): add --dns port-53")
    }
    if readiness == nil {
      warnings.append("AWS could not be reached; rejoining with the configuration and data on this machine")
    }
    return warnings
  }

  /// An existing cluster ignores autopilot's keys in a file; options are applied through the operator API
  /// (`AutopilotChange`).
  private static func autopilotWarnings(_ settings: Settings, _ decision: ClusterDecision) -> [String] {
    switch decision {
    case .join, .joinWithoutLeader, .rejoin: break
    case .newCluster, .joinAsClient, .stayInWarmPool, .wait: return []
    }
    guard settings.role == .server else { return [] }
    return settings.overlays.filter { $0.value["autopilot"]?.object?.isEmpty == false }.map { overlay in
      "\(overlay.origin): an existing cluster takes autopilot's settings from the operator API only: use the options "
        + "(docs/options.md), or consul operator autopilot set-config"
    }
  }

  /// Of `--start none`, which starts no agent.
  static func restartWarning(
    _ machine: MachineObservation, _ configuration: SecretDocument, start: Settings.Start, keepsData: Bool
  ) -> [String] {
    guard start == .none, let numbers = otherNumber(machine, configuration, keepsData: keepsData) else { return [] }
    return [
      "the running agent waits for \(numbers.old) servers, and reads that it must wait for \(numbers.new) only when it "
        + "starts: restart it, as it has no raft state that could be lost"
    ]
  }

  private static func lostQuorum(_ survivors: [IPv4Address]) -> String {
    let list = survivors.map(\.description).joined(separator: ", ")
    return
      "the cluster has lost its quorum: \(list) \(survivors.count == 1 ? "has" : "have") raft state but no leader. "
      + "This server forms no second cluster: it joins without bootstrapping and becomes a voter once the cluster is "
      + "recovered. Bring the missing servers back with their data; if they are lost, run consul-bootstrap recover "
      + "on a server that has data"
  }

  private static func otherZoneWarnings(_ readiness: Readiness, _ settings: Settings) -> [String] {
    var warnings = readiness.otherZones.filter { !$0.isComplete }.map { zone in
      "\(zone.members.count) of \(zone.expected.map(String.init) ?? "?") servers are known in \(zone.name); "
        + "the sidecar joins the others when they appear"
    }
    if settings.wanAddress == .public {
      let without = readiness.otherZones.flatMap(\.members).filter { $0.publicIP == nil }.map(\.instanceID)
      if !without.isEmpty {
        warnings.append(
          "not joined over the WAN, because they have no public address: \(without.joined(separator: ", "))")
      }
    }
    return warnings
  }

  /// Why this number of servers is a bad one; nil for a good one. Raft needs a majority.
  static func quorumWarning(_ servers: Int) -> String? {
    let survived = servers > 0 ? (servers - 1) / 2 : 0
    let failures = survived == 0 ? "no failure" : counted(survived, "failure")
    switch servers {
    case 1: return "1 server survives no failure: the state of the datacenter is lost with it; use 3 or 5"
    case 2: return "2 servers survive no failure, fewer than 1 does: a majority needs both; use 3 or 5"
    case let even where even % 2 == 0:
      return "\(even) servers survive \(failures), no more than \(even - 1) do; use an odd number"
    default: return nil
    }
  }
}

/// `1 failure`, `2 failures`.
func counted(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }
