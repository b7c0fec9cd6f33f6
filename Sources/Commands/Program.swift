internal import Base
internal import Bootstrap
internal import Decisions
internal import Host

/// The composition root: the one place that knows `Host`.
package enum Program {
  /// The main thread starts the work and waits; the work ends the process.
  package static func main() -> Never {
    Machine.keepMemorySmall()
    let signals: Signals
    do throws(ResourceError) {
      signals = try Signals()
    } catch {
      // Nothing else has started: without signals a run could not be stopped.
      let failure = Failure(
        .agentNotStarted, "cannot start", details: [error.explanation],
        hint: "raise the limits of this process (ulimit -n, ulimit -u)")
      Machine.write(errorText(failure), toStandardError: true)
      Machine.exit(failure.status.rawValue)
    }
    Task.detached { await run(signals) }
    Machine.waitForever()
  }

  private static func run(_ signals: Signals) async {
    Machine.forbidCoreFiles()
    let files = LocalFileStore()
    let environment = Machine.environment
    do {
      let parse = { @Sendable in
        try OptionParser(files: files).parse(Array(CommandLine.arguments.dropFirst()), environment: environment)
      }
      let request = try parse()
      /// For a reload: what the options are by now.
      let reread = { @Sendable () throws -> Settings in
        switch try parse() {
        case .bootstrap(let options), .command(_, let options): return options.settings
        case .help, .version, .completion, .man: throw CancellationError()
        }
      }
      switch request {
      case .help:
        Machine.write(
          Help.text(width: Terminal.output(environment).isTerminal ? Terminal.output(environment).width : 120))
      case .version: Machine.write("consul-bootstrap \(Machine.programVersion)\n")
      case .completion(let shell): Machine.write(shell.script)
      case .man: Machine.write(ManualPage.text)
      case .bootstrap(let options):
        let dependencies = CommandDependencies(options: options, environment: environment, files: files)
        await BootstrapCommand(options: options, dependencies: dependencies, reread: reread).run(signals)
      case .command(let command, let options):
        try await run(
          command, options, CommandDependencies(options: options, environment: environment, files: files), reread,
          signals)
      }
    } catch let failure as Failure {
      Machine.write(errorText(failure), toStandardError: true)
      Machine.exit(failure.status.rawValue)
    } catch {
      Machine.write("consul-bootstrap: error: \(error)\n", toStandardError: true)
      Machine.exit(ExitStatus.usage.rawValue)
    }
    Machine.exit(0)
  }

  private static func run(
    _ command: Subcommand, _ options: Options, _ dependencies: CommandDependencies,
    _ reread: @escaping @Sendable () throws -> Settings, _ signals: Signals
  ) async throws {
    let environment = dependencies.context.environment
    switch command {
    case .sidecar: await SidecarCommand(options: options, dependencies: dependencies, reread: reread).run(signals)
    case .status: await StatusCommand(options: options, dependencies: dependencies).run()
    case .doctor:
      signals.deliver { Machine.exitAtOnce(128 + $0) }
      try await DoctorCommand(options: options, dependencies: dependencies, terminal: .output(environment)).run()
    case .install, .uninstall:
      signals.deliver { Machine.exitAtOnce(128 + $0) }
      try await InstallCommand(options: options, dependencies: dependencies, removes: command == .uninstall).run()
    case .iamPolicy:
      let region = environment["AWS_REGION"] ?? environment["AWS_DEFAULT_REGION"] ?? ""
      Machine.write(
        IAMPolicy(options.settings, region: region.isEmpty ? "*" : region, account: options.account ?? "*").json
          .prettyText)
    case .completion, .man: break  // parsed as requests of their own
    }
  }

  static func errorText(_ failure: Failure) -> String {
    "consul-bootstrap: error: " + failure.lines.joined(separator: "\n") + "\n"
  }
}
