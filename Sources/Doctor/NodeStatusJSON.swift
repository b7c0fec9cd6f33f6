package import Base
internal import Consul
internal import LogForwarding
internal import Model

extension NodeStatus {
  /// `hints` has one hint for each of `problems`, in the same order.
  package var json: JSONValue {
    let problems = problems
    var reportError: String?
    if case .unreadable(let reason) = report { reportError = reason }
    return .object([
      "time": .string(time.iso8601), "healthy": .bool(problems.isEmpty),
      "problems": .strings(problems.map(\.message)), "hints": .strings(problems.map(\.hint)),
      "departure": departure?.json ?? .null, "leaver": leaver.map(JSONValue.string) ?? .null,
      "notes": .strings(notes), "unknown": .strings(unknown), "agent": agent.json, "sidecar": sidecar.json,
      "forwarding": forwarding?.json ?? .null, "forwarding_error": reportError.map(JSONValue.string) ?? .null,
    ])
  }
}

extension NodeStatus.Agent {
  fileprivate var json: JSONValue {
    var alive: Int64?, aliveReason: String?
    switch members {
    case .known: alive = aliveServers.map { Int64($0.count) }
    case .hiddenByACLs: aliveReason = "hidden by ACLs"
    case .unknown(let reason): aliveReason = reason
    }
    return .object([
      "address": .string(address), "error": silence.map { .string($0.reason) } ?? .null,
      "configuration_error": configurationError.map(JSONValue.string) ?? .null,
      "leader": leader.map(JSONValue.string) ?? .null, "raft_peers": .integer(Int64(peers.count)),
      "alive_servers": alive.map(JSONValue.integer) ?? .null,
      "alive_servers_reason": aliveReason.map(JSONValue.string) ?? .null,
      "server_versions": .object(
        Dictionary(serverVersions.map { ($0.name, .string($0.version.description)) }) { first, _ in first }),
      "datacenter": running.value?.datacenter.map(JSONValue.string) ?? .null,
    ])
  }
}
