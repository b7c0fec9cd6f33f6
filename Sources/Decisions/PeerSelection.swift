package import Base
package import Model

/// Whom `retry_join` names, in numeric order of address.
package func selectPeers(
  _ join: Settings.Join, decision: ClusterDecision, readiness: Readiness?, identity: Identity
) -> [IPv4Address] {
  let members = readiness?.members ?? []
  let others = members.filter { $0.instanceID != identity.instanceID }.map(\.address)
  switch (join, decision) {
  case (_, .joinAsClient(let servers, _)): return servers
  case (.all, _): return others
  case (.leader, .join(let through, _)), (.leader, .joinWithoutLeader(let through, _)):
    // The lowest address may be a fresh machine, this one even; joining it would join nothing.
    return through.min().map { [$0] } ?? []
  case (.leader, .rejoin):
    return others.min().map { [$0] } ?? []
  case (.leader, .newCluster), (.leader, .wait):
    // The same on every member, the lowest itself included.
    return members.map(\.address).min().map { [$0] } ?? []
  }
}

/// Whom `retry_join_wan` names: every known server of the other datacenters, under the address by which datacenters meet.
package func selectWANPeers(_ readiness: Readiness?, _ settings: Settings) -> [IPv4Address] {
  guard settings.role == .server else { return [] }
  return (readiness?.otherZones ?? []).flatMap(\.members).compactMap { $0.wanAddress(settings) }.sorted()
}

extension Member {
  /// Nil for a server without the public address that it needs.
  package func wanAddress(_ settings: Settings) -> IPv4Address? { settings.wanAddress == .public ? publicIP : address }
}
