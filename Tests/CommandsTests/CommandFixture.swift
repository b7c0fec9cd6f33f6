import AWS
import Base
import Model
import Observers
import TestSupport

@testable import Commands

/// A command on an instance in memory: everything but the command's own code is a fake.
struct CommandFixture: Sendable {
  let test = TestContext(environment: ["PATH": "/usr/bin"])
  let output: FakeOutput
  let errors = FakeErrorOutput()
  let ownLog = RecordingSink()
  let locks = FakeLocks()
  let signals = FakeSignals()
  let terminated = Watched<[Int32]>([])

  init(output: FakeOutput = FakeOutput()) { self.output = output }

  func invocation(
    _ arguments: [String], environment: [String: String] = [:], reread: [String]? = nil
  ) throws -> (Subcommand?, Invocation) {
    let parser = OptionParser(files: test.files, isPattern: { FakePattern($0) != nil })
    let request = try parser.parse(arguments, environment: environment)
    let command: Subcommand?, options: Options
    switch request {
    case .bootstrap(let found): (command, options) = (nil, found)
    case .command(let found, let found2): (command, options) = (found, found2)
    case .help, .version: preconditionFailure("not a command: \(arguments)")
    }
    let context = test.context
    let metadata = MetadataClient(
      environment: [:], allowsVersion1: options.allowsIMDSv1, transport: context.transport, clock: context.clock,
      log: context.log)
    let credentials = CredentialCache(providers: [InstanceRoleCredentials(metadata: metadata)], now: context.now)
    let dependencies = CommandDependencies(
      context: context,
      planner: Planner(settings: options.settings, context: context, metadata: metadata, credentials: credentials),
      metadata: metadata, credentials: credentials, output: output, errorOutput: errors, ownLog: ownLog, locks: locks,
      signals: signals, terminate: { status in terminated.update { $0.append(status) } }, version: "1.2.3")
    let again = { @Sendable () throws -> Settings in
      try parser.reread(reread ?? arguments, environment: environment, started: options.settings)
    }
    return (command, Invocation(options: options, dependencies: dependencies, reread: again))
  }

  /// - Returns: the exit status, as the program would end with it.
  func run(_ arguments: [String], environment: [String: String] = [:]) async -> Int32 {
    do {
      let (command, invocation) = try invocation(arguments, environment: environment)
      guard let command else { return await BootstrapCommand(invocation).run() }
      return try await command.run(invocation).rawValue
    } catch {
      errors.write(text: (error as? Failure)?.text ?? "\(error)")
      return (error as? Failure)?.status.rawValue ?? ExitStatus.internalError.rawValue
    }
  }
}
