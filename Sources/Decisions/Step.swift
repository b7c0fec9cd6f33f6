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
  case writeUnit(path: String, text: String)
  case run(Command)
  /// Tells a running agent of new settings; `restartKeys` take effect at its next start only.
  case reloadAgent(Command, restartKeys: [String])
  case superviseAgent(Command, owner: FileOwner?)
  case prove(ProofGoal)
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
    case .writeUnit(let path, _): "write \(path)"
    case .run(let command): command.text
    case .reloadAgent(_, let keys):
      keys.isEmpty ? "reload the running agent" : "reload the running agent (\(keys.joined(separator: ", ")) at its next restart)"
    case .superviseAgent(_, let owner): "start the agent\(owner.map { " as \($0.userName)" } ?? "") and supervise it"
    case .prove(let goal): "prove: the agent answers, a leader is known, this server is a voter, \(goal.servers) servers are there"
    case .completeLifecycleAction(let hook): "complete lifecycle hook \(hook): CONTINUE after proof, ABANDON after failure"
    }
  }

  /// The exact command, where there is one.
  package var command: Command? {
    switch self {
    case .stopAgent(let command), .run(let command), .reloadAgent(let command, _), .superviseAgent(let command, _): command
    case .writeConfiguration(let file): file.validation
    default: nil
    }
  }
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
package struct ProofGoal: Sendable, Equatable {
  /// Of the agent's HTTP API, on this machine.
  package let agentAddress: String
  /// This server's, as raft names it.
  package let raftAddress: String
  /// Servers that must be in the raft configuration.
  package let servers: Int
}
