internal import Base
internal import Model

/// Monitors an agent that systemd or Docker runs, through their command-line tools.
struct BackgroundAgent: AgentMonitor {
  let runner: AgentRunner
  let context: RuntimeContext

  /// Both tools ask a local service; one that hangs must not hold the health check.
  private static let timeout = Duration.seconds(5)
  /// An agent that was restarted this often before its first answer will not come up.
  private static let restartLimit = 3

  func crashReason() async -> String? {
    switch runner {
    case .docker(let client): await containerCrashReason(client)
    case .systemd, .supervisor: await unitCrashReason()
    }
  }

  func lastLines() async -> [String] {
    let command =
      switch runner {
      case .docker(let client): Command(client, ["logs", "--tail", "60", DockerContainer.agentName])
      case .systemd, .supervisor:
        Command("/bin/journalctl", ["--unit=\(SystemdUnit.name)", "--lines=60", "--no-pager", "--output=cat"])
      }
    do {
      return try await context.launcher.run(command, timeout: Self.timeout).output
        .split(whereSeparator: \.isNewline).map(String.init)
    } catch {
      return ["cannot read the agent's log: \(error.explained)"]
    }
  }

  private func unitCrashReason() async -> String? {
    let command = Command.systemctl("show", "--property=NRestarts,ActiveState,Result", SystemdUnit.name)
    guard let properties = await result(of: command)?.unitProperties else { return nil }
    if properties["ActiveState"] == "failed" {
      return "\(SystemdUnit.name) has failed (result: \(properties["Result"] ?? "unknown"))"
    }
    guard let restarts = properties["NRestarts"].flatMap({ Int($0) }), restarts >= Self.restartLimit else {
      return nil
    }
    return "systemd has restarted \(SystemdUnit.name) \(restarts) times"
  }

  private func containerCrashReason(_ client: String) async -> String? {
    let name = DockerContainer.agentName
    let format = "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}"
    guard let result = await result(of: Command(client, ["container", "inspect", "--format", format, name])) else {
      return nil
    }
    let words = result.output.split(whereSeparator: \.isWhitespace)
    guard words.count >= 3, let restarts = Int(words[0]) else { return nil }
    if words[1] == "exited" { return "container \(name) exited with status \(words[2])" }
    return restarts >= Self.restartLimit ? "Docker has restarted container \(name) \(restarts) times" : nil
  }

  /// Nil if the command fails: an unknown state is no reason to give up on the agent.
  private func result(of command: Command) async -> CommandResult? {
    let reason: String
    do {
      let result = try await context.launcher.run(command, timeout: Self.timeout)
      if result.succeeded { return result }
      reason = result.failureText(of: command)
    } catch is CancellationError {
      return nil
    } catch {
      reason = error.explained
    }
    context.log.debug("cannot read the state of the agent", ["reason": .string(reason)])
    return nil
  }
}
