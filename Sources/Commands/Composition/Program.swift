internal import Base
internal import Host
internal import Model

/// The program: parses its options and runs one command. With `Composition`, the only files that import `Host`.
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
      Machine.write(failure.text, toStandardError: true)
      Machine.exit(failure.status.rawValue)
    }
    Task.detached { Machine.exit(await run(signals)) }
    Machine.waitForever()
  }

  /// - Returns: the exit status.
  private static func run(_ signals: Signals) async -> Int32 {
    Machine.forbidCoreFiles()
    let files = LocalFileStore()
    let environment = Machine.environment, arguments = Array(CommandLine.arguments.dropFirst())
    let parser = OptionParser(files: files, isPattern: { PosixPattern($0) != nil })
    let output = Terminal.output(environment)
    do {
      switch try parser.parse(arguments, environment: environment) {
      case .help: output.write(Help.text(width: output.isTerminal ? output.width : 120))
      case .version: output.write("consul-bootstrap \(Machine.programVersion)\n")
      case .bootstrap(let options):
        return await BootstrapCommand(invocation(options)).run()
      case .command(let command, let options):
        return try await command.run(invocation(options)).rawValue
      }
      return ExitStatus.done.rawValue
    } catch let failure as Failure {
      Terminal.error(environment).write(failure.text)
      return failure.status.rawValue
    } catch {
      Terminal.error(environment).write("consul-bootstrap: internal error: \(error.explained)\n")
      return ExitStatus.internalError.rawValue
    }

    func invocation(_ options: Options) -> Invocation {
      Invocation(
        options: options,
        dependencies: Composition.dependencies(
          options: options, environment: environment, files: files, signals: signals),
        reread: {
          try parser.reread(arguments, environment: environment, started: options.settings)
        })
    }
  }
}
