package import Base
internal import Consul
package import Decisions

/// Carries out a plan's steps up to the agent's start, each checked first for being done already.
package struct StepExecutor: Sendable {
  private let context: RuntimeContext

  package init(context: RuntimeContext) { self.context = context }

  /// `consul validate` takes some 30 ms; a machine under load at boot may need much longer.
  private static let validateTimeout = Duration.seconds(30)
  /// systemctl waits for a stop: as long as the unit lets a leave take, and some.
  private static let systemctlTimeout = Duration.seconds(90)

  /// Ours has some 20 MB.
  private static let largestProgram = 128 << 20
  private static let reloadTimeout = Duration.seconds(10)

  /// - Returns: whether there was anything to do.
  /// - Throws: `Failure` with status 14 or 15.
  @discardableResult
  package func perform(_ step: Step) async throws -> Bool {
    try Task.checkCancellation()
    do {
      let done = try await carryOut(step)
      if done { context.log.info(step.title) } else { context.log.debug("already done: \(step.title)") }
      return done
    } catch let error as FileError {
      throw Failure(
        .configurationRejected, "cannot \(step.title)", details: [error.explanation], hint: hint(for: error))
    } catch let error as LaunchError {
      throw Failure(.agentNotStarted, "cannot \(step.title)", details: [error.explanation])
    }
  }

  private func hint(for error: FileError) -> String? {
    switch error.errno {
    case 28, 122: "make room on the file system that holds \(error.path)"
    case 30: "the file system that holds \(error.path) is read-only; remount it, or name another directory"
    case 1, 13: context.system.isRoot ? nil : "run as root"
    default: nil
    }
  }

  /// - Returns: false if there was nothing to do.
  private func carryOut(_ step: Step) async throws -> Bool {
    let files = context.files
    switch step {
    case .stopAgent(let command), .run(let command), .reloadAgent(.command(let command), _):
      try await run(command)
    case .reloadAgent(.api(let address, let token), _):
      do {
        try await AgentClient(address: address, token: token, transport: context.transport, timeout: Self.reloadTimeout)
          .reload()
      } catch let error as AgentError {
        throw Failure(
          .agentNotStarted, "the running agent does not reload", details: [error.explanation],
          hint: "where ACLs are on, the agent's token needs agent:write on its node")
      }
    case .moveAside(let path, let target, _):
      guard try files.status(path) != nil else { return false }
      try files.rename(path, to: target)
    case .createDirectory(let path, let mode, let owner):
      if let status = try files.status(path), status.kind == .directory {
        guard let owner, status.user != owner.user else { return false }
        try files.changeOwner(path, owner)
      } else {
        try files.createDirectory(path, mode: mode, owner: owner)
      }
    case .recordInstance(let path, let text):
      return try writeIfChanged(path, text, mode: 0o644, owner: nil)
    case .setHostName(let name):
      let file = try writeIfChanged("/etc/hostname", name + "\n", mode: 0o644, owner: nil)
      guard context.system.hostName != name else { return file }
      try context.system.setHostName(name)
    case .writeConfiguration(let file):
      return try await write(file)
    case .writeUnit(let path, let text):
      return try writeUnit(path, text)
    case .writeFile(let path, let text):
      try files.createDirectory(directory(of: path), mode: 0o755, owner: nil)
      return try writeIfChanged(path, text, mode: 0o644, owner: nil)
    case .copyProgram(let source, let path):
      let program = try files.read(source, limit: Self.largestProgram)
      if let status = try files.status(path), status.mode == 0o755,
        try files.readIfPresent(path, limit: Self.largestProgram) == program
      {
        return false
      }
      try files.createDirectory(directory(of: path), mode: 0o755, owner: nil)
      try files.write(path, program, mode: 0o755, owner: nil)
    case .removeFile(let path):
      guard try files.status(path) != nil else { return false }
      try files.removeFile(path)
    case .writeSecretFile(let path, let secret, let owner):
      return try writeIfChanged(path, secret.value, mode: 0o640, owner: owner)
    case .runContainer(let container):
      return try await run(container)
    case .runSidecar(let unit):
      return try await run(unit)
    case .setUpLogAgent(let setup):
      return try await setUp(setup)
    case .resolveThroughAgent(let change):
      return try await ResolverConfigurator(context: context).perform(change)
    case .superviseAgent, .verify, .completeLifecycleAction:
      preconditionFailure("the run itself does these")
    }
    return true
  }

  private func writeUnit(_ path: String, _ text: String) throws -> Bool {
    if let current = try context.files.readIfPresent(path),
      !String(decoding: current, as: UTF8.self).hasPrefix(SystemdUnit.mark)
    {
      let aside = "\(path).\(context.now().basic)"
      context.log.warning("\(path) is not ours; it is moved aside", ["to": .string(aside)])
      try context.files.rename(path, to: aside)
    }
    return try writeIfChanged(path, text, mode: 0o644, owner: nil)
  }

  /// Started anew when its unit or its options have changed: a sidecar keeps nothing that a restart loses.
  private func run(_ unit: SidecarUnit) async throws -> Bool {
    let options = try writeIfChanged(unit.optionsPath, unit.options, mode: 0o640, owner: nil)
    let text = try writeUnit(SidecarUnit.path, unit.text)
    if text { try await run(Command("/bin/systemctl", ["daemon-reload"])) }
    try await run(Command("/bin/systemctl", ["enable", SidecarUnit.name]))
    // The configuration file may say something else than when it was started.
    try await run(Command("/bin/systemctl", [options || text ? "restart" : "reload-or-restart", SidecarUnit.name]))
    return options || text
  }

  private func directory(of path: String) -> String { String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]) }

  private func setUp(_ setup: LogAgentConfiguration) async throws -> Bool {
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

  /// `docker inspect` prints whether it runs and the command that it was made with.
  private func run(_ container: DockerContainer) async throws -> Bool {
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
        .agentNotStarted, "there is a container \(container.name) that is not ours",
        details: ["it has no label \(DockerContainer.label)"],
        hint: "remove it (docker rm -f \(container.name)) or rename it, and run this again")
    }
    if words[1] == container.mark {
      guard words[0] != "true" else { return false }
      try await run(docker(["start", container.name]))
      return true
    }
    context.log.warning("container \(container.name) was made with another command; it is replaced")
    try await run(docker(["stop", container.name]))
    try await run(docker(["rm", container.name]))
    try await run(container.run)
    return true
  }

  private func writeIfChanged(_ path: String, _ text: String, mode: UInt32, owner: FileOwner?) throws -> Bool {
    let bytes = Array(text.utf8)
    if let status = try context.files.status(path), status.mode == mode,
      owner.map({ $0.user == status.user && $0.group == status.group }) ?? true,
      try context.files.readIfPresent(path) == bytes
    {
      return false
    }
    try context.files.write(path, bytes, mode: mode, owner: owner)
    return true
  }

  private func write(_ file: ConfigurationFile) async throws -> Bool {
    let mode: UInt32 = 0o640
    let bytes = Array(file.text.utf8)
    if let current = try context.files.readIfPresent(file.path), current == bytes {
      return try writeIfChanged(file.path, file.text, mode: mode, owner: file.owner)
    }
    try context.files.write(file.stagedPath, bytes, mode: 0o600, owner: nil)
    defer { try? context.files.removeFile(file.stagedPath) }
    let result = try await context.launcher.run(file.validation, timeout: Self.validateTimeout)
    guard result.succeeded else {
      throw Failure(
        .configurationRejected, "Consul rejects the configuration",
        details: ["`\(file.validation.text)`: \(result.end.explanation)"] + Self.lastLines(result.output),
        hint: "nothing was changed; look at --set, --merge and the other files beside \(file.path)")
    }
    return try writeIfChanged(file.path, file.text, mode: mode, owner: file.owner)
  }

  private func run(_ command: Command) async throws {
    let result = try await context.launcher.run(command, timeout: Self.systemctlTimeout)
    guard result.succeeded else {
      throw Failure(
        .agentNotStarted, "`\(command.text)` failed: \(result.end.explanation)", details: Self.lastLines(result.output),
        hint: command.program.hasSuffix("docker")
          ? "see docker logs" : "see systemctl status consul and journalctl -u consul")
    }
  }

  private static func lastLines(_ text: String) -> [String] {
    text.split(whereSeparator: \.isNewline).suffix(10).map(String.init)
  }
}
