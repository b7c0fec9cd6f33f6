internal import Artifacts
internal import Base
internal import Execution
internal import Decisions
internal import Model
internal import Observers

extension Subcommand {
  static let install = Subcommand(
    "install", usage: "[--dry-run] [--json]",
    summary: "create the user, directories, units, completions and manual page",
    explanation: "install creates the agent's user, the directories, the units (not started), the completions, the "
      + "manual page and the rotation of this program's log, and copies this program to /usr/local/bin. It is "
      + "idempotent. It does not write the Consul configuration.",
    ownOptions: ["dry-run"]
  ) { try await InstallCommand(invocation: $0, removes: false).run() }

  static let uninstall = Subcommand(
    "uninstall", usage: "[--dry-run] [--json]", summary: "remove what install created",
    explanation: "uninstall removes what install created, unless an agent uses it. The user, the directories, and an "
      + "agent with its unit, configuration and data stay.",
    ownOptions: ["dry-run"]
  ) { try await InstallCommand(invocation: $0, removes: true).run() }
}

/// Installs or uninstalls through the steps of `Installation`.
struct InstallCommand: Sendable {
  let invocation: Invocation
  let removes: Bool

  private var options: Options { invocation.options }
  private var dependencies: CommandDependencies { invocation.dependencies }

  /// Everything that is not a distribution's own package goes here (FHS, /usr/local).
  private static let share = "/usr/local/share"

  private var documents: [(path: String, text: String)] {
    Completion.allCases.map { ("\(Self.share)/\($0.path)", $0.script) } + [
      ("\(Self.share)/\(ManualPage.path)", ManualPage.text(version: dependencies.version))
    ]
  }

  func run() async throws -> ExitStatus {
    dependencies.signals.deliver { dependencies.terminate(128 + $0) }
    let context = dependencies.context
    guard options.isDryRun || context.system.isRoot else {
      throw Failure(
        .usage, "\(removes ? "uninstall" : "install") needs root",
        hint: "run it with sudo, or preview it with --dry-run")
    }
    var installation = try installation()
    if options.isDryRun {
      show(removes ? installation.removal : [installation.userStep].compactMap { $0 } + installation.steps)
      return .done
    }
    let executor = StepExecutor(context: context)
    var changes = 0
    if !removes, let step = installation.userStep {
      try await executor.perform(step)
      changes += 1
      installation = try self.installation()
    }
    for step in removes ? installation.removal : installation.steps where try await executor.perform(step) == .done {
      changes += 1
    }
    report(changes, installation)
    return .done
  }

  private func report(_ changes: Int, _ installation: Installation) {
    let output = dependencies.output
    if options.wantsJSON {
      output.write(JSONValue.object(["changes": .integer(Int64(changes))]).prettyText)
    } else if removes {
      output.write("removed; what remains: \(installation.remains.joined(separator: ", "))\n")
    } else if changes == 0 {
      output.write("nothing to do: this machine is prepared\n")
    } else {
      output.write("this machine is prepared; consul-bootstrap --dry-run shows what a run does\n")
    }
  }

  /// - Throws: `Failure` with status 14 for a file that exists and cannot be read.
  private func installation() throws -> Installation {
    let context = dependencies.context, settings = options.settings
    do {
      let content = { (path: String) throws -> FileContent in
        guard let bytes = try context.files.readIfPresent(path) else { return .absent }
        return .text(String(decoding: bytes, as: UTF8.self))
      }
      return Installation(
        settings,
        .init(
          owner: try context.system.owner(named: settings.user), programPath: context.system.programPath,
          consulPath: MachineObserver(settings: settings, context: context).expectedConsulPath,
          hasSystemd: try context.files.status("/etc/systemd/system") != nil,
          isBootedBySystemd: context.system.isBootedBySystemd, agentUnit: try content(SystemdUnit.path),
          sidecarUnit: try content(SidecarUnit.path),
          hasConfiguration: try context.files.status(settings.configurationPath) != nil),
        documents: documents)
    } catch let error as FileError {
      throw UnreadableFile(
        path: error.path, reason: error.explanation, isPermissionDenied: error.isPermissionDenied
      ).failure
    }
  }

  private func show(_ steps: [Step]) {
    if options.wantsJSON {
      let list = steps.map { step -> JSONValue in
        var members: [String: JSONValue] = ["title": .string(step.title)]
        if let (path, text) = step.file { members["file"] = .object(["path": .string(path), "text": .string(text)]) }
        return .object(members)
      }
      dependencies.output.write(JSONValue.object(["steps": .array(list)]).prettyText)
      return
    }
    let lines = steps.enumerated().map { "  \($0.offset + 1). \($0.element.title)" }
    dependencies.output.write(
      (["Steps, each skipped if it is already done"] + lines + ["", "Nothing was changed.", ""])
        .joined(separator: "\n"))
  }
}
