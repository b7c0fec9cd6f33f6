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
  private let forwardingEnded: (@Sendable () -> Void)?
  private let finalError: @Sendable (Failure) -> Void
  private let supervisorStarted: @Sendable (Supervisor, Sidecar) -> Void

  /// - Parameters:
  ///   - forwardingEnded: called once this run forwards no logs any more; nil if a sidecar forwards them already.
  ///   - finalError: receives the error of a run that fails, before `run` throws it: it may still wait for the end of
  ///     the instance.
  ///   - supervisorStarted: called before the start of a supervised agent, which gets the signals from then on.
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
    /// Nil if no agent was started, or if it ended by a signal before it was healthy.
    package let health: Health?
    /// The end of a supervised agent.
    package let agentEnd: ProcessEnd?
  }

  /// What the phases of one run share.
  private struct Parts {
    let instance: LocatedInstance
    let hooks: LifecycleHooks
    /// Until the boot is a success.
    let heartbeats: Task<Void, Never>?
    let executor: StepExecutor
    let sidecar: Sidecar
    let early: EarlyForwarding?
    let verified: @Sendable (Outcome) -> Void
  }

  /// A failure of the boot stops a supervised agent and abandons the launch hook; one after verification does neither.
  /// - Parameter verified: called once the boot is a success, before staying with a supervised agent.
  /// - Throws: `Failure`, or `CancellationError`.
  package func run(verified: @escaping @Sendable (Outcome) -> Void) async throws -> Outcome {
    let run = prepare(at: try await locate(), verified)
    defer { run.heartbeats?.cancel() }
    var waitsForRecovery = false
    do {
      let planner = planner.reportingDraft { run.executor.earlyValidation.start($0) }
      let plan = try await claimRecord(try await planner.plan(at: run.instance, .run), run)
      if case .joinWithoutLeader = plan.decision { waitsForRecovery = true }
      let outcome = try await carryOut(plan, run)
      // A plan for a warm pool writes no configuration.
      await run.executor.earlyValidation.end()
      await run.early?.end()
      return outcome
    } catch let error as FailureAfterVerification {
      finalError(error.failure)
      await run.early?.end()
      throw error.failure
    } catch {
      await run.executor.earlyValidation.end()
      if let failure = error as? Failure {
        let ends = !waitsForRecovery && !failure.needsRepair
        let hold = ends ? await abandon(run.hooks) : await keepHook(run)
        finalError(failure)
        if let hold { await run.sidecar.endFailedBoot(at: run.instance, heldFor: hold) }
      }
      await run.early?.end()
      throw error
    }
  }

  private func locate() async throws -> LocatedInstance {
    do {
      return try await planner.locate(waits: true)
    } catch let failure as Failure {
      finalError(failure)
      throw failure
    }
  }

  private func prepare(at instance: LocatedInstance, _ verified: @escaping @Sendable (Outcome) -> Void) -> Parts {
    let spool = makeSpool()
    // Under supervise the logs stay this process's.
    let early = forwardingEnded.map { ended in
      EarlyForwarding(
        LogForwardingService(settings: settings, context: context, instance: instance, spool: spool),
        ended: isSupervised ? nil : ended)
    }
    let hooks = LifecycleHooks(
      context: context, client: instance.client, instanceID: instance.identity.instanceID,
      waitTimeout: settings.waitTimeout)
    let sidecar = Sidecar(settings: settings, context: context, planner: planner, spool: spool)
    var recoveryLimit: HealthCheck.RecoveryLimit?
    if let hook = settings.lifecycleHook { recoveryLimit = { await hooks.timeLeft(hook) } }
    let executor = StepExecutor(
      context: context, lifecycleHooks: hooks, record: RecordWriter(client: instance.client),
      agreement: { reason, executor in
        try await ServerAgreement(
          settings: settings, context: context, planner: planner, instance: instance, executor: executor
        ).look(reason)
      },
      recoveryLimit: recoveryLimit, lastLog: { [planner] in try await planner.lastLog(of: $0) },
      agentOutput: spool,
      agentStarts: {
        sidecar.monitors($0)
        supervisorStarted($0, sidecar)
      })
    return Parts(
      instance: instance, hooks: hooks,
      heartbeats: settings.lifecycleHook.map { hook in Task { await hooks.keepAlive(hook) } }, executor: executor,
      sidecar: sidecar, early: early, verified: verified)
  }

  private var isSupervised: Bool {
    settings.start(isBootedBySystemd: context.system.isBootedBySystemd) == .supervise
  }

  /// Whether another process supervises the agent already: then its output is that process's.
  private var hasSupervisor: Bool {
    do throws(FileError) {
      return try context.files.holder(ofLock: settings.supervisorLockPath) != nil
    } catch {
      context.log.debug("cannot check for another supervisor", ["reason": .string(error.explanation)])
      return false
    }
  }

  /// Keeps the output of a supervised agent while CloudWatch cannot be reached, or before anything is sent.
  private func makeSpool() -> Spool? {
    guard settings.forwards(.consul), settings.logAgent == nil, isSupervised, !hasSupervisor else { return nil }
    return Spool(
      directory: settings.stateDirectory + "/log-queue", limit: Int64(settings.logQueue), files: context.files,
      log: context.log)
  }

  // MARK: The cluster's record

  /// Between two attempts to claim the record.
  private static let claimBackoff = Backoff(base: .seconds(1), cap: .seconds(5))
  /// Each lost claim is an entry of another server, and each server creates few.
  private static let maximumClaims = 20

  /// Carries out the plan's claim, and plans again until none is lost.
  /// - Returns: a plan whose claim, if it has one, is carried out.
  /// - Throws: `Failure`, with status 12 if the record cannot be written for `--wait-timeout`.
  private func claimRecord(_ first: Plan, _ run: Parts) async throws -> Plan {
    var plan = first, attempt = 0, lost = 0
    let start = context.uptime()
    var generator = SystemRandomNumberGenerator()
    while lost < Self.maximumClaims {
      guard plan.obstacle == nil, let claim = plan.claim else { return plan }
      do {
        guard try await run.executor.perform(claim) == .lost else { return plan }
        lost += 1
        plan = try await planner.plan(at: run.instance, afterLosing: plan)
      } catch let failure as Failure where [.awsFailed, .noCredentials, .noMetadata].contains(failure.status) {
        let left = settings.waitTimeout - (context.uptime() - start)
        guard left > .zero else { throw failure }
        context.log.progress("waiting for the cluster's record: \(failure.explanation)")
        try await context.clock.sleep(for: min(left, Self.claimBackoff.halfJitter(attempt, using: &generator)))
        attempt += 1
        plan = try await planner.plan(at: run.instance, .run)
      }
    }
    throw Failure(
      .awsFailed, "cannot claim the cluster's record: other servers were first \(Self.maximumClaims) times",
      hint: "check whether several groups have the same --cluster-record")
  }

  // MARK: The phases

  private func carryOut(_ plan: Plan, _ run: Parts) async throws -> Outcome {
    report(plan)
    if let obstacle = plan.obstacle { throw obstacle }
    let agent = run.executor.supervisedAgent
    do {
      for step in plan.steps.prepare where step != plan.claim { try await run.executor.perform(step) }
      if plan.needsStartGate {
        try await StartGate(settings: settings, context: context, planner: planner).run()
      }
      for step in plan.steps.start { try await run.executor.perform(step) }
      if let supervisor = agent.supervisor { return try await supervise(plan, supervisor, run) }
      return try await finish(plan, run)
    } catch {
      // Also for a step between the agent's start and `supervise`.
      await agent.stop()
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

  /// The rest of a run that supervises no agent.
  private func finish(_ plan: Plan, _ run: Parts) async throws -> Outcome {
    let outcome = Outcome(plan: plan, health: try await verify(plan, run), agentEnd: nil)
    // A sidecar continues with the logs; without one, this run has to send all of them.
    await run.early?.end(handsOver: plan.startsSidecar)
    let hookFailure = try await followUp(plan, run)
    run.verified(outcome)
    if let hookFailure { throw FailureAfterVerification(failure: hookFailure) }
    return outcome
  }

  private func verify(_ plan: Plan, _ run: Parts) async throws -> Health? {
    var health: Health?
    for step in plan.steps.verify {
      if case .healthy(let found) = try await run.executor.perform(step) { health = found }
    }
    return health
  }

  /// The agent is healthy, whatever fails here: each failure is reported, and none undoes the boot.
  /// - Returns: the failure to complete the launch hook, which is for the caller to report.
  /// - Throws: `CancellationError`.
  private func followUp(_ plan: Plan, _ run: Parts) async throws -> Failure? {
    run.heartbeats?.cancel()
    var hookFailure: Failure?
    for step in plan.steps.after {
      do {
        try await run.executor.perform(step)
      } catch let error as CancellationError {
        throw error
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

  private struct FailureAfterVerification: Error {
    let failure: Failure
  }

  // MARK: Supervise

  private enum Event: Sendable {
    case agentEnded(ProcessEnd?)
    case verified(Health?)
    case unhealthy(Failure)
    /// With the failure to complete the launch hook.
    case followedUp(Failure?)
    case sidecarEnded
  }

  private func supervise(_ plan: Plan, _ supervisor: Supervisor, _ run: Parts) async throws -> Outcome {
    try await withThrowingTaskGroup(of: Event.self) { group in
      group.addTask { .agentEnded(try await run.executor.supervisedAgent.end()) }
      group.addTask {
        do { return .verified(try await verify(plan, run)) } catch let failure as Failure { return .unhealthy(failure) }
      }
      var health: Health?, isVerified = false
      do {
        // An error leaves the group, which cancels the supervisor, which stops its agent.
        while let event = try await group.next() {
          switch event {
          case .verified(let found):
            (health, isVerified) = (found, true)
            group.addTask { .followedUp(try await followUp(plan, run)) }
          case .unhealthy(let failure):
            // The instance ends, and a vote that is left behind would count against the quorum.
            if case .join = plan.decision, settings.lifecycleHook != nil, !failure.needsRepair {
              await run.sidecar.leaveBeforeStop()
            }
            throw failure
          case .followedUp(let failure):
            if let failure { report(failure) }
            run.verified(Outcome(plan: plan, health: health, agentEnd: nil))
            group.addTask {
              // The report of an earlier process would count as late while logs are sent.
              await run.sidecar.report()
              await run.early?.end(handsOver: true)
              await run.sidecar.stay(at: run.instance)
              return .sidecarEnded
            }
          case .sidecarEnded: break
          case .agentEnded(let end):
            if !isVerified, let failure = await prematureEnd(end, supervisor) { throw failure }
            await uncancelled {
              await run.sidecar.finishDeparture()
              await run.sidecar.flush()
            }
            group.cancelAll()
            return Outcome(plan: plan, health: health, agentEnd: end)
          }
        }
      } catch let failure as Failure where isVerified {
        throw FailureAfterVerification(failure: failure)
      }
      return Outcome(plan: plan, health: health, agentEnd: nil)
    }
  }

  /// An agent that left before it was healthy is a failed boot, unless a signal asked it to.
  private func prematureEnd(_ end: ProcessEnd?, _ supervisor: Supervisor) async -> Failure? {
    guard let end, await !supervisor.isStopping, !Task.isCancelled else { return nil }
    return Failure(
      .agentNotStarted, "the Consul agent ended before it was healthy: \(end.explanation)",
      details: relevantLogLines(of: await supervisor.lastLines()),
      hint: "check the agent's output above, and whether another program stopped the agent")
  }

  // MARK: The launch hook

  /// Terminating this instance would repair nothing, and take an empty server from a cluster that needs one.
  /// - Returns: how long the hook still holds this instance. Nil if that is over, or if whatever started this process
  ///   may start it again to wait on.
  private func keepHook(_ run: Parts) async -> Duration? {
    guard let hook = settings.lifecycleHook else { return nil }
    context.log.warning(
      "lifecycle hook \(hook) is left to its time-out: the cluster has to be repaired, not this instance")
    run.heartbeats?.cancel()
    return isSupervised ? nil : await run.hooks.holdTime(hook)
  }

  /// The failure that leads here is reported as an error; a failure to abandon the hook is only a warning.
  /// - Returns: how long the hook still holds this instance, which Auto Scaling then ends. Nil for one that stays: a
  ///   run was repeated on a server in service.
  private func abandon(_ hooks: LifecycleHooks) async -> Duration? {
    guard let hook = settings.lifecycleHook else { return nil }
    do {
      switch try await hooks.abandon(hook) {
      case .completed:
        context.log.warning("completed lifecycle hook \(hook)", ["result": "ABANDON"])
        return .zero
      case .alreadyOver(let state):
        context.log.info("lifecycle hook \(hook) does not hold this instance, which is in state \(state)")
      }
    } catch {
      context.log.warning("cannot abandon lifecycle hook \(hook)", ["reason": .string(error.explained)])
    }
    return await hooks.holdTime(hook)
  }
}

extension Plan {
  /// Whether this run starts an agent with data; systemd's unit runs the gate by itself.
  fileprivate var needsStartGate: Bool {
    guard case .rejoin = decision, !observation.machine.agentIsRunning else { return false }
    return start == .supervise || start == .docker
  }
}
