package import Base
package import Consul

/// The agent's configuration in Consul's own keys (Consul documentation, "Agents Configuration File Reference").
package struct AgentConfiguration: Sendable, Equatable {
  package let value: JSONValue

  /// The bytes of the file: equal settings give equal bytes.
  package var text: String { value.prettyText }
  package var redactedText: String { Redaction.redacted(value).prettyText }

  package init(
    _ settings: Settings, identity: Identity, decision: ClusterDecision, peers: [IPv4Address], version: ConsulVersion
  ) {
    var keys: [String: JSONValue] = [
      "datacenter": .string(settings.datacenter),
      "node_name": .string(settings.nodeName.expanded(for: identity)),
      "data_dir": .string(settings.dataDirectory),
      "log_level": .string(settings.consulLogLevel.uppercased()),
      "client_addr": .string(settings.clientAddress ?? "127.0.0.1 \(identity.privateIP)"),
      "bind_addr": .string(identity.privateIP.description),
      "server": true,
      "leave_on_terminate": .bool(settings.leaveOnTerminate),
      "retry_join": .strings(peers.map(\.description)),
      "retry_interval": .string(settings.retryInterval.goText),
      "performance": ["raft_multiplier": .integer(Int64(settings.raftMultiplier))],
      "autopilot": ["server_stabilization_time": .string(settings.serverStabilizationTime.goText)],
    ]
    if case .newCluster(let expect, _) = decision { keys["bootstrap_expect"] = .integer(Int64(expect)) }
    if settings.ui {
      // Consul 1.9 moved the switch into a block.
      if version >= ConsulVersion(1, 9) { keys["ui_config"] = ["enabled": true] } else { keys["ui"] = true }
    }
    value = settings.overlays.reduce(.object(keys)) { $0.merging($1.value) }
  }

  /// Keys that matter only while an agent starts: a change of these alone needs nothing of a running agent.
  package static let joinKeys: Set = ["bootstrap_expect", "retry_join", "retry_interval", "retry_max"]

  /// The top-level keys in which two configurations differ.
  package static func changedKeys(_ old: JSONValue?, _ new: JSONValue) -> Set<String> {
    let old = old?.object ?? [:], new = new.object ?? [:]
    return Set(old.keys).union(new.keys).filter { old[$0] != new[$0] }
  }
}

extension Duration {
  /// As Go's `time.ParseDuration` reads it: `1s`, `1m30s` as `90s`, `500ms`.
  package var goText: String {
    let milliseconds = wholeMilliseconds
    return milliseconds % 1000 == 0 ? "\(milliseconds / 1000)s" : "\(milliseconds)ms"
  }
}
