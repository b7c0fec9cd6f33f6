internal import Base
internal import Consul
internal import Model

extension Plan {
  /// What a server that founds a cluster waits for as long as its agent knows no leader: Consul bootstraps only once
  /// all founders have joined.
  package var waitsFor: [String] {
    switch decision {
    case .newCluster: return silentFounders
    case .wait(.groupIncomplete, _):
      guard let readiness, let expected = readiness.expected else { return [] }
      let missing = readiness.missing(identity: identity)
      return [
        "the group has \(readiness.members.count) of \(expected) servers"
          + (missing.isEmpty ? "" : ": missing \(missing.joined(separator: ", "))")
      ]
    case .wait(let reason, _): return [reason.text]
    case .join, .joinAsClient, .rejoin, .joinWithoutLeader, .stayInWarmPool: return []
    }
  }

  /// The servers of this datacenter that have raft data, for people, if none of them knows a leader: the cluster waits
  /// for its recovery. A server that does not answer has no say: it may be the one that is missing.
  package var survivors: [String] {
    let statuses = observation.peers.compactMap { address, answer -> (address: IPv4Address, status: ClusterStatus)? in
      if case .status(let status) = answer { (address, status) } else { nil }
    }
    guard !statuses.contains(where: { $0.status.leader != nil }) else { return [] }
    let others = statuses.filter { !$0.status.isEmpty }.map(\.address).sorted().map(\.description)
    let own = observation.machine.dataDirectory.raftState.mayBePresent ? ["this server"] : []
    return (own + others).map { "\($0) has raft data and no leader" }
  }

  private var silentFounders: [String] {
    founders.filter { $0.instance != identity.instanceID }.compactMap { founder in
      let name = founder.instance.map { "\($0) (\(founder.address))" } ?? founder.text
      return switch observation.peers[founder.address] {
      case .status: nil
      case .refused: "\(name) runs no agent"
      case .unknown(let reason): "\(name) does not answer: \(reason)"
      case nil: "\(name) cannot be asked"
      }
    }
  }

  private var founders: [ClusterRecord.Server] {
    if case .entry(let entry)? = observation.record?.newest, entry.record.state == .forming,
      entry.record.names(identity.instanceID)
    {
      return entry.record.servers
    }
    return (readiness?.members ?? []).map { .init(instance: $0.instanceID, address: $0.address) }
  }
}
