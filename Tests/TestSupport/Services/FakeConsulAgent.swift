package import Base
package import Consul

/// One Consul agent, with a state that the test changes: its HTTP API, and its server's port 8300 where it has one.
package final class FakeConsulAgent: Sendable {
  package struct Server: Sendable, Equatable {
    package var id: String
    package var node: String
    package var address: String
    package var isVoter: Bool

    package init(_ node: String, _ address: String, id: String? = nil, isVoter: Bool = true) {
      (self.node, self.address, self.isVoter) = (node, address, isVoter)
      self.id = id ?? "id-\(node)"
    }
  }

  package struct Member: Sendable, Equatable {
    package var name: String
    package var ip: String
    /// serf's: 1 alive, 2 leaving, 3 left, 4 failed.
    package var status: Int64
    package var isServer: Bool
    /// serf's tag; nil: the server joins.
    package var expect: Int?
    /// serf's tag.
    package var build: String?

    package init(_ name: String, _ ip: String, status: Int64 = 1, isServer: Bool = true, expect: Int? = nil) {
      (self.name, self.ip, self.status, self.isServer, self.expect) = (name, ip, status, isServer, expect)
    }
  }

  package struct State: Sendable {
    package var nodeName = "node"
    package var nodeID = "id-own"
    /// `address:8300`; nil is the answer without a leader.
    package var leader: String?
    /// The end of the raft log.
    package var lastLog = LogPosition(term: 0, index: 0)
    /// `address:8300` of each raft peer.
    package var peers: [String] = []
    package var servers: [Server] = []
    package var members: [Member] = []
    package var wanMembers: [Member] = []
    /// `node_meta.instance_id` by name, of the nodes in the catalog.
    package var catalog: [String: String] = [:]
    /// Members of `/v1/agent/self` besides `Config.NodeName`.
    package var agentSelf: [String: JSONValue] = [:]
    /// Value of the key `consul-bootstrap/cluster`, as the leader has it; nil: there is none.
    package var identity: JSONValue? = ["cluster": "11111111-2222-4333-8444-555555555555", "epoch": 1]
    /// The same in this agent's own data, where that differs.
    package var ownIdentity: JSONValue?
    /// Indexes of this agent's last applied entry, and of the leader's last entry as autopilot reports it.
    package var appliedIndex: Int64 = 10
    package var leaderLastIndex: Int64 = 10
    /// The token that every path but `/v1/status` needs; nil is an agent without ACLs.
    package var requiredToken: String?
    /// Of the whole agent.
    package var failure: TransportError?
    /// By path without the query: an answer other than 200.
    package var refusals: [String: (status: Int, message: String)] = [:]
    /// Autopilot's configuration; its `ModifyIndex` counts the writes.
    package var autopilot: [String: JSONValue] = [:]
    /// So many writes come after one of another program.
    package var autopilotConflicts = 0
    fileprivate var autopilotWrites: Int64 = 0
    /// The session that holds the lock to leave, and the instance that its holder names.
    package var leaveLock: (session: String, instance: String)?
    /// Of the process that the holder names.
    package var leavePID: Int64 = 4711
    /// Of the last change of the lock.
    package var leaveIndex: Int64 = 0
    /// Sessions that live.
    package var sessions: Set<String> = []
    /// Autopilot's word by raft's ID; a server that is missing here is healthy unless this is empty.
    package var health: [String: Bool] = [:]
    /// Autopilot's `StableSince` of the servers in `health`.
    package var stableSince = "2020-01-01T00:00:00Z"
    /// Whether the release can hand leadership over; to the server with the ID.
    package var handsOver = false
    /// Whether member `own` has left gossip as soon as the agent leaves.
    package var leavesGossip = true
    /// Whether the agent refuses connections once it has left.
    package var endsOnLeave = false
    /// What happens when the agent leaves.
    package var onLeave: (@Sendable () -> Void)?
    /// What happens once a raft peer or a member is removed.
    package var onRemoval: (@Sendable (inout State) -> Void)?
    /// Calls that change something, in order: `leave`, `transfer ID`, `maintenance`.
    package var changes: [String] = []
    fileprivate var joins: [String] = []
    fileprivate var removals: [String] = []
    fileprivate var reloads = 0
  }

  private let state = Watched(State())
  /// `10.0.1.5:8500`.
  package let address: String

  /// Known under the transport of `context` at once, unless on the loopback address also under its streams.
  package init(
    _ context: TestContext, at address: String = "127.0.0.1:8500", _ set: @Sendable (inout State) -> Void = { _ in }
  ) {
    self.address = address
    state.update(set)
    context.transport.on("http://\(address)/") { try self.answer($0) }
    guard let host = address.split(separator: ":").first, host != "127.0.0.1" else { return }
    context.streams.on("\(host):8300") { request in
      let state = self.state.value
      guard state.failure == nil else { throw StreamError.refused }
      if request.body.contains(Array("KVS.Get".utf8)) {
        return try RaftPortAnswer.key(state.identity, token: state.requiredToken, request.body)
      }
      return RaftPortAnswer.status(ClusterStatus(leader: state.leader, peers: state.peers, lastLog: state.lastLog))
    }
  }

  package func set(_ change: @Sendable (inout State) -> Void) { state.update(change) }

  /// A cluster of these servers, the first of which leads: status, raft configuration and members agree.
  package func setCluster(_ servers: [(name: String, ip: String)]) {
    state.update { state in
      state.leader = servers.first.map { "\($0.ip):8300" }
      state.peers = servers.map { "\($0.ip):8300" }
      state.servers = servers.map { Server($0.name, "\($0.ip):8300") }
      state.members = servers.map { Member($0.name, $0.ip) }
    }
  }

  /// Addresses in the order in which they were joined, `wan ` before those of the WAN pool.
  package var joins: [String] { state.value.joins }
  /// `raft NAME` of each peer that was removed, and `leave NAME`, `prune NAME` of each member.
  package var removals: [String] { state.value.removals }
  package func removed(_ count: Int = 1) async throws -> [String] {
    try await state.wait { $0.removals.count >= count ? $0.removals : nil }
  }

  package var identity: JSONValue? { state.value.identity }
  package var reloads: Int { state.value.reloads }
  package var changes: [String] { state.value.changes }
  package var leaveLock: (session: String, instance: String)? { state.value.leaveLock }
  package func changed(_ change: String) async throws {
    try await state.wait { $0.changes.contains(change) ? () : nil }
  }
  package var autopilot: [String: JSONValue] { state.value.autopilot }
  package var autopilotWrites: Int64 { state.value.autopilotWrites }

  package func reloaded(times: Int = 1) async throws { try await state.wait { $0.reloads >= times ? () : nil } }
  package func joined(_ count: Int = 1) async throws -> [String] {
    try await state.wait { $0.joins.count >= count ? $0.joins : nil }
  }

  private func answer(_ request: HTTPRequest) throws -> HTTPResponse {
    let rest = String(request.url.dropFirst("http://\(address)".count))
    let parts = rest.split(separator: "?", maxSplits: 1).map(String.init)
    let path = parts[0], isWAN = parts.count > 1 && parts[1] == "wan=1"
    return try state.update { state in
      if let failure = state.failure { throw failure }
      if let refusal = state.refusals[path] {
        return HTTPResponse(status: refusal.status, body: Array(refusal.message.utf8))
      }
      if let token = state.requiredToken, !path.hasPrefix("/v1/status/"), request.header("X-Consul-Token") != token {
        return HTTPResponse(status: 403, body: Array("Permission denied".utf8))
      }
      let prefix = "/v1/agent/join/", leave = "/v1/agent/force-leave/"
      switch (request.method, path) {
      case ("GET", "/v1/kv/consul-bootstrap/cluster"):
        let own = parts.count > 1 && parts[1].contains("stale") ? state.ownIdentity : nil
        guard let value = own ?? state.identity else { return HTTPResponse(status: 404, body: []) }
        return HTTPResponse(status: 200, body: Array(value.compactText.utf8))
      case ("PUT", "/v1/kv/consul-bootstrap/cluster"):
        if state.identity == nil { state.identity = try JSONValue(parsing: request.body) }
        return HTTPResponse(status: 200, body: Array("true".utf8))
      case ("GET", "/v1/operator/autopilot/health"):
        let servers: [JSONValue] = state.health.sorted { $0.key < $1.key }.map { id, isHealthy in
          let address = state.servers.first { $0.id == id }?.address ?? ""
          return [
            "ID": .string(id), "Healthy": .bool(isHealthy), "Address": .string(address),
            "StableSince": .string(state.stableSince),
          ]
        }
        let health: JSONValue = [
          "Healthy": false,
          "Servers": .array([["Leader": true, "LastIndex": .integer(state.leaderLastIndex)]] + servers),
        ]
        return HTTPResponse(status: 429, body: Array(health.compactText.utf8))
      case (_, "/v1/session/create"), (_, "/v1/kv/consul-bootstrap/leave"),
        (_, "/v1/operator/raft/transfer-leader"), (_, "/v1/agent/leave"), (_, "/v1/agent/maintenance"):
        return try state.departure(request, path, query: parts.count > 1 ? parts[1] : "")
      case (_, _) where path.hasPrefix("/v1/session/"): return state.session(path)
      case ("PUT", "/v1/agent/reload"):
        state.reloads += 1
        return HTTPResponse(status: 200, body: [])
      case ("PUT", "/v1/operator/autopilot/configuration"):
        let isSet = try state.setAutopilot(request.body, index: parts.count > 1 ? parts[1] : "")
        return HTTPResponse(status: 200, body: Array("\(isSet)\n".utf8))
      case ("DELETE", "/v1/operator/raft/peer"):
        state.removePeer(parts.count > 1 ? String(parts[1].dropFirst("id=".count)) : "")
        return HTTPResponse(status: 200, body: [])
      case ("PUT", _) where path.hasPrefix(leave):
        state.forceLeave(String(path.dropFirst(leave.count)), isPruned: parts.count > 1)
        return HTTPResponse(status: 200, body: [])
      case ("PUT", _) where path.hasPrefix(prefix):
        state.joins.append((isWAN ? "wan " : "") + path.dropFirst(prefix.count))
        return HTTPResponse(status: 200, body: [])
      case ("GET", _):
        guard let value = state.value(at: path, isWAN: isWAN) else { fallthrough }
        return HTTPResponse(status: 200, body: Array(value.compactText.utf8))
      default: forgotten("an answer of the Consul agent to \(request.method) \(rest)")
      }
    }
  }
}

