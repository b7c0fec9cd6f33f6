internal import Base
internal import Consul
internal import Model

/// Steps that start, stop and reload services.
extension StepExecutor {
  /// systemctl waits for a stop: as long as the unit lets a leave take, and some.
  private static let systemctlTimeout = Duration.seconds(90)
  private static let reloadTimeout = Duration.seconds(10)

  func reload(agentAt address: String, token: Secret?) async throws {
    do {
      try await AgentClient(
        address: address, token: token, transport: context.transport, timeout: Self.reloadTimeout
      ).reload()
    } catch let error as AgentError {
      throw Failure(
        .agentNotStarted, "the running agent does not reload", details: [error.explanation],
        hint: "with ACLs enabled, the agent's token needs agent:write on its node")
    }
  }

  /// Restarts the sidecar if its unit or its options have changed: a restart loses no state.
  func run(_ unit: SidecarUnit) async throws -> Bool {
    let options = try writeIfChanged(unit.optionsPath, unit.options, mode: 0o640, owner: nil)
    let text = try writeUnit(SidecarUnit.path, unit.text)
    if text { try await run(Command("/bin/systemctl", ["daemon-reload"])) }
    try await run(Command("/bin/systemctl", ["enable", SidecarUnit.name]))
    // The configuration file may have changed since the sidecar started.
    try await run(Command("/bin/systemctl", [options || text ? "restart" : "reload-or-restart", SidecarUnit.name]))
    return options || text
  }

  func setUp(_ setup: LogAgentConfiguration) async throws -> Bool {
    let agent = setup.agent
    try context.files.createDirectory(directory(of: agent.path), mode: 0o755, owner: nil)
    let isNew = try writeIfChanged(agent.path, setup.text, mode: 0o644, owner: nil)
    if let command = agent.command {
      guard context.files.isExecutable(command.program) else {
        throw Failure(
          .agentNotStarted, "\(agent.name) is not installed", details: ["there is no \(command.program)"],
          hint: "bake it into the image")
      }
      if isNew { try await run(command) }
    }
    for unit in agent.units {
      let known = try await context.launcher.run(
        Command("/bin/systemctl", ["cat", unit]), timeout: Self.systemctlTimeout)
      guard known.succeeded else { continue }
      try await run(Command("/bin/systemctl", ["enable", unit]))
      try await run(Command("/bin/systemctl", [isNew && agent.command == nil ? "restart" : "start", unit]))
      return isNew
    }
    throw Failure(
      .agentNotStarted, "\(agent.name) is not installed",
      details: ["there is no unit \(agent.units.joined(separator: " or "))"],
      hint: "bake it into the image, or leave out --log-agent: this program forwards by itself")
  }

  /// `docker inspect` prints whether the container runs and the command that created it.
  func run(_ container: DockerContainer) async throws -> Bool {
    let docker = { (arguments: [String]) in Command(container.docker, arguments) }
    let format = "{{.State.Running}} {{index .Config.Labels \"\(DockerContainer.label)\"}}"
    let inspected = try await context.launcher.run(
      docker(["container", "inspect", "--format", format, container.name]), timeout: Self.systemctlTimeout)
    guard inspected.succeeded else {
      try await run(container.run)
      return true
    }
    let words =
      inspected.output.split(separator: "\n").first?.split(separator: " ", maxSplits: 1).map(String.init) ?? []
    guard words.count == 2 else {
      throw Failure(
        .agentNotStarted, "another program created container \(container.name)",
        details: ["it has no label \(DockerContainer.label)"],
        hint: "remove it (docker rm -f \(container.name)) or rename it, and run this again")
    }
    if words[1] == container.fingerprint {
      guard words[0] != "true" else { return false }
      try await run(docker(["start", container.name]))
      return true
    }
    context.log.warning("container \(container.name) was created by another command; replacing it")
    try await run(docker(["stop", container.name]))
    try await run(docker(["rm", container.name]))
    try await run(container.run)
    return true
  }

  func run(_ command: Command) async throws {
    let result = try await context.launcher.run(command, timeout: Self.systemctlTimeout)
    guard result.succeeded else {
      throw Failure(
        .agentNotStarted, "`\(command.text)` failed: \(result.end.explanation)", details: Self.lastLines(result.output),
        hint: command.program.hasSuffix("docker")
          ? "see docker logs" : "see systemctl status consul and journalctl -u consul")
    }
  }
}
