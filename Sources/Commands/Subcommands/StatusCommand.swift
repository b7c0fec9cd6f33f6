internal import Base
internal import Doctor
internal import Decisions
internal import Model
internal import LogForwarding

extension Subcommand {
  static let status = Subcommand(
    "status", usage: "[--check] [--json]", summary: "show this node, its quorum and its log forwarding",
    explanation: "status shows the state of the agent, its quorum and its log forwarding. With --check it prints only "
      + "problems, and exits with status 1 if there are any.",
    optionSource: .lastRun, ownOptions: ["check"]
  ) { await StatusCommand(options: $0.options, dependencies: $0.dependencies).run() }
}

struct StatusCommand: Sendable {
  let options: Options
  let dependencies: CommandDependencies

  func run() async -> Int32 {
    let status = await NodeStatus.observe(options.settings, context: dependencies.context)
    let problems = status.problems
    if options.wantsJSON {
      dependencies.output.write(status.json.prettyText)
    } else if options.checks {
      dependencies.output.write(problems.map { $0 + "\n" }.joined())
    } else {
      dependencies.output.write(Self.text(status))
    }
    return options.checks && !problems.isEmpty ? 1 : 0
  }

  static func text(_ status: NodeStatus) -> String {
    let agent = status.agent
    var lines: [String] = []
    if let error = agent.error {
      lines.append("agent       does not answer on \(agent.address): \(error)")
    } else {
      lines.append("agent       answers on \(agent.address), leader \(agent.leader ?? "unknown")")
      let alive = agent.aliveServers.map { "\($0) alive" } ?? "how many live is not to be seen (ACLs)"
      lines.append("servers     \(agent.raftPeers) in raft, \(alive), a quorum is \(agent.quorum)")
    }
    if let forwarding = status.forwarding {
      lines.append("forwarding  by process \(forwarding.pid), as of \(ago(forwarding.time, status.time))")
      for stream in forwarding.streams { lines += text(stream, status.time) }
      if let external = forwarding.agent {
        lines.append("            \(external.name) \(external.isRunning ? "is running" : "is not running")")
        for stream in external.streams {
          lines.append("  \(stream.source): \(stream.isStalled ? "stalled" : "ok") -> \(stream.group) \(stream.stream)")
          lines.append(
            "    last line \(stream.lastLine.map(\.iso8601) ?? "none"), last event received \(stream.lastEvent.map(\.iso8601) ?? "none")"
              + (stream.error.map { "; \($0)" } ?? ""))
        }
      }
    } else {
      lines.append("forwarding  " + (status.expectsForwarding ? "no sidecar has reported" : "none (--log)"))
    }
    let problems = status.problems
    lines.append(problems.isEmpty ? "all is well" : "to be looked at:")
    return (lines + problems.map { "  \($0)" }).joined(separator: "\n") + "\n"
  }

  private static func text(_ stream: ForwardingReport.Stream, _ now: Timestamp) -> [String] {
    let status = stream.status
    var lines = ["  \(status.source): \(stream.condition.humanReadable) -> \(status.group) \(status.stream)"]
    let behind = status.behindBytes.map { "\(bytes($0)) behind" } ?? "bytes behind unknown"
    lines.append(
      "    \(status.sentEvents) events, \(bytes(status.sentBytes)) sent; \(behind), lag \(stream.lag.humanReadable); last acknowledged "
        + (status.lastAcknowledged.map { ago($0, now) } ?? "never"))
    let losses = status.losses
    if status.retries + status.rejected + losses.lines + losses.bytes + losses.files > 0 {
      lines.append(
        "    \(status.retries) retries, \(status.rejected) rejected, lost: \(losses.lines) lines, \(bytes(losses.bytes))"
          + (losses.files > 0 ? ", \(losses.files) times a file before it was read" : ""))
    }
    if let error = status.lastError { lines.append("    \(error)") }
    return lines
  }

  private static func ago(_ time: Timestamp, _ now: Timestamp) -> String {
    "\(max(.zero, now - time).humanReadable) ago"
  }

  private static func bytes(_ count: Int64) -> String {
    var value = Double(count), unit = 0
    let units = ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000, unit < units.count - 1 {
      value /= 1000
      unit += 1
    }
    return unit == 0 ? "\(count) B" : "\(Double(Int(value * 10)) / 10) \(units[unit])"
  }
}
