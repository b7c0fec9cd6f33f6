internal import Base
internal import Model

/// The servers that a healthy cluster must have. A new cluster has all that it expects; a server that joins need not wait
/// for members that do not exist yet.
func expectedServers(_ settings: Settings, readiness: Readiness?, decision: ClusterDecision) -> Int {
  if case .newCluster(let expect, _) = decision { return expect }
  let expected = readiness?.expected ?? settings.expect ?? 1
  return max(1, min(expected, readiness?.members.count ?? 1))
}

/// Every known server of all datacenters; nil without a WAN pool.
func wanRequirement(_ settings: Settings, readiness: Readiness?) -> HealthRequirements.WAN? {
  guard settings.role == .server, settings.layout == .datacenterPerAZ else { return nil }
  let members = (readiness?.members ?? []) + (readiness?.otherZones ?? []).flatMap(\.members)
  return HealthRequirements.WAN(
    addresses: Set(members.compactMap { $0.wanAddress(settings) }), isRequired: settings.requiresWAN)
}

func runner(_ start: Settings.Start, _ machine: MachineObservation) -> AgentRunner {
  switch start {
  case .systemd, .none: .systemd
  case .docker: .docker(client: machine.consulPath)
  case .supervise: .supervisor
  }
}
