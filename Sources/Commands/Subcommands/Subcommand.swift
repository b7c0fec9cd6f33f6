internal import Base
package import Model

/// What `consul-bootstrap` does besides bootstrapping. Each command's own file defines it; the parser, help, the manual
/// page and the completions read this list.
package struct Subcommand: Sendable, Equatable {
  package let name: String
  /// What follows the name in a usage line.
  package let usage: String
  /// The first clause is the description in completions.
  package let summary: String
  package let explanation: String
  /// Words of which one must follow the name.
  package let operands: [String]
  /// Where options come from that the command line and the environment do not set.
  package let optionSource: OptionSource
  /// Options that only some commands take, by name.
  package let ownOptions: Set<String>
  package let run: @Sendable (Invocation) async throws -> ExitStatus

  package enum OptionSource: Sendable, Equatable {
    /// The command takes no options.
    case none
    /// The file of `--config`, or else that of the machine.
    case machine
    /// The same over the options of the last run.
    case lastRun
    /// The options of the run that started it, over those of the machine. Without them: what the agent's
    /// configuration shows.
    case startingRun
    /// A run: the options of the last run, over those of the machine.
    case ownLastRun
  }

  init(
    _ name: String, usage: String = "", summary: String, explanation: String, operands: [String] = [],
    optionSource: OptionSource = .machine, ownOptions: Set<String> = [],
    run: @escaping @Sendable (Invocation) async throws -> ExitStatus
  ) {
    self.name = name
    self.usage = usage
    self.summary = summary
    self.explanation = explanation
    self.operands = operands
    self.optionSource = optionSource
    self.ownOptions = ownOptions
    self.run = run
  }

  package static let all: [Subcommand] = [
    sidecar, beforeStart, leave, recover, status, doctor, iamPolicy, install, uninstall, completion, man,
  ]

  /// Names are unique.
  package static func == (left: Self, right: Self) -> Bool { left.name == right.name }

  package static func named(_ name: String) -> Subcommand? { all.first { $0.name == name } }
}

/// One call of a command.
package struct Invocation: Sendable {
  package let options: Options
  package let dependencies: CommandDependencies
  /// Reads the options again, for a reload.
  package let reread: @Sendable () throws -> Settings

  package init(
    options: Options, dependencies: CommandDependencies, reread: @escaping @Sendable () throws -> Settings
  ) {
    self.options = options
    self.dependencies = dependencies
    self.reread = reread
  }
}

extension Failure {
  /// As standard error shows it.
  package var text: String { "consul-bootstrap: error: " + lines.joined(separator: "\n") + "\n" }
}

extension Failure {
  /// The lock of a run or of a sidecar.
  init(_ error: LockError) {
    switch error {
    case .unavailable:
      self.init(
        .configurationRejected, "cannot lock the state directory", details: [error.explanation],
        hint: "run as root, or name another directory with --state-dir")
    case .held:
      // Stopping it could stop an agent that it has just started.
      self.init(
        .anotherRun, "another consul-bootstrap is running on this machine", details: [error.explanation],
        hint:
          "wait until it has finished, or until the agent that it supervises is healthy; this run has changed nothing")
    }
  }
}
