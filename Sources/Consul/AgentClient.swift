package import Base

/// The raft cluster as a Consul agent reports it.
package struct ClusterStatus: Sendable, Equatable {
  /// `address:port` of the leader; nil if there is none.
  package let leader: String?
  /// `address:port` of every raft peer; empty before the first election.
  package let peers: [String]
  /// Term and index of the last log entry, 0 and 0 on a server that has none; nil if they were not asked for.
  package let lastLog: LogPosition?

  package init(leader: String?, peers: [String], lastLog: LogPosition? = nil) {
    self.leader = leader
    self.peers = peers
    self.lastLog = lastLog
  }

  /// Whether the server belongs to no cluster: it knows no leader and no raft peers, and its log is empty.
  package var isEmpty: Bool { leader == nil && peers.isEmpty && lastLog?.index ?? 0 == 0 }
}

/// Where a raft log ends. Of two logs the one with the higher term is newer, then the one with the higher index.
package struct LogPosition: Sendable, Equatable, Comparable {
  package let term: UInt64
  package let index: UInt64

  package init(term: UInt64, index: UInt64) {
    self.term = term
    self.index = index
  }

  package static func < (first: LogPosition, second: LogPosition) -> Bool {
    (first.term, first.index) < (second.term, second.index)
  }
}

extension IPv4Address {
  /// The host of a server's `address:port` in raft; nil for an IPv6 address or a name.
  package init?(raftAddress: String) { self.init(raftAddress.prefix { $0 != ":" }) }
}

/// A server in the raft configuration.
package struct RaftServer: Sendable, Equatable {
  package let id: String
  package let node: String
  package let address: String
  package let isLeader: Bool
  package let isVoter: Bool

  package init(id: String, node: String, address: String, isLeader: Bool, isVoter: Bool) {
    self.id = id
    self.node = node
    self.address = address
    self.isLeader = isLeader
    self.isVoter = isVoter
  }
}

/// A member of the LAN or WAN gossip pool, as `/v1/agent/members` shows it.
package struct SerfMember: Sendable, Equatable {
  /// In the WAN pool with the datacenter behind a dot.
  package let name: String
  /// Nil for an IPv6 address.
  package let address: IPv4Address?
  package let status: Status
  /// serf's tag `role` is `consul` on servers and `node` on clients; a member without it is no server.
  package let isServer: Bool
  /// serf's tag `expect`: the `bootstrap_expect` with which the server was started; nil for one that was started
  /// without.
  package let bootstrapExpect: Int64?
  /// serf's tag `id`: the ID of the node, on servers that of the raft configuration.
  package let nodeID: String?
  /// serf's tag `build`: the release of a server.
  package let version: ConsulVersion?

  /// serf's, by its number.
  package enum Status: Int64, Sendable {
    case none, alive, leaving, left, failed
  }

  package var isAlive: Bool { status == .alive }

  package init(
    name: String, address: IPv4Address?, status: Status, isServer: Bool, bootstrapExpect: Int64? = nil,
    nodeID: String? = nil, version: ConsulVersion? = nil
  ) {
    self.version = version
    self.nodeID = nodeID
    self.name = name
    self.address = address
    self.status = status
    self.isServer = isServer
    self.bootstrapExpect = bootstrapExpect
  }
}

