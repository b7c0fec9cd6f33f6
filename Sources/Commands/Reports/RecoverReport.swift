internal import Base
internal import Consul
internal import Decisions
internal import Observers

/// What `recover` prints: every server that may hold data, and what follows.
struct RecoverReport {
  private let look: OutageObserver.Look

  init(_ look: OutageObserver.Look) { self.look = look }

  private var decision: (name: String, reason: String, details: [String]) {
    switch RecoveryDecision(look.servers) {
    case .noOutage(let leader): ("none", "the cluster has a leader, \(leader)", [])
    case .wait(let reason, let missing): ("wait", reason, missing)
    case .recover(let best, _):
      ("recover", "\(best.name) has the longest log\(best == look.own ? ", and is this server" : "")", [])
    case .totalLoss: ("total loss", "no server has data, and all that had are terminated", [])
    }
  }

  var text: String {
    let (name, reason, details) = decision
    return
      (["decision    \(name): \(reason)"] + details.map { "  \($0)" } + ["servers"]
      + look.servers.map { "  \($0.explanation)" }).joined(separator: "\n") + "\n"
  }

  var json: JSONValue {
    let (name, reason, details) = decision
    return [
      "decision": .string(name), "reason": .string(reason), "missing": .strings(details),
      "servers": .array(
        look.servers.map { server in
          [
            "instance": server.instance.map(JSONValue.string) ?? .null,
            "address": server.address.map { .string($0.description) } ?? .null,
            "is_gone": .bool(server.isGone), "state": .string(server.explanation),
            "last_log": server.log.map {
              ["term": .integer(Int64(clamping: $0.term)), "index": .integer(Int64(clamping: $0.index))]
            } ?? .null,
          ]
        }),
    ]
  }
}
