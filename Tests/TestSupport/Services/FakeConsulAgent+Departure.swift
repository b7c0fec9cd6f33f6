internal import Base

/// Sessions, the lock to leave, and the calls that take a server out of its cluster.
extension FakeConsulAgent.State {
  mutating func departure(_ request: HTTPRequest, _ path: String, query: String) throws -> HTTPResponse {
    let value = query.split(separator: "=").last.map(String.init) ?? ""
    switch (request.method, path) {
    case ("PUT", "/v1/session/create"):
      let id = "session-\(sessions.count + changes.count + 1)"
      sessions.insert(id)
      return Self.answer(["ID": .string(id)])
    case ("PUT", "/v1/kv/consul-bootstrap/leave"):
      guard leader != nil else { return HTTPResponse(status: 500, body: Array("No cluster leader".utf8)) }
      if query.hasPrefix("release=") {
        if leaveLock?.session == value { leaveLock = nil }
        return HTTPResponse(status: 200, body: Array("true".utf8))
      }
      if leaveLock == nil || leaveLock?.session == value {
        let body = try JSONValue(parsing: request.body)
        leaveLock = (value, body["instance"]?.string ?? "")
      }
      return HTTPResponse(status: 200, body: Array("\(leaveLock?.session == value)".utf8))
    case ("GET", "/v1/kv/consul-bootstrap/leave"):
      guard leaveLock != nil || leaveIndex > 0 else { return HTTPResponse(status: 404, body: []) }
      let instance = leaveLock?.instance ?? "i-0bbb"
      let body = JSONValue.object(["instance": .string(instance), "pid": .integer(leavePID)]).compactText
      var entry: [String: JSONValue] = [
        "Key": "consul-bootstrap/leave", "Value": .string(Base64.encode(Array(body.utf8))),
        "ModifyIndex": .integer(leaveIndex),
      ]
      if let lock = leaveLock { entry["Session"] = .string(lock.session) }
      return Self.answer([.object(entry)])
    case ("POST", "/v1/operator/raft/transfer-leader"):
      guard handsOver else { return HTTPResponse(status: 404, body: []) }
      changes.append("transfer \(value)")
      leader = servers.first { $0.id == value }?.address
    case ("PUT", "/v1/agent/leave"):
      changes.append("leave")
      leaveLock = nil
      for index in members.indices where leavesGossip && members[index].name == "own" { members[index].status = 3 }
      if endsOnLeave { failure = .refused }
      onLeave?()
    case ("PUT", "/v1/agent/maintenance"): changes.append("maintenance")
    default: forgotten("an answer of the Consul agent to \(request.method) \(path)")
    }
    return HTTPResponse(status: 200, body: [])
  }

  mutating func session(_ path: String) -> HTTPResponse {
    let id = String(path.split(separator: "/").last ?? "")
    guard sessions.contains(id) else { return HTTPResponse(status: 404, body: []) }
    if path.contains("/destroy/") {
      sessions.remove(id)
      if leaveLock?.session == id { leaveLock = nil }
    }
    return HTTPResponse(status: 200, body: Array("true".utf8))
  }

  private static func answer(_ value: JSONValue) -> HTTPResponse {
    HTTPResponse(status: 200, body: Array(value.compactText.utf8))
  }
}
