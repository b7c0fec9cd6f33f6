internal import Base
internal import Decisions
internal import Host

/// The composition root: the one place that knows `Host`.
package enum Program {
  /// The main thread starts the work and waits; whoever finishes ends the process.
  package static func main() -> Never {
    Machine.keepMemorySmall()
    let signals = Signals()
    Task.detached { await run(signals) }
    Machine.waitForever()
  }

  private static func run(_ signals: Signals) async {
    Machine.forbidCoreFiles()
    let files = LocalFileStore()
    let environment = Machine.environment
    do {
      let parse = { @Sendable in try OptionParser(files: files).parse(Array(CommandLine.arguments.dropFirst()), environment: environment) }
      let request = try parse()
      /// For a reload: what the options are by now.
      let reread = { @Sendable () throws -> Settings in
        switch try parse() {
        case .bootstrap(let options), .sidecar(let options), .status(let options):
          return options.settings
        case .help, .version: throw CancellationError()
        }
      }
      switch request {
      case .help: Machine.write(Help.text)
      case .version: Machine.write("consul-bootstrap \(programVersion)\n")
      case .bootstrap(let options):
        let surroundings = Surroundings(options: options, environment: environment, files: files)
        await BootstrapCommand(options: options, surroundings: surroundings, reread: reread).run(signals)
      case .sidecar(let options):
        let surroundings = Surroundings(options: options, environment: environment, files: files)
        await SidecarCommand(options: options, surroundings: surroundings, reread: reread).run(signals)
      case .status(let options):
        let surroundings = Surroundings(options: options, environment: environment, files: files)
        await StatusCommand(options: options, surroundings: surroundings).run()
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

  static func errorText(_ failure: Failure) -> String {
    "consul-bootstrap: error: " + failure.lines.joined(separator: "\n") + "\n"
  }
}
