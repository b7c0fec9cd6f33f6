package import Base
package import Model

/// Servers that `retry_join` lists, in numeric order of address.
package func selectPeers(
  _ join: Settings.Join, decision: ClusterDecision, readiness: Readiness?, identity: Identity
) -> [IPv4Address] {
  let members = readiness?.members ?? []
  let others = members.filter { $0.instanceID != identity.instanceID }.map(\.address)
  switch (join, decision) {
  case (_, .joinAsClient(let servers, _)): return servers
  case (.all, .join(let through, _)), (.all, .joinWithoutLeader(let through, _)):
    // The servers of the cluster may be on standby, or about to be terminated: they are joined all the same.
    return Set(others + through).sorted()
  case (.all, _): return others
  case (.leader, .join(let through, _)), (.leader, .joinWithoutLeader(let through, _)):
    // The lowest address of all may be that of a new server without a cluster, even of this one.
    return through.min().map { [$0] } ?? []
  case (.leader, .rejoin):
    return others.min().map { [$0] } ?? []
  case (.leader, .newCluster), (.leader, .wait), (.leader, .stayInWarmPool):
    // The same address on every member, including the server that has it.
    return members.map(\.address).min().map { [$0] } ?? []
  }
}

/// Servers that `retry_join_wan` lists: every known server of the other datacenters, by the address that
/// `--wan-address` selects.
package func selectWANPeers(_ readiness: Readiness?, _ settings: Settings) -> [IPv4Address] {
  guard settings.role == .server else { return [] }
  return (readiness?.otherZones ?? []).flatMap(\.members).compactMap { $0.wanAddress(settings) }.sorted()
}

extension Member {
  /// Address for the WAN pool; nil for a server without the public address that it needs.
  package func wanAddress(_ settings: Settings) -> IPv4Address? { settings.wanAddress == .public ? publicIP : address }
}
