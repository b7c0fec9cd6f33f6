internal import Model
internal import Base
internal import Doctor
internal import LogForwarding

extension Subcommand {
  static let status = Subcommand(
    "status", usage: "[--check] [--json]", summary: "show this node, its quorum and its log forwarding",
    explanation:
      "status shows the state of the agent, its cluster, the sidecar and log forwarding, without calling AWS. "
      + "With --check it prints only problems, each with a hint, and exits with status 1 if there are any.",
    optionSource: .lastRun, ownOptions: ["check"]
  ) { await StatusCommand(options: $0.options, dependencies: $0.dependencies).run() }
}

struct StatusCommand: Sendable {
  let options: Options
  let dependencies: CommandDependencies

  func run() async -> ExitStatus {
    let status = await NodeStatus.observe(options.settings, context: dependencies.context)
    let problems = status.problems
    if options.wantsJSON {
      dependencies.output.write(status.json.prettyText)
    } else if options.checks {
      dependencies.output.write(problems.map { Self.text($0) + "\n" }.joined())
    } else {
      dependencies.output.write(Self.text(status))
    }
    return options.checks && !problems.isEmpty ? .problemsFound : .done
  }

  static func text(_ status: NodeStatus) -> String {
    let problems = status.problems
    var lines = text(status.agent) + departure(status) + sidecar(status.sidecar) + forwarding(status)
    lines += status.notes.map { "note        \($0)" }
    lines += status.unknown.map { "unknown     hidden by ACLs: \($0)" }
    lines +=
      problems.isEmpty
      ? [status.unknown.isEmpty ? "no problems" : "no problems in what can be seen"]
      : ["problems:"] + problems.map { text($0, indent: "  ") }
    return lines.joined(separator: "\n") + "\n"
  }

  private static func text(_ problem: Problem, indent: String = "") -> String {
    "\(indent)\(problem.message)\n\(indent)  hint: \(problem.hint)"
  }

  private static func text(_ agent: NodeStatus.Agent) -> [String] {
    if let silence = agent.silence { return ["agent       does not answer on \(agent.address): \(silence.reason)"] }
    let alive =
      switch agent.members {
      case .known: "\(agent.aliveServers?.count ?? 0) alive"
      case .hiddenByACLs: "number of alive servers hidden by ACLs"
      case .unknown(let reason): "number of alive servers unknown (\(reason))"
      }
    return [
      "agent       answers on \(agent.address), leader \(agent.leader ?? "unknown")",
      "servers     \(agent.peers.count) in raft, \(alive), a quorum is \(agent.quorum)",
    ] + (agent.serverVersions.isEmpty ? [] : ["versions    \(agent.versionText)"])
  }

  private static func departure(_ status: NodeStatus) -> [String] {
    var lines: [String] = []
    if let departure = status.departure {
      lines.append("departure   \(departure.phase.rawValue) (\(departure.source.rawValue)): \(departure.reason)")
    }
    if let leaver = status.leaver { lines.append("lock        \(leaver) leaves") }
    return lines
  }

  private static func sidecar(_ sidecar: SidecarStatus) -> [String] {
    switch sidecar.report {
    case .absent: sidecar.isExpected ? ["sidecar     no report"] : []
    case .unreadable: ["sidecar     unreadable report"]
    case .present(let report, let age): ["sidecar     process \(report.pid), reported \(age.humanReadable) ago"]
    }
  }

  private static func forwarding(_ status: NodeStatus) -> [String] {
    switch status.report {
    case .absent: return ["forwarding  \(status.expectsForwarding ? "no report" : "off (no --log)")"]
    case .unreadable: return ["forwarding  unreadable report"]
    case .present(let report):
      var lines = ["forwarding  by process \(report.pid), reported \(ago(report.time, status.time))"]
      lines += report.streams.flatMap { text($0, status.time) }
      return lines + (report.agent.map(text) ?? [])
    }
  }

  private static func text(_ agent: LogAgentReport) -> [String] {
    ["            \(agent.name) \(agent.isRunning ? "is running" : "is not running")"]
      + agent.streams.flatMap { stream in
        [
          "  \(stream.source): \(stream.isStalled ? "stalled" : "ok") -> \(stream.group) \(stream.stream)",
          "    last line \(stream.lastLine.map(\.iso8601) ?? "none"), "
            + "last event received \(stream.lastEvent.map(\.iso8601) ?? "none")"
            + (stream.error.map { "; \($0)" } ?? ""),
        ]
      }
  }

  private static func text(_ stream: ForwardingReport.Stream, _ now: Timestamp) -> [String] {
    let status = stream.status, losses = status.losses
    let behind = status.behindBytes.map { "\(bytes($0)) behind" } ?? "bytes behind unknown"
    let acknowledged = status.lastAcknowledged.map { ago($0, now) } ?? "never"
    var lines = [
      "  \(status.source): \(stream.condition.humanReadable) -> \(status.group) \(status.stream)",
      "    \(status.sentEvents) events, \(bytes(status.sentBytes)) sent; \(behind), lag \(stream.lag.humanReadable); "
        + "last acknowledged \(acknowledged)",
    ]
    if [status.retries, status.rejected, losses.lines, losses.bytes, losses.files].contains(where: { $0 > 0 }) {
      lines.append(
        "    \(status.retries) retries, \(status.rejected) rejected, "
          + "lost: \(losses.lines) lines, \(bytes(losses.bytes)), \(losses.files) files")
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
