internal import Base
internal import Model

/// What verification requires of the agent.
extension Plan {
  /// Minimum number of servers of a healthy cluster. A new cluster has all that it expects; a server that joins does
  /// not wait for members that do not exist yet.
  static func expectedServers(_ settings: Settings, readiness: Readiness?, decision: ClusterDecision) -> Int {
    if case .newCluster(let expect, _) = decision { return expect }
    let expected = readiness?.expected ?? settings.expect ?? 1
    return max(1, min(expected, readiness?.members.count ?? 1))
  }

  /// How long a server that joins must be a healthy voter before its launch hook lets an old one go; nil without a
  /// hook, and for founders, which no other server waits for.
  static func stabilization(_ settings: Settings, _ decision: ClusterDecision) -> Duration? {
    guard settings.role == .server, settings.lifecycleHook != nil, case .join = decision else { return nil }
    return settings.serverStabilizationTime ?? .seconds(1)
  }

  /// The WAN pool that a healthy server is in: every known server of all datacenters; nil without a WAN pool.
  static func wanRequirement(_ settings: Settings, readiness: Readiness?) -> HealthRequirements.WAN? {
    guard settings.role == .server, settings.layout == .datacenterPerAZ else { return nil }
    let members = (readiness?.members ?? []) + (readiness?.otherZones ?? []).flatMap(\.members)
    return HealthRequirements.WAN(
      addresses: Set(members.compactMap { $0.wanAddress(settings) }), isRequired: settings.requiresWAN)
  }

  /// What runs an agent that is started this way.
  static func runner(_ start: Settings.Start, _ machine: MachineObservation) -> AgentRunner {
    switch start {
    case .systemd, .none: .systemd
    case .docker: .docker(client: machine.consulPath)
    case .supervise: .supervisor
    }
  }
}
