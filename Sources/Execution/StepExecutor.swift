internal import AWS
package import Base
internal import Consul
package import Model

/// Carries out steps through the seams. Each step is idempotent: one with a result on this machine first checks whether
/// it is done already; commands, reloads and the completion of a launch hook may be repeated.
package struct StepExecutor: Sendable {
  let context: RuntimeContext
  private let lifecycleHooks: LifecycleHooks?
  private let agreement: Agreement?
  private let lastLog: HealthCheck.LastLog?
  private let record: RecordWriter?
  private let recoveryLimit: HealthCheck.RecoveryLimit?

  /// As `HealthCheck.Agreement`, with this executor.
  package typealias Agreement = @Sendable (HealthCheck.NoLeader, StepExecutor) async throws -> HealthCheck.SecondLook
  /// The agent that this process supervises, once `.superviseAgent` has been carried out.
  package let supervisedAgent: SupervisedAgent
  /// For `.writeConfiguration`.
  package let earlyValidation: EarlyValidation

  /// - Parameters:
  ///   - lifecycleHooks: for `.completeLifecycleAction`; nil where no plan has that step.
  ///   - record: for the steps of the cluster's record; nil where no plan has them.
  ///   - agreement: for `.verify`; nil where the servers' `bootstrap_expect` is only reported.
  ///   - recoveryLimit: for `.verify`; nil where a check ends at its timeout.
  ///   - lastLog: for `.verify` of a server that joins.
  ///   - agentOutput: receives a copy of a supervised agent's output.
  ///   - agentStarts: called before a supervised agent starts, so that signals reach it from its first moment.
  package init(
    context: RuntimeContext, lifecycleHooks: LifecycleHooks? = nil, record: RecordWriter? = nil,
    agreement: Agreement? = nil, recoveryLimit: HealthCheck.RecoveryLimit? = nil,
    lastLog: HealthCheck.LastLog? = nil,
    agentOutput: (any OutputSink)? = nil,
    agentStarts: @escaping @Sendable (Supervisor) -> Void = { _ in }
  ) {
    self.context = context
    self.lifecycleHooks = lifecycleHooks
    self.agreement = agreement
    self.lastLog = lastLog
    self.record = record
    self.recoveryLimit = recoveryLimit
    earlyValidation = EarlyValidation(context: context)
    supervisedAgent = SupervisedAgent(context: context, output: agentOutput, starts: agentStarts)
  }

  package enum Outcome: Sendable, Equatable {
    case done
    case alreadyDone
    /// Another server has created the entry of the cluster's record first.
    case lost
    case healthy(Health)
  }

  /// Logs what it did.
  /// - Throws: `Failure` with status 10, 11, 12, 14, 15 or 16, or `CancellationError`.
  @discardableResult
  package func perform(_ step: Step) async throws -> Outcome {
    try Task.checkCancellation()
    do {
      let outcome = try await carryOut(step)
      switch outcome {
      case .done: context.log.info(step.title)
      case .alreadyDone: context.log.debug("already done: \(step.title)")
      case .lost: context.log.info("another server was first: \(step.title)")
      case .healthy: break
      }
      return outcome
    } catch let error as FileError {
      throw Failure(
        .configurationRejected, "cannot \(purpose(of: step))", details: [error.explanation], hint: hint(for: error))
    } catch let error as LaunchError {
      throw Failure(
        .agentNotStarted, "cannot \(purpose(of: step))", details: [error.explanation],
        hint: "check that \(error.program) is a program for this machine, and its permissions")
    }
  }

  /// The title of a command is the command alone.
  private func purpose(of step: Step) -> String {
    if case .run(let command) = step { "run `\(command.text)`" } else { step.title }
  }

  private func hint(for error: FileError) -> String? {
    switch error.errno {
    case 28, 122: "free space on the file system of \(error.path)"
    case 30: "remount the file system of \(error.path) read-write, or choose another directory"
    case 1, 13: context.system.isRoot ? nil : "run as root"
    default: nil
    }
  }

  private func carryOut(_ step: Step) async throws -> Outcome {
    switch step {
    case .verify(let requirements):
      return .healthy(try await check(requirements).verify(agent: agent(requirements.runner)))
    case .restartEmptyAgent(let runner):
      try await restart(runner)
      return .done
    case .superviseAgent(let command, let owner, let mayBindLowPorts):
      return outcome(supervisedAgent.start(command, owner: owner, mayBindLowPorts: mayBindLowPorts))
    case .completeLifecycleAction(let hook):
      guard let lifecycleHooks else { throw Failure(.awsFailed, "cannot complete lifecycle hook \(hook) without AWS") }
      switch try await lifecycleHooks.proceed(hook) {
      case .completed: return .done
      case .alreadyOver(let state):
        context.log.info("lifecycle hook \(hook) is already completed", ["lifecycle_state": .string(state)])
        return .alreadyDone
      }
    case .claimRecord(let parameter, let text): return try await create(parameter, text) ? .done : .lost
    case .recordFormed(let parameter, let text): return outcome(try await create(parameter, text))
    case .stopAgent(let command), .run(let command), .reloadAgent(.command(let command), _):
      try await run(command)
      return .done
    case .reloadAgent(.api(let address, let token), _):
      try await reload(agentAt: address, token: token)
      return .done
    case .joinServers(let servers, let address, let token):
      return outcome(try await join(servers, agentAt: address, token: token))
    case .rename(let path, let target, _): return outcome(try rename(path, to: target))
    case .createDirectory(let path, let mode, let owner): return outcome(try createDirectory(path, mode, owner))
    case .recordInstance(let path, let text):
      return outcome(try writeIfChanged(path, text, mode: 0o644, owner: nil))
    case .setAutopilot(let change): return outcome(try await apply(change))
    case .reloadSupervisor(let supervision, _):
      try reload(supervision)
      return .done
    case .recordOptions(let path, let text):
      return outcome(try writeIfChanged(path, text, mode: 0o640, owner: nil))
    case .setHostName(let name): return outcome(try setHostName(name))
    case .writeConfiguration(let file): return outcome(try await write(file))
    case .writeUnit(let path, let text): return outcome(try writeUnit(path, text))
    case .writeFile(let path, let text): return outcome(try writeFile(path, text))
    case .copyProgram(let source, let path): return outcome(try copyProgram(source, to: path))
    case .removeFile(let path): return outcome(try removeFile(path))
    case .writeSecretFile(let path, let secret, let owner):
      return outcome(try writeIfChanged(path, secret.value, mode: 0o640, owner: owner))
    case .runContainer(let container): return outcome(try await run(container))
    case .runSidecar(let unit): return outcome(try await run(unit))
    case .setUpLogAgent(let configuration): return outcome(try await setUp(configuration))
    case .resolveThroughAgent(let resolver):
      return outcome(try await ResolverConfigurator(context: context).apply(resolver))
    }
  }

  private func create(_ parameter: String, _ text: String) async throws -> Bool {
    guard let record else { throw Failure(.awsFailed, "cannot create \(parameter) without AWS") }
    return try await record.create(parameter, text)
  }

  private func check(_ requirements: HealthRequirements) -> HealthCheck {
    guard let agreement else {
      return HealthCheck(requirements, context: context, recoveryLimit: recoveryLimit, lastLog: lastLog)
    }
    return HealthCheck(
      requirements, context: context, agreement: { try await agreement($0, self) }, recoveryLimit: recoveryLimit,
      lastLog: lastLog)
  }

  private func outcome(_ hasChanged: Bool) -> Outcome { hasChanged ? .done : .alreadyDone }

  private func agent(_ runner: AgentRunner) -> any AgentMonitor {
    supervisedAgent.supervisor ?? BackgroundAgent(runner: runner, context: context)
  }
}
