package import Base

/// Whom `retry_join` names, in numeric order of address.
package func selectPeers(
  _ join: Settings.Join, decision: ClusterDecision, readiness: Readiness?, identity: Identity
) -> [IPv4Address] {
  let members = readiness?.members ?? []
  let others = members.filter { $0.instanceID != identity.instanceID }.map(\.address)
  switch join {
  case .all: return others
  case .leader:
    switch decision {
    case .join(let through, _), .joinWithoutLeader(let through, _):
      // The lowest address may be a fresh machine, this one even; joining it would join nothing.
      return through.min().map { [$0] } ?? []
    case .rejoin:
      return others.min().map { [$0] } ?? []
    case .newCluster, .wait:
      // The same on every member, the lowest itself included.
      return members.map(\.address).min().map { [$0] } ?? []
    }
  }
}
