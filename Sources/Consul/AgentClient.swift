package import Base

/// What a Consul agent says about its raft cluster.
package struct ClusterStatus: Sendable, Equatable {
  /// `address:port` of the leader; nil if it knows none.
  package let leader: String?
  /// `address:port` of every raft peer; empty before the first election.
  package let peers: [String]

  package init(leader: String?, peers: [String]) {
    self.leader = leader
    self.peers = peers
  }
}

/// A server in the raft configuration.
package struct RaftServer: Sendable, Equatable {
  package let id: String
  package let node: String
  package let address: String
  package let isLeader: Bool
  package let isVoter: Bool
}

/// A member of the LAN or WAN gossip pool, as `/v1/agent/members` shows it.
package struct SerfMember: Sendable, Equatable {
  /// In the WAN pool with the datacenter behind a dot.
  package let name: String
  package let address: IPv4Address?
  /// serf's status 1; 2 is leaving, 3 left, 4 failed.
  package let isAlive: Bool
  /// serf's tag `role` is `consul` on servers and `node` on clients.
  package let isServer: Bool

  package init(name: String, address: IPv4Address?, isAlive: Bool, isServer: Bool) {
    self.name = name
    self.address = address
    self.isAlive = isAlive
    self.isServer = isServer
  }
}

/// Why an agent gave no answer that can be used.
package enum AgentError: ExplainedError, Sendable, Equatable {
  case transport(TransportError)
  /// The agent's HTTP status and the start of its words.
  case refused(status: Int, message: String)
  case malformed

  package var explanation: String {
    switch self {
    case .transport(let error): error.explanation
    case .refused(let status, let message): "HTTP \(status): \(message)"
    case .malformed: "the answer is not what a Consul agent says"
    }
  }
}

/// The HTTP API of one agent (Consul API documentation: Status, Operator, Agent). Every call throws `AgentError`.
package struct AgentClient: Sendable {
  private let base: String
  private let token: Secret?
  private let transport: any HTTPTransport
  private let timeout: Duration

  /// - Parameters:
  ///   - address: of the HTTP API, for example `10.0.1.5:8500`.
  ///   - token: sent as `X-Consul-Token`; give it to this machine's own agent only.
  package init(address: String, token: Secret? = nil, transport: any HTTPTransport, timeout: Duration) {
    base = "http://\(address)"
    self.token = token
    self.transport = transport
    self.timeout = timeout
  }

  /// `/v1/status/leader` and `/v1/status/peers`, which need no token.
  package func clusterStatus() async throws -> ClusterStatus {
    // The second is only asked where the first was answered: most peers that are asked are still booting.
    guard let leader = try await get("/v1/status/leader").string,
      let peers = try await get("/v1/status/peers").array
    else { throw AgentError.malformed }
    return ClusterStatus(leader: leader.isEmpty ? nil : leader, peers: peers.compactMap(\.string))
  }

  /// The name under which the agent has joined, from `/v1/agent/self`.
  package func nodeName() async throws -> String {
    guard let name = try await get("/v1/agent/self")["Config"]?["NodeName"]?.string else { throw AgentError.malformed }
    return name
  }

  /// `/v1/operator/raft/configuration`, which needs `operator:read` where ACLs are on.
  package func raftConfiguration() async throws -> [RaftServer] {
    guard let servers = try await get("/v1/operator/raft/configuration")["Servers"]?.array else {
      throw AgentError.malformed
    }
    return servers.map { server in
      RaftServer(
        id: server["ID"]?.string ?? "", node: server["Node"]?.string ?? "", address: server["Address"]?.string ?? "",
        isLeader: server["Leader"]?.bool ?? false, isVoter: server["Voter"]?.bool ?? false)
    }
  }

  /// `/v1/agent/members`; where ACLs are on, those that the token may read (`node:read`).
  package func members(wan: Bool) async throws -> [SerfMember] {
    guard let members = try await get("/v1/agent/members\(wan ? "?wan=1" : "")").array else {
      throw AgentError.malformed
    }
    return members.map { member in
      SerfMember(
        name: member["Name"]?.string ?? "", address: member["Addr"]?.string.flatMap { IPv4Address($0) },
        isAlive: member["Status"]?.integer == 1, isServer: member["Tags"]?["role"]?.string == "consul")
    }
  }

  /// `PUT /v1/agent/join/:address`, which needs `agent:write` where ACLs are on.
  package func join(_ address: IPv4Address, wan: Bool) async throws {
    _ = try await send("PUT", "/v1/agent/join/\(address)\(wan ? "?wan=1" : "")")
  }

  /// `PUT /v1/agent/reload`, which needs `agent:write` where ACLs are on.
  package func reload() async throws {
    _ = try await send("PUT", "/v1/agent/reload")
  }

  private func get(_ path: String) async throws -> JSONValue {
    let response = try await send("GET", path)
    guard let value = try? JSONValue(parsing: response.body) else { throw AgentError.malformed }
    return value
  }

  private func send(_ method: String, _ path: String) async throws -> HTTPResponse {
    var request = HTTPRequest(method, base + path)
    request.timeout = timeout
    request.connectTimeout = timeout
    if let token { request.headers.append(("X-Consul-Token", token.value)) }
    let response: HTTPResponse
    do {
      response = try await transport.send(request)
    } catch let error as TransportError {
      throw AgentError.transport(error)
    }
    guard response.status == 200 else {
      throw AgentError.refused(status: response.status, message: String(response.text.prefix(200)))
    }
    return response
  }
}
