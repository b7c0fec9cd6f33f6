package import Base

/// The lock that one server of a datacenter holds while it leaves.
package struct LeaveLock: Sendable, Equatable {
  /// The session that holds it; nil: none does.
  package let session: String?
  /// Instance ID of the holder, or of the last one.
  package let instance: String?
  /// Of the process that took it there.
  package let pid: Int64?
  /// Of Consul's last change of it: a server that waits to leave takes it again and again.
  package let index: Int64?

  package init(session: String?, instance: String?, pid: Int64?, index: Int64? = nil) {
    self.session = session
    self.instance = instance
    self.pid = pid
    self.index = index
  }

  package static let key = "consul-bootstrap/leave"
}

/// A server as autopilot sees it (Consul API documentation, "Read Health").
package struct AutopilotServer: Sendable, Equatable {
  /// The ID in the raft configuration.
  package let id: String
  /// Address and port of raft.
  package let address: String?
  package let isHealthy: Bool
  /// When its health last changed, by the leader's clock.
  package let stableSince: Timestamp?

  package init(id: String, address: String?, isHealthy: Bool, stableSince: Timestamp?) {
    (self.id, self.address) = (id, address)
    (self.isHealthy, self.stableSince) = (isHealthy, stableSince)
  }
}

/// What a departure asks of its agent (Consul API documentation: Session, KV, Agent, Operator).
extension AgentClient {
  /// Creates a session of this node, which ends with the node, and some seconds after its last renewal. A lock that it
  /// holds is free `lockDelay` later. Needs `session:write` where ACLs are on.
  /// - Parameters:
  ///   - ttl: at least 10 s (Consul, `SessionTTLMin`).
  ///   - lockDelay: the pause between two departures.
  package func createSession(ttl: Duration, lockDelay: Duration) async throws -> String {
    let body: JSONValue = [
      "Name": "consul-bootstrap leave", "TTL": .string("\(ttl.components.seconds)s"),
      "LockDelay": .string("\(lockDelay.components.seconds)s"), "Behavior": "release",
    ]
    let response = try await exchange(
      "PUT", "/v1/session/create", body: Array(body.compactText.utf8), accepting: [200])
    guard let id = try Self.json(response)["ID"]?.string, Self.isID(id) else {
      throw AgentError.malformed("the session has no ID")
    }
    return id
  }

  /// - Returns: false if the session has ended.
  package func renewSession(_ id: String) async throws -> Bool {
    try await exchange("PUT", "/v1/session/renew/\(id)", accepting: [200, 404]).status == 200
  }

  /// One that has ended is no error.
  package func destroySession(_ id: String) async throws {
    _ = try await exchange("PUT", "/v1/session/destroy/\(id)", accepting: [200])
  }

  /// Needs `key:write` on the key where ACLs are on.
  /// - Returns: whether the session holds the lock now.
  package func acquireLeaveLock(session: String, instance: String, pid: Int32) async throws -> Bool {
    let body: JSONValue = ["instance": .string(instance), "pid": .integer(Int64(pid))]
    let response = try await exchange(
      "PUT", "/v1/kv/\(LeaveLock.key)?acquire=\(session)", body: Array(body.compactText.utf8), accepting: [200])
    return response.text.contains("true")
  }

  /// Another session may have the lock at once: the pause is for locks whose session has ended.
  package func releaseLeaveLock(session: String) async throws {
    _ = try await exchange("PUT", "/v1/kv/\(LeaveLock.key)?release=\(session)", accepting: [200])
  }

  /// Needs `key:read` on the key where ACLs are on.
  package func leaveLock() async throws -> LeaveLock {
    let response = try await exchange("GET", "/v1/kv/\(LeaveLock.key)?consistent", accepting: [200, 404])
    guard response.status == 200 else { return LeaveLock(session: nil, instance: nil, pid: nil) }
    let entry: JSONValue?
    do {
      entry = try JSONValue(parsing: response.body).array?.first
    } catch {
      throw AgentError.malformed("\(LeaveLock.key) is not JSON: \(error.explained)")
    }
    let session = entry?["Session"]?.string.flatMap { Self.isID($0) ? $0 : nil }
    let holder = entry?["Value"]?.string.flatMap(Self.holder)
    return LeaveLock(
      session: session, instance: holder?["instance"]?.string, pid: holder?["pid"]?.integer,
      index: entry?["ModifyIndex"]?.integer)
  }

  /// The body of the lock's holder; a value that is not this program's names none.
  private static func holder(base64: String) -> JSONValue? {
    guard let bytes = Base64.decode(base64) else { return nil }
    do {
      return try JSONValue(parsing: bytes)
    } catch {
      return nil
    }
  }

  /// A UUID: it goes into the path of later calls.
  private static func isID(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.count <= 64
      && text.utf8.allSatisfy { (48...57).contains($0) || (97...122).contains($0) || $0 == 45 }
  }

  /// Leaves the cluster and ends the agent. The call returns late, some seconds after the others have removed the
  /// server, or not at all. Needs `agent:write` where ACLs are on.
  package func leave() async throws {
    _ = try await exchange("PUT", "/v1/agent/leave", accepting: [200])
  }

  /// Hands leadership over to a voter.
  /// - Returns: false on a release that has no such call.
  package func transferLeader(to id: String) async throws -> Bool {
    try await exchange("POST", "/v1/operator/raft/transfer-leader?id=\(id)", accepting: [200, 404, 405]).status == 200
  }

  /// Takes the services of this node out of DNS and health queries. Needs `node:write` where ACLs are on.
  package func startMaintenance(reason: String) async throws {
    _ = try await exchange("PUT", "/v1/agent/maintenance?enable=true&reason=\(reason)", accepting: [200])
  }

  /// Whether autopilot calls each server healthy, by raft's ID. As `autopilotServers`.
  package func autopilotHealth() async throws -> [String: Bool] {
    Dictionary(try await autopilotServers().map { ($0.id, $0.isHealthy) }, uniquingKeysWith: { $0 && $1 })
  }

  /// Autopilot's view of each server; empty in the first seconds of a leader.
  package func autopilotServers() async throws -> [AutopilotServer] {
    try await autopilotHealth().compactMap { server in
      guard let id = server["ID"]?.string, let isHealthy = server["Healthy"]?.bool else { return nil }
      return AutopilotServer(
        id: id, address: server["Address"]?.string, isHealthy: isHealthy,
        stableSince: server["StableSince"]?.string.flatMap { Timestamp(iso8601: $0) })
    }
  }

  /// `Servers` of `/v1/operator/autopilot/health`. An unhealthy cluster answers 429 with the same body. Needs
  /// `operator:read` where ACLs are on.
  func autopilotHealth() async throws -> [JSONValue] {
    let response = try await exchange("GET", "/v1/operator/autopilot/health", accepting: [200, 429])
    return try Self.json(response)["Servers"]?.array ?? []
  }

  private static func json(_ response: HTTPResponse) throws(AgentError) -> JSONValue {
    do {
      return try JSONValue(parsing: response.body)
    } catch {
      throw AgentError.malformed("not JSON: \(error.explained)")
    }
  }
}
