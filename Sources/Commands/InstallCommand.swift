internal import Base
internal import Bootstrap
internal import Decisions
internal import Host

/// `consul-bootstrap install` and `uninstall`: what an image has, on a machine that is there.
struct InstallCommand: Sendable {
  let options: Options
  let dependencies: CommandDependencies
  let removes: Bool

  /// Everything that is not a distribution's own package goes here (FHS, /usr/local).
  private static let share = "/usr/local/share"

  private static var documents: [(path: String, text: String)] {
    Completion.allCases.map { ("\(share)/\($0.path)", $0.script) } + [("\(share)/\(ManualPage.path)", ManualPage.text)]
  }

  func run() async throws {
    let context = dependencies.context
    guard options.isDryRun || context.system.isRoot else {
      throw Failure(
        .usage, "\(removes ? "uninstall" : "install") needs root",
        hint: "run it with sudo, or look at it with --dry-run")
    }
    var installation = try installation()
    if options.isDryRun {
      return show(removes ? installation.removal : [installation.userStep].compactMap { $0 } + installation.steps)
    }
    let executor = StepExecutor(context: context)
    var changes = 0
    if !removes, let step = installation.userStep {
      try await executor.perform(step)
      changes += 1
      installation = try self.installation()
    }
    for step in removes ? installation.removal : installation.steps where try await executor.perform(step) {
      changes += 1
    }
    if options.wantsJSON { return Machine.write(JSONValue.object(["changes": .integer(Int64(changes))]).prettyText) }
    if removes {
      Machine.write("removed. What stays: \(installation.remains.joined(separator: ", "))\n")
    } else {
      Machine.write(
        changes == 0
          ? "nothing to do: this machine is prepared\n"
          : "this machine is prepared; consul-bootstrap --dry-run shows what a run does\n")
    }
  }

  private func installation() throws -> Installation {
    let context = dependencies.context, settings = options.settings
    let content = { (path: String) -> FileContent in
      guard let bytes = try? context.files.readIfPresent(path) else { return .absent }
      return .text(String(decoding: bytes, as: UTF8.self))
    }
    let isThere = { (path: String) in ((try? context.files.status(path)) ?? nil) != nil }
    let consul =
      settings.consulPath ?? ["/usr/local/bin/consul", "/usr/bin/consul"].first(where: context.files.isExecutable)
      ?? "/usr/local/bin/consul"
    let owner: FileOwner?
    do {
      owner = try context.system.owner(named: settings.user)
    } catch let error as FileError {
      // Unreadable is not "no such user", which would be created.
      throw Failure(
        .configurationRejected, "cannot read the users of this machine", details: [error.explanation],
        hint: "make the file readable for root")
    }
    return Installation(
      settings,
      .init(
        owner: owner, programPath: context.system.programPath, consulPath: consul,
        hasSystemd: isThere("/etc/systemd/system"), isBootedBySystemd: context.system.isBootedBySystemd,
        agentUnit: content(SystemdUnit.path),
        sidecarUnit: content(SidecarUnit.path), hasConfiguration: isThere(settings.configurationPath)),
      documents: Self.documents)
  }

  private func show(_ steps: [Step]) {
    if options.wantsJSON {
      let list = steps.map { step -> JSONValue in
        var members: [String: JSONValue] = ["title": .string(step.title)]
        if let (path, text) = step.file { members["file"] = .object(["path": .string(path), "text": .string(text)]) }
        return .object(members)
      }
      return Machine.write(JSONValue.object(["steps": .array(list)]).prettyText)
    }
    let lines = steps.enumerated().map { "  \($0.offset + 1). \($0.element.title)" }
    Machine.write(
      (["Steps, as far as each is not done already"] + lines + ["", "Nothing was changed.", ""]).joined(separator: "\n")
    )
  }
}
