package import Base

/// One thing to do, as a value that describes itself. Doing it twice is doing it once.
package enum Step: Sendable, Equatable {
  /// Stops an agent that runs on data which is about to be moved.
  case stopAgent(Command)
  case moveAside(String, to: String, reason: String)
  case createDirectory(String, mode: UInt32, owner: FileOwner?)
  case recordInstance(path: String, text: String)
  case setHostName(String)
  /// Validated by Consul together with the rest of its directory before it replaces anything.
  case writeConfiguration(ConfigurationFile)
  /// PEM that came from a secret store; readable by the agent's user and nobody else.
  case writeSecretFile(path: String, Secret, owner: FileOwner?)
  case writeUnit(path: String, text: String)
  /// With the directories above it; mode 0644.
  case writeFile(path: String, text: String)
  case copyProgram(from: String, to: String)
  case removeFile(String)
  case run(Command)
  /// A container of ours: made, replaced when its command has changed, or left as it is.
  case runContainer(DockerContainer)
  /// Tells a running agent of new settings; `restartKeys` take effect at its next start only.
  case reloadAgent(ReloadMethod, restartKeys: [String])
  case superviseAgent(Command, owner: FileOwner?, mayBindLowPorts: Bool)
  case verify(HealthRequirements)
  /// After the proof: names are resolved through the agent, or left as they were.
  case resolveThroughAgent(ResolverConfiguration)
  /// The sidecar's unit and what it is asked with; restarted if either has changed.
  case runSidecar(SidecarUnit)
  /// What an agent of AWS's forwards; it is started, and read again if that has changed.
  case setUpLogAgent(LogAgentConfiguration)
  case completeLifecycleAction(hook: String)

  /// For people: what will happen.
  package var title: String {
    switch self {
    case .stopAgent: "stop the agent that runs on another machine's data"
    case .moveAside(let path, let target, let reason): "move \(path) aside to \(target) (\(reason))"
    case .createDirectory(let path, let mode, let owner):
      "create directory \(path) (mode \(String(mode, radix: 8))\(owner.map { ", owner \($0.userName)" } ?? ""))"
    case .recordInstance(let path, _): "record in \(path) which instance this is"
    case .setHostName(let name): "set the host name to \(name)"
    case .writeConfiguration(let file):
      "write \(file.path) (mode 640\(file.owner.map { ", owner \($0.userName)" } ?? "")) once Consul accepts it"
    case .writeSecretFile(let path, _, let owner):
      "write \(path) (mode 640\(owner.map { ", owner \($0.userName)" } ?? ""))"
    case .writeUnit(let path, _), .writeFile(let path, _): "write \(path)"
    case .copyProgram(let source, let path): "copy \(source) to \(path)"
    case .removeFile(let path): "remove \(path)"
    case .runContainer(let container): "run container \(container.name) of \(container.image)"
    case .run(let command): command.text
    case .reloadAgent(_, let keys):
      keys.isEmpty
        ? "reload the running agent" : "reload the running agent (\(keys.joined(separator: ", ")) at its next restart)"
    case .superviseAgent(_, let owner, _): "start the agent\(owner.map { " as \($0.userName)" } ?? "") and supervise it"
    case .verify(let goal): "prove: \(goal.text)"
    case .resolveThroughAgent(let change):
      "write \(change.path) and try \(change.names.joined(separator: ", ")); undone if they are not resolved"
    case .setUpLogAgent(let setup): "write \(setup.agent.path), and have \(setup.agent.name) forward the logs"
    case .runSidecar(let unit): "write \(unit.optionsPath) and \(SidecarUnit.path), and start \(SidecarUnit.name)"
    case .completeLifecycleAction(let hook):
      "complete lifecycle hook \(hook): CONTINUE after proof, ABANDON after failure"
    }
  }

  /// The exact command, where there is one.
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
}

extension Step {
  /// What is written, where that is text that may be shown.
  package var file: (path: String, text: String)? {
    switch self {
    case .writeUnit(let path, let text), .writeFile(let path, let text): (path, text)
    case .resolveThroughAgent(let change): (change.path, change.text)
    case .runSidecar(let unit): (SidecarUnit.path, unit.text)
    case .setUpLogAgent(let setup): (setup.agent.path, setup.text)
    default: nil
    }
  }
}

/// How a running agent is told of new settings.
package enum ReloadMethod: Sendable, Equatable {
  case command(Command)
  /// `PUT /v1/agent/reload`. In a container: after any `docker kill`, SIGHUP's included, Docker 20.10 takes the container for
  /// one that was stopped by hand and does not restart it after a crash.
  case api(agentAddress: String, token: Secret?)
}

/// The agent's configuration file, ready to be written.
package struct ConfigurationFile: Sendable, Equatable {
  package let path: String
  package let text: String
  package let owner: FileOwner?
  /// `consul validate` with the staged file in its place among the directory's others.
  package let validation: Command
  /// Where the file lies while it is validated.
  package let stagedPath: String
}

/// What must be true before a boot is a success.
package struct HealthRequirements: Sendable, Equatable {
  /// Of the agent's HTTP API, on this machine.
  package let agentAddress: String
  /// This server's, as raft names it; nil for a client.
  package let raftAddress: String?
  /// Servers that must be in the raft configuration.
  package let servers: Int
  /// Nil where there is no WAN pool to look at.
  package let wan: WAN?
  /// The agent's own, where ACLs are on.
  package let token: Secret?

  package struct WAN: Sendable, Equatable {
    /// Of the known servers of all datacenters.
    package let addresses: Set<IPv4Address>
    /// Otherwise it is only reported.
    package let isRequired: Bool
  }

  fileprivate var text: String {
    var parts = ["the agent answers", "a leader is known"]
    if raftAddress != nil { parts += ["this server is a voter", "\(servers) servers are there"] }
    if let wan {
      parts.append("\(wan.addresses.count) servers are in the WAN pool\(wan.isRequired ? "" : " (reported only)")")
    }
    return parts.joined(separator: ", ")
  }
}
