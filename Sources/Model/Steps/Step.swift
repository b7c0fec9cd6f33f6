package import Base

/// One change of this machine or of AWS, as a value that describes itself. Every step is idempotent; `StepExecutor`
/// carries it out.
package enum Step: Sendable, Equatable {
  /// Stops an agent whose data is renamed next.
  case stopAgent(Command)
  /// Renames a data directory that another instance created, or raft data that the cluster has no use for. Nothing is
  /// deleted.
  case rename(String, to: String, reason: String)
  /// Creates the next entry of the cluster's record, unless another server has created it first: then the run decides
  /// again.
  case claimRecord(parameter: String, text: String)
  /// Creates the entry that says that the cluster exists.
  case recordFormed(parameter: String, text: String)
  case createDirectory(String, mode: UInt32, owner: FileOwner?)
  case recordInstance(path: String, text: String)
  case setHostName(String)
  /// Replaces the configuration file once Consul has validated the new one together with the rest of its directory.
  case writeConfiguration(ConfigurationFile)
  /// Writes PEM from a secret store; only the agent's user can read the file.
  case writeSecretFile(path: String, Secret, owner: FileOwner?)
  case writeUnit(path: String, text: String)
  /// Writes a file of mode 0644 and creates missing directories above it.
  case writeFile(path: String, text: String)
  case copyProgram(from: String, to: String)
  case removeFile(String)
  case run(Command)
  /// Creates a container, or replaces it if its command has changed.
  case runContainer(DockerContainer)
  /// Makes a running agent reload its configuration. Changes of `restartKeys` take effect at its next restart.
  case reloadAgent(ReloadMethod, restartKeys: [String])
  /// Joins a running agent to those of these servers that it does not know as alive: a reload reads no `retry_join`.
  case joinServers([IPv4Address], agentAddress: String, token: Secret?)
  /// Kills an agent that waits for its first bootstrap, and starts it again: only a start reads `bootstrap_expect`, and
  /// an agent without raft state has nothing to lose. (A stop would first leave the others.)
  case restartEmptyAgent(AgentRunner)
  /// Starts the agent as a child process and restarts it after a crash.
  case superviseAgent(Command, owner: FileOwner?, mayBindLowPorts: Bool)
  case verify(HealthRequirements)
  /// Applies autopilot options to a cluster that exists.
  case setAutopilot(AutopilotChange)
  /// Makes the process that supervises the agent read its options again, and the agent its configuration. Changes of
  /// `restartKeys` take effect at the agent's next start.
  case reloadSupervisor(Supervision, restartKeys: [String])
  /// Makes the machine resolve names through the agent, and reverts the change if they do not resolve.
  case resolveThroughAgent(ResolverConfiguration)
  /// Records the options for the next run, where no sidecar's unit needs them.
  case recordOptions(path: String, text: String)
  /// Writes the sidecar's unit and options; restarts the sidecar if either has changed.
  case runSidecar(SidecarUnit)
  /// Configures AWS's log agent, and restarts it if its configuration has changed.
  case setUpLogAgent(LogAgentConfiguration)
  /// Completes the launch hook with CONTINUE.
  case completeLifecycleAction(hook: String)

  /// What the step does, in the imperative.
  package var title: String {
    switch self {
    case .stopAgent: "stop the agent, whose data is renamed"
    case .rename(let path, let target, let reason): "rename \(path) to \(target) (\(reason))"
    case .claimRecord(let parameter, _): "claim \(parameter) in Parameter Store, to form a new cluster"
    case .recordFormed(let parameter, _): "create \(parameter) in Parameter Store: the cluster is formed"
    case .createDirectory(let path, let mode, let owner):
      "create directory \(path) (mode \(String(mode, radix: 8))\(Self.text(owner)))"
    case .recordInstance(let path, _): "record the instance ID in \(path)"
    case .setAutopilot(let change):
      "set autopilot of the cluster: "
        + change.values.map { "\($0.key) \($0.value.compactText)" }.joined(separator: ", ")
    case .reloadSupervisor(let supervision, let keys):
      "reload the agent and its supervisor, process \(supervision.pid)"
        + (keys.isEmpty ? "" : " (\(keys.joined(separator: ", ")) at the agent's next start)")
    case .recordOptions(let path, _): "record the options of this run in \(path)"
    case .setHostName(let name): "set the host name to \(name)"
    case .writeConfiguration(let file):
      "write \(file.path) (mode 640\(Self.text(file.owner))) once Consul has validated it"
    case .writeSecretFile(let path, _, let owner): "write \(path) (mode 640\(Self.text(owner)))"
    case .writeUnit(let path, _), .writeFile(let path, _): "write \(path)"
    case .copyProgram(let source, let path): "copy \(source) to \(path)"
    case .removeFile(let path): "remove \(path)"
    case .runContainer(let container): "run container \(container.name) from \(container.image)"
    case .run(let command): command.text
    case .reloadAgent(_, let keys):
      "reload the running agent" + (keys.isEmpty ? "" : " (\(keys.joined(separator: ", ")) at its next restart)")
    case .joinServers(let servers, _, _):
      "join the running agent to \(servers.map(\.description).joined(separator: ", ")), where it does not know them"
    case .restartEmptyAgent: "restart the agent, which has no raft state"
    case .superviseAgent(_, let owner, _): "start the agent\(owner.map { " as \($0.userName)" } ?? "") and supervise it"
    case .verify(let requirements): "verify: \(requirements.text)"
    case .resolveThroughAgent(let resolver):
      "write \(resolver.path) and resolve \(resolver.names.joined(separator: ", ")); revert it if that fails"
    case .setUpLogAgent(let setup): "write \(setup.agent.path) and let \(setup.agent.name) forward the logs"
    case .runSidecar(let unit): "write \(unit.optionsPath) and \(SidecarUnit.path), and start \(SidecarUnit.name)"
    case .completeLifecycleAction(let hook):
      "complete lifecycle hook \(hook): CONTINUE once healthy, ABANDON after a failure"
    }
  }

  private static func text(_ owner: FileOwner?) -> String { owner.map { ", owner \($0.userName)" } ?? "" }

  /// The exact command, if there is one.
  package var command: Command? {
    switch self {
    case .stopAgent(let command), .run(let command), .reloadAgent(.command(let command), _),
      .superviseAgent(let command, _, _):
      command
    case .runContainer(let container): container.run
    case .writeConfiguration(let file): file.validation
    default: nil
    }
  }

  /// The file or parameter that the step writes, if its text holds no secret.
  package var file: (path: String, text: String)? {
    switch self {
    case .writeUnit(let path, let text), .writeFile(let path, let text): (path, text)
    case .claimRecord(let parameter, let text), .recordFormed(let parameter, let text): (parameter, text + "\n")
    case .resolveThroughAgent(let resolver): (resolver.path, resolver.text)
    case .runSidecar(let unit): (SidecarUnit.path, unit.text)
    case .setUpLogAgent(let setup): (setup.agent.path, setup.text)
    default: nil
    }
  }
}
