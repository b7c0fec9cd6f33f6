package import Base

/// A node of the catalog.
package struct CatalogNode: Sendable, Equatable {
  /// Nil for a node that was registered without an agent; on servers it is the ID in the raft configuration.
  package let id: String?
  package let name: String
  /// Nil for an IPv6 address or a name.
  package let address: IPv4Address?
  /// `node_meta` of its agent.
  package let meta: [String: String]

  package init(id: String?, name: String, address: IPv4Address?, meta: [String: String]) {
    self.id = id
    self.name = name
    self.address = address
    self.meta = meta
  }

  /// Keys under which the agents' configuration names the instance.
  package static let instanceIDKey = "instance_id"
  package static let availabilityZoneKey = "availability_zone"

  /// The instance that the agent runs on, by its metadata or else by its name; nil if neither names one, or they
  /// contradict.
  package var instanceID: String? {
    guard let meta = meta[Self.instanceIDKey], Self.isInstanceID(meta) else {
      return Self.isInstanceID(name) ? name : nil
    }
    return Self.isInstanceID(name) && name != meta ? nil : meta
  }

  /// `i-` and 8 or 17 hexadecimal digits; other lengths are accepted, for tests and later formats.
  private static func isInstanceID(_ text: String) -> Bool {
    guard text.hasPrefix("i-"), (3...40).contains(text.utf8.count) else { return false }
    return text.utf8.dropFirst(2).allSatisfy { (48...57).contains($0) || (97...122).contains($0) }
  }
}

extension AgentClient {
  /// `/v1/catalog/nodes`; where ACLs are on, those that the token may read (`node:read`).
  /// - Parameter isStale: as this server knows them, without a leader.
  package func catalogNodes(isStale: Bool = false) async throws -> [CatalogNode] {
    guard let nodes = try await get("/v1/catalog/nodes" + (isStale ? "?stale" : "")).array else {
      throw AgentError.malformed("the nodes are not a list")
    }
    return try nodes.map { node throws(AgentError) in
      guard let name = node["Node"]?.string, !name.isEmpty else {
        throw AgentError.malformed("a node has no name")
      }
      return CatalogNode(
        id: node["ID"]?.string.flatMap { $0.isEmpty ? nil : $0 }, name: name,
        address: node["Address"]?.string.flatMap { IPv4Address($0) },
        meta: (node["Meta"]?.object ?? [:]).compactMapValues(\.string))
    }
  }

  /// How many members of the LAN pool gossip knows as failed, from `/v1/agent/self`; nil where the agent does not
  /// report it. Needs `agent:read` where ACLs are on.
  package func failedMembers() async throws -> Int? {
    try await get("/v1/agent/self")["Stats"]?["serf_lan"]?["failed"]?.string.flatMap { Int($0) }
  }

  /// `DELETE /v1/operator/raft/peer?id=`: the server has no vote any more. Needs `operator:write` where ACLs are on.
  /// - Parameter id: as the raft configuration names it.
  package func removeRaftPeer(id: String) async throws {
    _ = try await exchange("DELETE", "/v1/operator/raft/peer?id=\(id.percentEncoded)", accepting: [200])
  }

  /// The first release whose `force-leave` takes `prune`.
  private static let pruneVersion = ConsulVersion(1, 6, 2)

  /// `PUT /v1/agent/force-leave/NODE`: a failed member is left, with `prune` it is removed from the members at once;
  /// the leader removes it from the catalog, and a server also from the WAN pool. Takes 5 to 7 s (1.8.7). Needs
  /// `operator:write` where ACLs are on (before 1.7 `agent:write`).
  package func forceLeave(_ node: String, _ version: ConsulVersion) async throws {
    let query = version >= Self.pruneVersion ? "?prune=1" : ""
    _ = try await exchange("PUT", "/v1/agent/force-leave/\(node.percentEncoded)\(query)", accepting: [200])
  }
}

extension String {
  /// For a part of a path or a query (RFC 3986, section 2.3: unreserved characters stay).
  fileprivate var percentEncoded: String {
    let digits = Array("0123456789ABCDEF")
    var text = ""
    for byte in utf8 {
      switch byte {
      case 48...57, 65...90, 97...122, 45, 46, 95, 126: text.unicodeScalars.append(Unicode.Scalar(byte))
      default: text += "%\(digits[Int(byte >> 4)])\(digits[Int(byte & 15)])"
      }
    }
    return text
  }
}
