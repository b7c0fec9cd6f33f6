internal import AWS
package import Base
package import Decisions
internal import LogForwarding

/// The main job: observe, decide, act, prove; and under supervise, stay until the agent ends.
package struct BootstrapRun: Sendable {
  private let settings: Settings
  private let world: World
  private let planner: Planner
  /// Signals go here once an agent runs under us; until then they cancel the run.
  private let supervisorStarted: @Sendable (Supervisor, Sidecar) -> Void
  /// Nil where a sidecar forwards the logs already; called once this run does not any more.
  private let forwardingEnded: (@Sendable () -> Void)?
  /// Of a run that fails, for the log that is forwarded: everybody else is told by who catches it.
  private let lastWords: @Sendable (Failure) -> Void

  package init(
    settings: Settings, world: World, planner: Planner, forwardingEnded: (@Sendable () -> Void)?,
    lastWords: @escaping @Sendable (Failure) -> Void,
    supervisorStarted: @escaping @Sendable (Supervisor, Sidecar) -> Void
  ) {
    self.settings = settings
    self.world = world
    self.planner = planner
    self.forwardingEnded = forwardingEnded
    self.lastWords = lastWords
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

  /// - Parameter proven: called once the boot is a success, before staying with a supervised agent.
  /// - Throws: `Failure`, or `CancellationError`.
  package func run(proven: @Sendable (Outcome) -> Void) async throws -> Outcome {
    let place: Planner.Place
    do {
      place = try await planner.locate()
    } catch let failure as Failure {
      lastWords(failure)
      throw failure
    }
    let isSupervised = (settings.start ?? (world.system.isBootedBySystemd ? .systemd : .supervise)) == .supervise
    // What the agent writes while the service is away, or before anything is sent.
    let spool =
      settings.forwards("consul") && settings.logAgent == nil && isSupervised
      ? Spool(
        directory: settings.stateDirectory + "/log-queue", limit: Int64(settings.logQueue), files: world.files,
        log: world.log) : nil
    // Logs matter most where no cluster comes of it. Under supervise they stay this process's.
    let early = forwardingEnded.map { ended in
      let duty = LogDuty(settings: settings, world: world, place: place, spool: spool)
      return EarlyForwarding(duty, ended: isSupervised ? nil : ended)
    }
    do {
      let outcome = try await carryOut(try await planner.plan(at: place, .run), place, spool, early, proven: proven)
      await early?.end()
      return outcome
    } catch {
      if let failure = error as? Failure {
        await abandonHook(place)
        lastWords(failure)
      }
      await early?.end()
      throw error
    }
  }

  /// Forwards the logs from the first line on, until a sidecar does.
  private actor EarlyForwarding {
    private let duty: LogDuty
    private let work: Task<Void, Never>
    private let ended: (@Sendable () -> Void)?
    private var hasEnded = false

    init(_ duty: LogDuty, ended: (@Sendable () -> Void)?) {
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
    _ plan: Plan, _ place: Planner.Place, _ spool: Spool?, _ early: EarlyForwarding?,
    proven: @Sendable (Outcome) -> Void
  ) async throws -> Outcome {
    world.log.info(
      "decision: \(plan.decision.name)",
      ["evidence": .strings(plan.decision.evidence), "peers": .strings(plan.peers.map(\.description))])
    for warning in plan.warnings {
      if case .joinWithoutLeader = plan.decision { world.log.error(warning) } else { world.log.warning(warning) }
    }
    if let obstacle = plan.obstacle { throw obstacle }
    let performer = Performer(world: world)
    var goal: ProofGoal?
    var supervisor: Supervisor?
    for step in plan.steps {
      switch step {
      case .superviseAgent(let command, let owner, let mayBindLowPorts):
        supervisor = Supervisor(command, owner: owner, mayBindLowPorts: mayBindLowPorts, copy: spool, world: world)
      case .prove(let wanted): goal = wanted
      case .completeLifecycleAction, .resolveThroughAgent, .runSidecar, .setUpLogAgent: break
      default: try await performer.perform(step)
      }
    }
    guard let goal else {
      try await completeHook(place)
      let outcome = Outcome(plan: plan, health: nil, agentEnd: nil)
      proven(outcome)
      return outcome
    }
    if let supervisor { return try await supervise(supervisor, spool, early, goal, plan, place, proven: proven) }
    let agent = BackgroundAgent(start: plan.start, consulPath: place.consulPath, world: world)
    let health = try await HealthProof(goal, world: world).prove(
      within: settings.verifyTimeout, crash: { await agent.crashReason() }, lastLines: { await agent.lastLines() })
    let outcome = Outcome(plan: plan, health: health, agentEnd: nil)
    // The sidecar goes on with the logs where this run leaves them; without one, this run has to send them.
    await early?.end(handsOver: plan.steps.contains { if case .runSidecar = $0 { true } else { false } })
    try await performAfterProof(plan)
    try await completeHook(place)
    proven(outcome)
    return outcome
  }

  private func supervise(
    _ supervisor: Supervisor, _ spool: Spool?, _ early: EarlyForwarding?, _ goal: ProofGoal, _ plan: Plan,
    _ place: Planner.Place,
    proven: @Sendable (Outcome) -> Void
  ) async throws -> Outcome {
    enum Event: Sendable {
      case ended(ProcessEnd)
      case healthy(Health)
      case sidecarEnded
    }
    let sidecar = Sidecar(settings: settings, world: world, planner: planner, spool: spool)
    supervisorStarted(supervisor, sidecar)
    return try await withThrowingTaskGroup(of: Event.self) { group in
      group.addTask { .ended(try await supervisor.run()) }
      group.addTask {
        let health = try await HealthProof(goal, world: world).prove(
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
          try await performAfterProof(plan)
          try await completeHook(place)
          proven(Outcome(plan: plan, health: proof, agentEnd: nil))
          group.addTask {
            await early?.end(handsOver: true)
            await sidecar.stay(at: place)
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

  private func completeHook(_ place: Planner.Place) async throws {
    guard let hook = settings.lifecycleHook else { return }
    try await complete(hook, .proceed, place)
    world.log.info("completed lifecycle hook \(hook)", ["result": "CONTINUE"])
  }

  /// The failure that leads here is the news; what goes wrong now is only a warning.
  private func abandonHook(_ place: Planner.Place) async {
    guard let hook = settings.lifecycleHook else { return }
    do {
      try await complete(hook, .abandon, place)
      world.log.warning("completed lifecycle hook \(hook)", ["result": "ABANDON"])
    } catch {
      world.log.warning(
        "cannot complete lifecycle hook \(hook)",
        ["reason": .string((error as? Failure)?.lines.joined(separator: " ") ?? "\(error)")])
    }
  }

  private func complete(
    _ hook: String, _ action: AutoScaling.LifecycleActionResult, _ place: Planner.Place
  ) async throws {
    let api = AutoScaling(client: place.client), instance = place.identity.instanceID
    do {
      guard let group = try await api.groupName(ofInstance: instance) else {
        throw Failure(
          .awsFailed, "this instance is in no Auto Scaling group and has no lifecycle hook",
          hint: "leave out --lifecycle-hook")
      }
      try await api.completeLifecycleAction(hook: hook, group: group, instanceID: instance, action)
    } catch let error as AWSError {
      throw error.failure("complete lifecycle hook \(hook)", role: await place.client.roleName())
    }
  }

  /// What needs a healthy agent. Its trouble is said, and is not the agent's.
  private func performAfterProof(_ plan: Plan) async throws {
    for step in plan.steps {
      do {
        switch step {
        case .resolveThroughAgent, .runSidecar, .setUpLogAgent: try await Performer(world: world).perform(step)
        default: break
        }
      } catch let failure as Failure {
        world.log.error(
          failure.message, ["details": .strings(failure.details), "hint": failure.hint.map(JSONValue.string) ?? .null])
      }
    }
  }
}
