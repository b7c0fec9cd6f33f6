package import Base

/// The name of one life of a cluster, in Consul's key-value store and in a file on each server.
package struct ClusterIdentity: Sendable, Equatable {
  /// A UUID.
  package let cluster: String
  /// Counts recoveries.
  package let epoch: Int64

  /// The key that holds it.
  package static let key = "consul-bootstrap/cluster"
  /// A UUID has 36 characters; more is another program's.
  private static let maximumLength = 64

  package init(cluster: String, epoch: Int64) {
    self.cluster = cluster
    self.epoch = epoch
  }

  /// Nil if the value is none.
  package init?(json: JSONValue) {
    guard let cluster = json["cluster"]?.string, let epoch = json["epoch"]?.integer,
      !cluster.isEmpty, cluster.utf8.count <= Self.maximumLength
    else { return nil }
    self.init(cluster: cluster, epoch: epoch)
  }

  /// As the identity of a server's own data: why that is not the data of the cluster; nil if it is.
  package func divergence(from cluster: ClusterIdentity) -> String? {
    self.cluster == cluster.cluster
      ? nil : "its own data is of cluster \(self.cluster), the leader's is of \(cluster.cluster)"
  }

  package var json: JSONValue { ["cluster": .string(cluster), "epoch": .integer(epoch)] }

  /// With a random UUID (RFC 9562, version 4).
  package static func random(using generator: inout some RandomNumberGenerator) -> ClusterIdentity {
    var hex = Array(
      [UInt64.random(in: 0...UInt64.max, using: &generator), UInt64.random(in: 0...UInt64.max, using: &generator)]
        .flatMap { word in
          let digits = String(word, radix: 16)
          return Array(String(repeating: "0", count: 16 - digits.count) + digits)
        })
    hex[12] = "4"
    hex[16] = ["8", "9", "a", "b"][Int(hex[16].hexDigitValue ?? 0) % 4]
    let parts = [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { String(hex[$0]) }
    return ClusterIdentity(cluster: parts.joined(separator: "-"), epoch: 1)
  }
}

/// How consistent a read is.
package enum Consistency: String, Sendable {
  /// From this agent's own data (`?stale`).
  case stale
  /// By the leader, which asks the others whether it still is the leader (`?consistent`).
  case consistent
}

extension AgentClient {
  /// `/v1/status/leader` alone, which needs no token; nil if there is none.
  package func leader() async throws -> String? {
    guard let leader = try await get("/v1/status/leader").string else {
      throw AgentError.malformed("the leader is not a string")
    }
    return leader.isEmpty ? nil : leader
  }

  /// The cluster's identity; nil if there is none. Needs `key:read` where ACLs are on.
  package func clusterIdentity(_ consistency: Consistency) async throws -> ClusterIdentity? {
    let response = try await exchange(
      "GET", "/v1/kv/\(ClusterIdentity.key)?raw&\(consistency.rawValue)", accepting: [200, 404])
    guard response.status == 200 else { return nil }
    do {
      guard let identity = ClusterIdentity(json: try JSONValue(parsing: response.body)) else {
        throw AgentError.malformed("\(ClusterIdentity.key) is not a cluster's identity")
      }
      return identity
    } catch let error as JSONSyntaxError {
      throw AgentError.malformed("\(ClusterIdentity.key) is not JSON: \(error.explanation)")
    }
  }

  /// Why this agent's own data is not that of the cluster whose leader it follows; nil if it is, or if either has no
  /// identity yet.
  package func divergence() async throws -> String? {
    async let own = clusterIdentity(.stale)
    guard let cluster = try await clusterIdentity(.consistent), let own = try await own else { return nil }
    return own.divergence(from: cluster)
  }

  /// Creates the identity unless there is one. Needs `key:write` where ACLs are on.
  package func create(_ identity: ClusterIdentity) async throws {
    _ = try await exchange(
      "PUT", "/v1/kv/\(ClusterIdentity.key)?cas=0", body: Array(identity.json.compactText.utf8), accepting: [200])
  }

  /// The last log entry that this agent has applied, from `/v1/agent/self`.
  package func appliedIndex() async throws -> UInt64? {
    try await get("/v1/agent/self")["Stats"]?["raft"]?["applied_index"]?.string.flatMap { UInt64($0) }
  }

  /// The leader's last log entry, at most some seconds old, as autopilot reports it; nil where it has not looked yet.
  package func leaderLastIndex() async throws -> UInt64? {
    try await autopilotHealth().first { $0["Leader"]?.bool == true }?["LastIndex"]?.integer.flatMap {
      UInt64(exactly: $0)
    }
  }
}
