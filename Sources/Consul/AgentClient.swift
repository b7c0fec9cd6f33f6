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

/// Why an agent gave no answer that can be used.
package enum AgentError: Error, Sendable, Equatable {
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
  private let transport: any HTTPTransport
  private let timeout: Duration

  /// - Parameter address: of the HTTP API, for example `10.0.1.5:8500`.
  package init(address: String, transport: any HTTPTransport, timeout: Duration) {
    base = "http://\(address)"
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
    guard let servers = try await get("/v1/operator/raft/configuration")["Servers"]?.array else { throw AgentError.malformed }
    return servers.map { server in
      RaftServer(
        id: server["ID"]?.string ?? "", node: server["Node"]?.string ?? "", address: server["Address"]?.string ?? "",
        isLeader: server["Leader"]?.bool ?? false, isVoter: server["Voter"]?.bool ?? false)
    }
  }

  private func get(_ path: String) async throws -> JSONValue {
    var request = HTTPRequest("GET", base + path)
    request.timeout = timeout
    request.connectTimeout = timeout
    let response: HTTPResponse
    do {
      response = try await transport.send(request)
    } catch let error as TransportError {
      throw AgentError.transport(error)
    }
    guard response.status == 200 else {
      throw AgentError.refused(status: response.status, message: String(response.text.prefix(200)))
    }
    guard let value = try? JSONValue(parsing: response.body) else { throw AgentError.malformed }
    return value
  }
}