extension FakeConsulAgent.State {
  fileprivate mutating func removePeer(_ id: String) {
    guard let server = servers.first(where: { $0.id == id }) else { forgotten("a raft peer \(id)") }
    removals.append("raft \(server.node)")
    servers.removeAll { $0.id == id }
    peers.removeAll { $0 == server.address }
    onRemoval?(&self)
  }

  fileprivate mutating func forceLeave(_ name: String, isPruned: Bool) {
    removals.append("\(isPruned ? "prune" : "leave") \(name)")
    members.removeAll { $0.name == name && $0.status == 4 }
    catalog[name] = nil
    onRemoval?(&self)
  }

  /// - Parameter index: `cas=INDEX`.
  fileprivate mutating func setAutopilot(_ body: [UInt8], index: String) throws -> Bool {
    if autopilotConflicts > 0 {
      autopilotConflicts -= 1
      autopilotWrites += 1
    }
    guard index == "cas=\(autopilotWrites)" else { return false }
    autopilot = (try JSONValue(parsing: body).object ?? [:]).filter { $0.key != "ModifyIndex" }
    autopilotWrites += 1
    return true
  }

  fileprivate func value(at path: String, isWAN: Bool) -> JSONValue? {
    switch path {
    case "/v1/operator/autopilot/configuration":
      return .object(autopilot.merging(["ModifyIndex": .integer(autopilotWrites)]) { $1 })
    case "/v1/status/leader": return .string(leader ?? "")
    case "/v1/status/peers": return .strings(peers)
    case "/v1/agent/self":
      let own: [String: JSONValue] = [
        "Config": ["NodeName": .string(nodeName), "NodeID": .string(nodeID)],
        "Stats": [
          "raft": ["applied_index": .string(String(appliedIndex))],
          "serf_lan": ["failed": .string(String(members.count { $0.status == 4 }))],
        ],
      ]
      return .object(agentSelf.merging(own) { $1.merging($0) })
    case "/v1/operator/raft/configuration":
      let list = servers.map { server -> JSONValue in
        [
          "ID": .string(server.id), "Node": .string(server.node), "Address": .string(server.address),
          "Leader": .bool(server.address == leader), "Voter": .bool(server.isVoter),
        ]
      }
      return .object(["Servers": .array(list), "Index": 1])
    case "/v1/catalog/nodes":
      return .array(
        catalog.sorted { $0.key < $1.key }.map { name, instance in
          [
            "ID": .string("id-\(name)"), "Node": .string(name), "Address": "10.0.0.1",
            "Meta": ["instance_id": .string(instance)],
          ]
        })
    case "/v1/agent/members":
      return .array(
        (isWAN ? wanMembers : members).map { member in
          [
            "Name": .string(member.name), "Addr": .string(member.ip), "Status": .integer(member.status),
            "Tags": .object(
              ["role": .string(member.isServer ? "consul" : "node"), "id": .string("id-\(member.name)")].merging(
                member.expect.map { ["expect": .string(String($0))] } ?? [:]
              ) { first, _ in first }.merging(
                member.build.map { ["build": .string($0)] } ?? [:]
              ) { first, _ in first }),
          ]
        })
    default: return nil
    }
  }
}
