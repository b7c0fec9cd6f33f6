internal import Base
internal import Consul
internal import Decisions
internal import Sidecar

/// What `leave --dry-run` prints.
struct LeaveReport {
  private let preview: Departure.Preview

  init(_ preview: Departure.Preview) { self.preview = preview }

  private var decision: (name: String, reason: String) {
    switch preview.decision {
    case .leave(let reason): ("leave", reason)
    case .wait(let reason): ("wait", reason)
    case .stayAsLast(let reason): ("stay", reason)
    }
  }

  private var holder: String? { preview.lock.session == nil ? nil : preview.lock.instance ?? "another program" }

  var text: String {
    var lines = ["decision    \(decision.name): \(decision.reason)"]
    if let view = preview.view {
      lines.append(
        "voters      \(view.voters), a quorum is \(view.quorum); without this server \(view.others.count), a quorum is "
          + "\(view.quorumAfter), \(view.well) are well")
      lines.append("this server \(view.isVoter ? "votes" : "has no vote")\(view.isLeader ? " and leads" : "")")
      lines += view.others.map { "  \($0.node) \($0.address) \($0.isWell ? "is well" : "is not well")" }
    }
    if let holder { lines.append("lock        \(holder) leaves") }
    return lines.joined(separator: "\n") + "\n"
  }

  var json: JSONValue {
    var report: [String: JSONValue] = [
      "decision": .string(decision.name), "reason": .string(decision.reason),
      "lock": holder.map(JSONValue.string) ?? .null,
    ]
    if let view = preview.view {
      report["voters"] = .integer(Int64(view.voters))
      report["quorum"] = .integer(Int64(view.quorum))
      report["quorum_after"] = .integer(Int64(view.quorumAfter))
      report["is_voter"] = .bool(view.isVoter)
      report["is_leader"] = .bool(view.isLeader)
      report["others"] = .array(
        view.others.map {
          ["node": .string($0.node), "address": .string($0.address), "well": .bool($0.isWell)]
        })
    }
    return .object(report)
  }
}
