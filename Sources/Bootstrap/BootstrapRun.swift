internal import AWS
package import Base
package import Decisions
internal import LogForwarding

/// The main job: observe, decide, act, prove; and under supervise, stay until the agent ends.
package struct BootstrapRun: Sendable {
  private let settings: Settings
  private let context: RuntimeContext
  private let planner: Planner
  /// Signals go here once an agent runs under us; until then they cancel the run.
  private let supervisorStarted: @Sendable (Supervisor, Sidecar) -> Void
  /// Nil where a sidecar forwards the logs already; called once this run does not any more.
  private let forwardingEnded: (@Sendable () -> Void)?
  /// Of a run that fails, for the log that is forwarded: everybody else is told by who catches it.
  private let finalError: @Sendable (Failure) -> Void

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

  /// What a run has to tell.
  package struct Outcome: Sendable {
    package let plan: Plan
    /// Nil if nothing was started.
    package let health: Health?
    /// Of the agent, when it was supervised to its end.
    package let agentEnd: ProcessEnd?
  }

  /// - Parameter verified: called once the boot is a success, before staying with a supervised agent.
  /// - Throws: `Failure`, or `CancellationError`.
  package func run(verified: @Sendable (Outcome) -> Void) async throws -> Outcome {
    let instance: LocatedInstance
    do {
      instance = try await planner.locate()
    } catch let failure as Failure {
      finalError(failure)
      throw failure
    }
    let isSupervised = (settings.start ?? (context.system.isBootedBySystemd ? .systemd : .supervise)) == .supervise
    // What the agent writes while the service is away, or before anything is sent.
    let spool =
      settings.forwards("consul") && settings.logAgent == nil && isSupervised
      ? Spool(
        directory: settings.stateDirectory + "/log-queue", limit: Int64(settings.logQueue), files: context.files,
        log: context.log) : nil
    // Logs matter most where no cluster comes of it. Under supervise they stay this process's.
    let early = forwardingEnded.map { ended in
      let duty = LogForwardingService(settings: settings, context: context, instance: instance, spool: spool)
      return EarlyForwarding(duty, ended: isSupervised ? nil : ended)
    }
    do {
      let outcome = try await carryOut(
        try await planner.plan(at: instance, .run), instance, spool, early, verified: verified)
      await early?.end()
      return outcome
    } catch {
      if let failure = error as? Failure {
        await abandonHook(instance)
        finalError(failure)
      }
      await early?.end()
      throw error
    }
  }

  /// Forwards the logs from the first line on, until a sidecar does.
  private actor EarlyForwarding {
    private let duty: LogForwardingService
    private let work: Task<Void, Never>
    private let ended: (@Sendable () -> Void)?
    private var hasEnded = false

    init(_ duty: LogForwardingService, ended: (@Sendable () -> Void)?) {
      self.duty = duty
      self.ended = ended
      work = Task { await duty.run() }
    }

    /// So long for what is on its way: a sidecar goes on with the rest.
    private static let handingOver = Duration.seconds(2)

    func end(handsOver: Bool = false) async {
      guard !hasEnded else { return }
      hasEnded = true
      if handsOver { await duty.flush(within: Self.handingOver) } else { await duty.flush() }
      work.cancel()
      await work.value
      ended?()
    }
  }

  private func carryOut(
    _ plan: Plan, _ instance: LocatedInstance, _ spool: Spool?, _ early: EarlyForwarding?,
    verified: @Sendable (Outcome) -> Void
  ) async throws -> Outcome {
    context.log.info(
      "decision: \(plan.decision.name)",
      ["evidence": .strings(plan.decision.evidence), "peers": .strings(plan.peers.map(\.description))])
    for warning in plan.warnings {
      if case .joinWithoutLeader = plan.decision { context.log.error(warning) } else { context.log.warning(warning) }
    }
    if let obstacle = plan.obstacle { throw obstacle }
    let executor = StepExecutor(context: context)
    var goal: HealthRequirements?
    var supervisor: Supervisor?
    for step in plan.steps {
      switch step {
      case .superviseAgent(let command, let owner, let mayBindLowPorts):
        supervisor = Supervisor(command, owner: owner, mayBindLowPorts: mayBindLowPorts, copy: spool, context: context)
      case .verify(let wanted): goal = wanted
      case .completeLifecycleAction, .resolveThroughAgent, .runSidecar, .setUpLogAgent: break
      default: try await executor.perform(step)
      }
    }
    guard let goal else {
      try await completeHook(instance)
      let outcome = Outcome(plan: plan, health: nil, agentEnd: nil)
      verified(outcome)
      return outcome
    }
    if let supervisor { return try await supervise(supervisor, spool, early, goal, plan, instance, verified: verified) }
    let agent = BackgroundAgent(start: plan.start, consulPath: instance.consulPath, context: context)
    let health = try await HealthCheck(goal, context: context).verify(
      within: settings.verifyTimeout, crash: { await agent.crashReason() }, lastLines: { await agent.lastLines() })
    let outcome = Outcome(plan: plan, health: health, agentEnd: nil)
    // The sidecar goes on with the logs where this run leaves them; without one, this run has to send them.
    await early?.end(handsOver: plan.steps.contains { if case .runSidecar = $0 { true } else { false } })
    try await performFollowUps(plan)
    try await completeHook(instance)
    verified(outcome)
    return outcome
  }

  private func supervise(
    _ supervisor: Supervisor, _ spool: Spool?, _ early: EarlyForwarding?, _ goal: HealthRequirements, _ plan: Plan,
    _ instance: LocatedInstance,
    verified: @Sendable (Outcome) -> Void
  ) async throws -> Outcome {
    enum Event: Sendable {
      case ended(ProcessEnd)
      case healthy(Health)
      case sidecarEnded
    }
    let sidecar = Sidecar(settings: settings, context: context, planner: planner, spool: spool)
    supervisorStarted(supervisor, sidecar)
    return try await withThrowingTaskGroup(of: Event.self) { group in
      group.addTask { .ended(try await supervisor.run()) }
      group.addTask {
        let health = try await HealthCheck(goal, context: context).verify(
          within: settings.verifyTimeout, crash: { await supervisor.crashReason() },
          lastLines: { await supervisor.lastLines() })
        return .healthy(health)
      }
      var health: Health?
      // A failed proof throws from here; leaving the group then cancels the supervisor, which stops its agent.
      while let event = try await group.next() {
        switch event {
        case .healthy(let proof):
          health = proof
          try await performFollowUps(plan)
          try await completeHook(instance)
          verified(Outcome(plan: plan, health: proof, agentEnd: nil))
          group.addTask {
            await early?.end(handsOver: true)
            await sidecar.stay(at: instance)
            return .sidecarEnded
          }
        case .sidecarEnded: break
        case .ended(let end):
          await sidecar.flush()
          group.cancelAll()
          return Outcome(plan: plan, health: health, agentEnd: end)
        }
      }
      preconditionFailure("the supervisor's event ends the loop")
    }
  }

  // MARK: The launch hook

  private func completeHook(_ instance: LocatedInstance) async throws {
    guard let hook = settings.lifecycleHook else { return }
    try await complete(hook, .proceed, instance)
    context.log.info("completed lifecycle hook \(hook)", ["result": "CONTINUE"])
  }

  /// The failure that leads here is the news; what goes wrong now is only a warning.
  private func abandonHook(_ instance: LocatedInstance) async {
    guard let hook = settings.lifecycleHook else { return }
    do {
      try await complete(hook, .abandon, instance)
      context.log.warning("completed lifecycle hook \(hook)", ["result": "ABANDON"])
    } catch {
      context.log.warning(
        "cannot complete lifecycle hook \(hook)",
        ["reason": .string(error.explained)])
    }
  }

  private func complete(
    _ hook: String, _ action: AutoScaling.LifecycleActionResult, _ instance: LocatedInstance
  ) async throws {
    let api = AutoScaling(client: instance.client), instanceID = instance.identity.instanceID
    do {
      guard let group = try await api.groupName(ofInstance: instanceID) else {
        throw Failure(
          .awsFailed, "this instance is in no Auto Scaling group and has no lifecycle hook",
          hint: "leave out --lifecycle-hook")
      }
      try await api.completeLifecycleAction(hook: hook, group: group, instanceID: instanceID, action)
    } catch {
      throw error.asFailure("complete lifecycle hook \(hook)")
    }
  }

  /// What needs a healthy agent. Its trouble is said, and is not the agent's.
  private func performFollowUps(_ plan: Plan) async throws {
    for step in plan.steps {
      do {
        switch step {
        case .resolveThroughAgent, .runSidecar, .setUpLogAgent: try await StepExecutor(context: context).perform(step)
        default: break
        }
      } catch let failure as Failure {
        context.log.error(
          failure.message, ["details": .strings(failure.details), "hint": failure.hint.map(JSONValue.string) ?? .null])
      }
    }
  }
}
