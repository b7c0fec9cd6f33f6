internal import Base
internal import Host

/// The composition root: the one place that knows `Host`.
package enum Program {
  /// The main thread starts the work and waits; whoever finishes ends the process.
  package static func main() -> Never {
    let signals = Signals()
    Task.detached { await run(signals) }
    Machine.waitForever()
  }

  private static func run(_ signals: Signals) async {
    Machine.forbidCoreFiles()
    let files = LocalFileStore()
    let environment = Machine.environment
    do {
      switch try OptionParser(files: files).parse(Array(CommandLine.arguments.dropFirst()), environment: environment) {
      case .help: Machine.write(Help.text)
      case .version: Machine.write("consul-bootstrap \(programVersion)\n")
      case .bootstrap(let options):
        let surroundings = Surroundings(options: options, environment: environment, files: files)
        await BootstrapCommand(options: options, surroundings: surroundings).run(signals)
      case .sidecar(let options):
        let surroundings = Surroundings(options: options, environment: environment, files: files)
        await SidecarCommand(options: options, surroundings: surroundings).run(signals)
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
