internal import AWS
package import Base
package import Decisions
package import Execution
internal import LogForwarding
package import Model
package import Observers
package import Sidecar

/// The main job: observe, decide, act, verify; and under supervise, stay until the agent ends.
package struct BootstrapRun: Sendable {
  private let settings: Settings
  private let context: RuntimeContext
  private let planner: Planner
  /// Nil if a sidecar forwards the logs already; called once this run forwards nothing any more.
  private let forwardingEnded: (@Sendable () -> Void)?
  /// Receives the error of a run that fails, for the log that is forwarded; the caller reports it everywhere else.
  private let finalError: @Sendable (Failure) -> Void
  /// Signals go to the supervisor once it starts an agent; until then they cancel the run.
  private let supervisorStarted: @Sendable (Supervisor, Sidecar) -> Void

  package init(
    settings: Settings, context: RuntimeContext, planner: Planner, forwardingEnded: (@Sendable () -> Void)?,
    finalError: @escaping @Sendable (Failure) -> Void,
    supervisorStarted: @escaping @Sendable (Supervisor, Sidecar) -> Void
  ) {
    self.settings = settings
    self.context = context
    self.planner = planner
    self.forwardingEnded = forwardingEnded
    self.finalError = finalError
    self.supervisorStarted = supervisorStarted
  }

  /// The result of a run.
  package struct Outcome: Sendable {
    package let plan: Plan
    /// Nil if nothing was started.
    package let health: Health?
    /// The end of a supervised agent.
    package let agentEnd: ProcessEnd?
  }

  /// - Parameter verified: called once the boot is a success, before staying with a supervised agent.
  /// - Throws: `Failure`, or `CancellationError`.
  package func run(verified: @escaping @Sendable (Outcome) -> Void) async throws -> Outcome {
    let instance: LocatedInstance
    do {
      instance = try await planner.locate()
    } catch let failure as Failure {
      finalError(failure)
      throw failure
    }
    let spool = makeSpool()
    // Logs matter most where no cluster forms. Under supervise they stay this process's.
    let early = forwardingEnded.map { ended in
      EarlyForwarding(
        LogForwardingService(settings: settings, context: context, instance: instance, spool: spool),
        ended: isSupervised ? nil : ended)
    }
    let hooks = LifecycleHooks(client: instance.client, instanceID: instance.identity.instanceID)
    do {
      let sidecar = Sidecar(settings: settings, context: context, planner: planner, spool: spool)
      let executor = StepExecutor(
        context: context, lifecycleHooks: hooks, agentOutput: spool, agentStarts: { supervisorStarted($0, sidecar) })
      let plan = try await planner.plan(at: instance, .run)
      let outcome = try await carryOut(plan, executor, sidecar, instance, early, verified: verified)
      await early?.end()
      return outcome
    } catch let error as FollowUpFailure {
      finalError(error.failure)
      await early?.end()
      throw error.failure
    } catch {
      if let failure = error as? Failure {
        await abandon(hooks)
        finalError(failure)
      }
      await early?.end()
      throw error
    }
  }

  private var isSupervised: Bool {
    (settings.start ?? (context.system.isBootedBySystemd ? .systemd : .supervise)) == .supervise
  }

  /// Keeps what a supervised agent writes while the service is away, or before anything is sent.
  private func makeSpool() -> Spool? {
    guard settings.forwards(.consul), settings.logAgent == nil, isSupervised else { return nil }
    return Spool(
      directory: settings.stateDirectory + "/log-queue", limit: Int64(settings.logQueue), files: context.files,
      log: context.log)
  }

  // MARK: The phases

  private func carryOut(
    _ plan: Plan, _ executor: StepExecutor, _ sidecar: Sidecar, _ instance: LocatedInstance, _ early: EarlyForwarding?,
    verified: @escaping @Sendable (Outcome) -> Void
  ) async throws -> Outcome {
    report(plan)
    if let obstacle = plan.obstacle { throw obstacle }
    do {
      for step in plan.steps.prepare + plan.steps.start { try await executor.perform(step) }
      guard executor.supervisedAgent.supervisor != nil else {
        let health = try await verify(plan, executor)
        // The sidecar continues with the logs where this run stops; without one, this run has to send them.
        await early?.end(handsOver: plan.startsSidecar)
        let followUp = await followUp(plan, executor)
        let outcome = Outcome(plan: plan, health: health, agentEnd: nil)
        verified(outcome)
        if let followUp { throw FollowUpFailure(failure: followUp) }
        return outcome
      }
      return try await supervise(plan, executor, sidecar, instance, early, verified: verified)
    } catch {
      await executor.supervisedAgent.stop()
      throw error
    }
  }

  private func report(_ plan: Plan) {
    context.log.info(
      "decision: \(plan.decision.name)",
      ["evidence": .strings(plan.decision.evidence), "peers": .strings(plan.peers.map(\.description))])
    for warning in plan.warnings {
      if case .joinWithoutLeader = plan.decision { context.log.error(warning) } else { context.log.warning(warning) }
    }
  }

  private func verify(_ plan: Plan, _ executor: StepExecutor) async throws -> Health? {
    var health: Health?
    for step in plan.steps.verify {
      if case .healthy(let found) = try await executor.perform(step) { health = found }
    }
    return health
  }

  /// The agent is healthy, whatever happens here: each failure is reported, and none undoes the boot.
  /// - Returns: the failure to complete the launch hook, which is for the caller to report.
  private func followUp(_ plan: Plan, _ executor: StepExecutor) async -> Failure? {
    var hookFailure: Failure?
    for step in plan.steps.after {
      do {
        try await executor.perform(step)
      } catch let failure as Failure {
        if case .completeLifecycleAction = step { hookFailure = failure } else { report(failure) }
      } catch {
        context.log.error("cannot \(step.title)", ["reason": .string(error.explained)])
      }
    }
    return hookFailure
  }

  private func report(_ failure: Failure) {
    context.log.error(
      failure.message, ["details": .strings(failure.details), "hint": failure.hint.map(JSONValue.string) ?? .null])
  }

  /// A failure after verification: the launch hook is not abandoned, and the agent goes on.
  private struct FollowUpFailure: Error {
    let failure: Failure
  }

  // MARK: Supervise

  private func supervise(
    _ plan: Plan, _ executor: StepExecutor, _ sidecar: Sidecar, _ instance: LocatedInstance, _ early: EarlyForwarding?,
    verified: @escaping @Sendable (Outcome) -> Void
  ) async throws -> Outcome {
    enum Event: Sendable {
      case agentEnded(ProcessEnd?)
      case verified(Health?)
      case sidecarEnded
    }
    return try await withThrowingTaskGroup(of: Event.self) { group in
      group.addTask { .agentEnded(try await executor.supervisedAgent.end()) }
      group.addTask { .verified(try await verify(plan, executor)) }
      var health: Health?
      // A failed verification throws from here; leaving the group then cancels the supervisor, which stops its agent.
      while let event = try await group.next() {
        switch event {
        case .verified(let found):
          health = found
          if let failure = await followUp(plan, executor) { report(failure) }
          verified(Outcome(plan: plan, health: found, agentEnd: nil))
          group.addTask {
            await early?.end(handsOver: true)
            await sidecar.stay(at: instance)
            return .sidecarEnded
          }
        case .sidecarEnded: break
        case .agentEnded(let end):
          await sidecar.flush()
          group.cancelAll()
          return Outcome(plan: plan, health: health, agentEnd: end)
        }
      }
      return Outcome(plan: plan, health: health, agentEnd: nil)
    }
  }

  // MARK: The launch hook

  /// The failure that leads here is the news; a failure to abandon the hook is only a warning.
  private func abandon(_ hooks: LifecycleHooks) async {
    guard let hook = settings.lifecycleHook else { return }
    do {
      try await hooks.complete(hook, .abandon)
      context.log.warning("completed lifecycle hook \(hook)", ["result": "ABANDON"])
    } catch {
      context.log.warning("cannot complete lifecycle hook \(hook)", ["reason": .string(error.explained)])
    }
  }
}
