internal import Base
internal import Consul
internal import Model

/// Steps that start, stop and reload services.
extension StepExecutor {
  /// systemctl and docker wait for a stop: as long as the unit gives an agent to leave, and a margin.
  static let commandTimeout = Duration.seconds(90)
  private static let reloadTimeout = Duration.seconds(10)

  func reload(agentAt address: String, token: Secret?) async throws {
    let client = AgentClient(
      address: address, token: token, transport: context.transport, timeout: Self.reloadTimeout)
    do {
      try await client.reload()
    } catch let error as AgentError {
      var hint = "check the agent's log, and reload the agent with consul reload"
      if case .refused(status: 403, _) = error { hint = "give the agent's token agent:write on its node" }
      throw Failure(.agentNotStarted, "cannot reload the running agent", details: [error.explanation], hint: hint)
    }
  }

  /// Restarts the sidecar if its unit or its options have changed: a restart loses no state.
  func run(_ unit: SidecarUnit) async throws -> Bool {
    let hasNewOptions = try writeIfChanged(unit.optionsPath, unit.options, mode: 0o640, owner: nil)
    let hasNewUnit = try writeUnit(SidecarUnit.path, unit.text)
    let isChanged = hasNewOptions || hasNewUnit
    if hasNewUnit { try await run(.systemctl("daemon-reload")) }
    try await run(.systemctl("enable", SidecarUnit.name))
    // The configuration file may have changed since the sidecar started.
    try await run(.systemctl(isChanged ? "restart" : "reload-or-restart", SidecarUnit.name))
    return isChanged
  }

  // MARK: Log agents

  /// A configuration that the agent does not take is undone, so that a second run tries it again.
  func setUp(_ configuration: LogAgentConfiguration) async throws -> Bool {
    let agent = configuration.agent
    let unit = try await installedUnit(of: agent)
    let previous = try context.files.readIfPresent(agent.path)
    try context.files.createDirectory(parentDirectory(of: agent.path), mode: 0o755, owner: nil)
    let isNew = try writeIfChanged(agent.path, configuration.text, mode: 0o644, owner: nil)
    do {
      if isNew, let command = agent.command { try await run(command) }
      try await run(.systemctl("enable", unit))
      try await run(.systemctl(isNew && agent.command == nil ? "restart" : "start", unit))
    } catch {
      if isNew { restore(agent.path, previous) }
      throw error
    }
    return isNew
  }

  private func installedUnit(of agent: LogAgentConfiguration.Agent) async throws -> String {
    var missing = "unit \(agent.units.joined(separator: " or "))"
    if let program = agent.command?.program, !context.files.isExecutable(program) {
      missing = "program \(program)"
    } else {
      for unit in agent.units {
        let result = try await context.launcher.run(.systemctl("cat", unit), timeout: Self.commandTimeout)
        if result.succeeded { return unit }
      }
    }
    throw Failure(
      .agentNotStarted, "\(agent.name) is not installed", details: ["there is no \(missing)"],
      hint: "install it in the image, or omit --log-agent: consul-bootstrap then forwards the logs itself")
  }

  private func restore(_ path: String, _ previous: [UInt8]?) {
    do {
      if let previous {
        try context.files.write(path, previous, mode: 0o644, owner: nil)
      } else {
        try context.files.removeFile(path)
      }
    } catch {
      context.log.warning("cannot undo the change of \(path)", ["reason": .string(error.explained)])
    }
  }

  // MARK: Containers

  /// `docker inspect` prints whether the container runs and the command that created it.
  func run(_ container: DockerContainer) async throws -> Bool {
    let docker = { (arguments: [String]) in Command(container.docker, arguments) }
    let format = "{{.State.Running}} {{index .Config.Labels \"\(DockerContainer.label)\"}}"
    let inspected = try await context.launcher.run(
      docker(["container", "inspect", "--format", format, container.name]), timeout: Self.commandTimeout)
    guard inspected.succeeded else {
      try await run(container.run)
      return true
    }
    let line = inspected.output.split(separator: "\n").first ?? ""
    let words = line.split(separator: " ", maxSplits: 1)
    guard words.count == 2 else {
      throw Failure(
        .agentNotStarted, "another program created container \(container.name)",
        details: ["the container has no label \(DockerContainer.label)"],
        hint: "remove it (docker rm -f \(container.name)) or rename it, and run consul-bootstrap again")
    }
    if words[1] == container.fingerprint {
      guard words[0] != "true" else { return false }
      try await run(docker(["start", container.name]))
      return true
    }
    context.log.warning("the options of container \(container.name) have changed; replacing the container")
    try await run(docker(["stop", container.name]))
    try await run(docker(["rm", container.name]))
    try await run(container.run)
    return true
  }

  // MARK: A restart without a leave

  /// Where systemd starts the agent again by itself meanwhile, there is nothing to kill.
  func restart(_ runner: AgentRunner) async throws {
    switch runner {
    case .systemd:
      _ = try await context.launcher.run(
        .systemctl("kill", "--signal=SIGKILL", SystemdUnit.name), timeout: Self.commandTimeout)
      try await run(.systemctl("restart", SystemdUnit.name))
    case .docker(let client):
      try await run(Command(client, ["restart", "--time", "0", DockerContainer.agentName]))
    case .supervisor:
      guard let supervisor = supervisedAgent.supervisor else {
        throw Failure(
          .agentNotStarted, "cannot restart an agent that this process does not supervise",
          hint: "end the program that supervises it, and run consul-bootstrap again")
      }
      await supervisor.restart()
    }
  }

  // MARK: Commands

  func run(_ command: Command) async throws {
    let result = try await context.launcher.run(command, timeout: Self.commandTimeout)
    guard result.succeeded else {
      throw Failure(
        .agentNotStarted, "`\(command.text)` failed: \(result.end.explanation)", details: result.lastLines,
        hint: hint(for: command))
    }
  }

  /// Where the reason of a failed command is.
  private func hint(for command: Command) -> String? {
    guard let last = command.arguments.last else { return nil }
    if command.program.hasSuffix("/docker") {
      // A container that was created and did not start has a log; one that was not created has none.
      switch command.arguments.first {
      case "start": return "run `docker logs \(last)`"
      case "run": return "check --image, and that the Docker engine is running and can pull the image"
      default: return "check that the Docker engine is running"
      }
    }
    return last.hasSuffix(".service") ? "run `systemctl status \(last)` and `journalctl -u \(last)`" : nil
  }
}