/// Why an agent gave no answer that can be used.
package enum AgentError: ExplainedError, Sendable, Equatable {
  case transport(TransportError)
  /// The agent's HTTP status and the beginning of its message.
  case refused(status: Int, message: String)
  /// The answer is not what Consul's API documents; with what is wrong.
  case malformed(String)

  package var explanation: String {
    switch self {
    case .transport(let error): error.explanation
    case .refused(let status, let message): "HTTP \(status): \(message)"
    case .malformed(let reason): "malformed answer: \(reason)"
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

  /// Peers are not trusted; the answer for a cluster of seven servers has some 200 bytes.
  private static let maximumStatusBytes = 16 << 10
  /// A thousand members have some 500 KB.
  static let maximumBytes = 8 << 20

  /// `/v1/status/leader` and `/v1/status/peers`, which need no token.
  package func clusterStatus() async throws -> ClusterStatus {
    // One after the other: most peers that are probed are still booting, and do not answer the first.
    let leader = try await get("/v1/status/leader", limit: Self.maximumStatusBytes)
    guard let leader = leader.string else { throw AgentError.malformed("the leader is not a string") }
    let peers = try await get("/v1/status/peers", limit: Self.maximumStatusBytes)
    guard let list = peers.array else { throw AgentError.malformed("the peers are not a list") }
    return ClusterStatus(
      leader: leader.isEmpty ? nil : leader,
      peers: try list.map { peer throws(AgentError) in
        guard let address = peer.string, !address.isEmpty else { throw .malformed("a peer is not an address") }
        return address
      })
  }

  /// The name under which the agent has joined, from `/v1/agent/self`.
  package func nodeName() async throws -> String {
    let config = try await get("/v1/agent/self")["Config"]
    return try required("NodeName", config, \.nonemptyString)
  }

  /// The agent's own ID, which is that of its server in raft, from `/v1/agent/self`.
  package func nodeID() async throws -> String {
    let config = try await get("/v1/agent/self")["Config"]
    return try required("NodeID", config, \.nonemptyString)
  }

  /// `/v1/agent/self`, which needs `agent:read` where ACLs are on.
  package func runningAgent() async throws -> RunningAgent {
    RunningAgent(try await get("/v1/agent/self"))
  }

  /// `/v1/operator/raft/configuration`, which needs `operator:read` where ACLs are on.
  /// - Parameter isStale: this server's own, without a leader.
  package func raftConfiguration(isStale: Bool = false) async throws -> [RaftServer] {
    let path = "/v1/operator/raft/configuration" + (isStale ? "?stale" : "")
    guard let servers = try await get(path)["Servers"]?.array else {
      throw AgentError.malformed("it has no list of Servers")
    }
    return try servers.map { server in
      RaftServer(
        id: try required("ID", server, \.nonemptyString), node: try required("Node", server, \.nonemptyString),
        address: try required("Address", server, \.nonemptyString), isLeader: try required("Leader", server, \.bool),
        isVoter: try required("Voter", server, \.bool))
    }
  }

  /// `/v1/agent/members`; where ACLs are on, those that the token may read (`node:read`).
  package func members(wan: Bool) async throws -> [SerfMember] {
    guard let members = try await get("/v1/agent/members\(wan ? "?wan=1" : "")").array else {
      throw AgentError.malformed("the members are not a list")
    }
    return try members.map { member in
      SerfMember(
        name: try required("Name", member, \.nonemptyString),
        address: IPv4Address(try required("Addr", member, \.nonemptyString)),
        status: SerfMember.Status(rawValue: try required("Status", member, \.integer)) ?? .none,
        isServer: member["Tags"]?["role"]?.string == "consul",
        bootstrapExpect: member["Tags"]?["expect"]?.string.flatMap { Int64($0) },
        nodeID: member["Tags"]?["id"]?.nonemptyString,
        version: member["Tags"]?["build"]?.string.flatMap { ConsulVersion(build: $0) })
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

  /// Autopilot's configuration with the index of its last change, for a check-and-set.
  package struct AutopilotConfiguration: Sendable, Equatable {
    package let document: JSONValue
    package let index: Int64

    package init(document: JSONValue, index: Int64) { (self.document, self.index) = (document, index) }
  }

  /// `/v1/operator/autopilot/configuration`, which needs `operator:read` where ACLs are on.
  package func autopilotConfiguration() async throws -> AutopilotConfiguration {
    let document = try await get("/v1/operator/autopilot/configuration", limit: Self.maximumStatusBytes)
    return AutopilotConfiguration(document: document, index: try required("ModifyIndex", document, \.integer))
  }

  /// `PUT /v1/operator/autopilot/configuration?cas=`, which needs `operator:write` where ACLs are on. What the document
  /// lacks is set to zero (1.8.7): it must be a whole one.
  /// - Returns: false if the configuration has changed since.
  package func setAutopilotConfiguration(_ configuration: AutopilotConfiguration) async throws -> Bool {
    let response = try await send(
      "PUT", "/v1/operator/autopilot/configuration?cas=\(configuration.index)", limit: Self.maximumStatusBytes,
      body: Array(configuration.document.compactText.utf8))
    return response.text.contains("true")
  }

  private func required<Value>(
    _ key: String, _ object: JSONValue?, _ read: (JSONValue) -> Value?
  ) throws(AgentError) -> Value {
    guard let value = object?[key].flatMap(read) else { throw .malformed("\(key) is missing or of another type") }
    return value
  }

  func get(_ path: String, limit: Int = maximumBytes) async throws -> JSONValue {
    let response = try await send("GET", path, limit: limit)
    do {
      return try JSONValue(parsing: response.body)
    } catch {
      throw AgentError.malformed("not JSON: \(error.explained)")
    }
  }

  private func send(
    _ method: String, _ path: String, limit: Int = maximumBytes, body: [UInt8] = []
  ) async throws -> HTTPResponse {
    try await exchange(method, path, body: body, limit: limit, accepting: [200])
  }

  /// - Parameter accepting: HTTP statuses of an answer that can be used.
  func exchange(
    _ method: String, _ path: String, body: [UInt8] = [], limit: Int = maximumBytes, accepting: Set<Int>
  ) async throws -> HTTPResponse {
    var request = HTTPRequest(method, base + path)
    request.body = body
    request.maximumBodyBytes = limit
    request.timeout = timeout
    request.connectTimeout = timeout
    if let token { request.headers.append(("X-Consul-Token", token.value)) }
    let response: HTTPResponse
    do {
      response = try await transport.send(request)
    } catch let error as TransportError {
      throw AgentError.transport(error)
    }
    guard accepting.contains(response.status) else {
      throw AgentError.refused(status: response.status, message: String(response.text.prefix(200)))
    }
    return response
  }
}

extension JSONValue {
  fileprivate var nonemptyString: String? { string.flatMap { $0.isEmpty ? nil : $0 } }
}
