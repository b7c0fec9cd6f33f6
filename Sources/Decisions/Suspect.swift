package import Base
package import Consul

/// A node that gossip knows as failed, or a raft peer that gossip does not know as alive.
package struct Suspect: Sendable, Equatable {
  package let node: String
  package let address: IPv4Address?
  /// As gossip or the raft configuration has it; nil for an agent that announces none.
  package let nodeID: String?
  /// Whether the raft configuration names it.
  package let isRaftPeer: Bool
  /// Whether gossip knows it.
  package let isMember: Bool

  /// The same for the same node in every look.
  package var key: String { nodeID ?? node }

  package init(node: String, address: IPv4Address?, nodeID: String?, isRaftPeer: Bool, isMember: Bool) {
    self.node = node
    self.address = address
    self.nodeID = nodeID
    self.isRaftPeer = isRaftPeer
    self.isMember = isMember
  }

  /// The node in the catalog; nil if the catalog has another node under its name or its ID.
  private func node(in catalog: [CatalogNode]) -> CatalogNode? {
    let found = catalog.filter { node in nodeID == nil ? node.name == self.node : node.id == nodeID }
    guard found.count == 1, !isMember || found[0].name == node else { return nil }
    return found[0]
  }

  package func instanceID(_ catalog: [CatalogNode]) -> String? { node(in: catalog)?.instanceID }

  /// Members that are alive and have its address or its instance.
  package func livingTwins(_ members: [SerfMember], _ catalog: [CatalogNode]) -> [String] {
    let instanceID = instanceID(catalog)
    let sameInstance = Set(
      catalog.filter { instanceID != nil && $0.instanceID == instanceID && $0.name != node }.map(\.name))
    return members.filter { member in
      member.isAlive && (address != nil && member.address == address || sameInstance.contains(member.name))
    }.map(\.name).sorted()
  }
}

extension [Suspect] {
  /// - Parameters:
  ///   - members: of the LAN pool.
  ///   - servers: the raft configuration.
  package init(_ members: [SerfMember], _ servers: [RaftServer]) {
    let present = members.filter { $0.status == .alive || $0.status == .leaving }
    let failed = members.filter { $0.status == .failed }
    let raftIDs = Set(servers.map(\.id))
    var suspects = failed.map { member in
      Suspect(
        node: member.name, address: member.address, nodeID: member.nodeID,
        isRaftPeer: member.nodeID.map { raftIDs.contains($0) } ?? false, isMember: true)
    }
    for server in servers {
      let address = IPv4Address(raftAddress: server.address)
      guard !present.contains(where: { server.isOf($0) || $0.isServer && address != nil && $0.address == address }),
        !failed.contains(where: server.isOf)
      else { continue }
      suspects.append(
        Suspect(node: server.node, address: address, nodeID: server.id, isRaftPeer: true, isMember: false))
    }
    self = suspects
  }
}

extension RaftServer {
  package func isOf(_ member: SerfMember) -> Bool { member.nodeID.map { $0 == id } ?? (member.name == node) }
}
