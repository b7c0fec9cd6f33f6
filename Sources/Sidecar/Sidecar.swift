internal import AWS
package import Base
internal import Consul
internal import Decisions
package import Execution
package import LogForwarding
package import Model
package import Observers
internal import Synchronization

/// Runs beside the agent: keeps it joined to the servers of other datacenters and to servers that have all been
/// replaced, and runs log forwarding. Errors are logged and retried; they never affect the agent.
package final class Sidecar: Sendable {
  let context: RuntimeContext
  /// Holds the output of a supervised agent; nil where the agent is no child of this process.
  private let spool: Spool?
  let state: Mutex<State>

  struct State {
    var settings: Settings
    var planner: Planner
    var service: LogForwardingService?
    /// Log forwarding and polls with these settings; a reload restarts it.
    var work: Task<Void, Never>?
    var needsRestart = false
    /// What keeps the agent joined, until it is to leave.
    var duties: Task<Void, Never>?
    var isDeparting = false
    /// From the notice to the completion of the hook.
    var departure: Task<Void, any Error>?
    /// Word of a spot interruption that came during a departure.
    var spotNotice: Notice?
    var configurationError = ReportedReason()
    /// For the report: the agent's parent, what fails now by what it is for, and why the report cannot be written.
    var supervisor: Supervisor?
    var retried: [String: String] = [:]
    /// Also for the report; their starts count from the boot on.
    var notices: [InstanceNotice] = []
    var reportError = ReportedReason()
  }

  var settings: Settings { state.withLock { $0.settings } }
  var planner: Planner { state.withLock { $0.planner } }
  /// Of an agent that is a child of this process.
  var supervisor: Supervisor? { state.withLock { $0.supervisor } }

  package init(settings: Settings, context: RuntimeContext, planner: Planner, spool: Spool?) {
    self.context = context
    self.spool = spool
    state = Mutex(State(settings: settings.besideOtherFiles(context.files), planner: planner))
  }

  /// The agent is a child of this process.
  package func monitors(_ supervisor: Supervisor) { state.withLock { $0.supervisor = supervisor } }

  /// While nothing is missing, every so many polls call AWS: 5 minutes by default.
  static let pollsPerAWSCall = 10
  /// Metadata may be late at boot; a missing Consul binary may be so for ever.
  private static let backoff = Backoff(base: .seconds(5), cap: .seconds(60))
  /// A WAN join crosses zones: longer than a read from the agent.
  static let joinTimeout = Duration.seconds(10)
  static let agentTimeout = Duration.seconds(2)

  /// What a poll leaves for the next.
  struct PollState {
    var polls = 0
    var wasComplete = false
    var servers: Readiness?
    /// Secrets whose change has been logged.
    var changedSecrets: Set<String> = []
    /// The pools whose members ACLs hide, as logged.
    var hiddenPools: Set<String> = []
    /// Whether the client has joined servers that its configuration does not list yet.
    var hasJoinedServers = false
    var record = RecordMemory()
    /// By what failed.
    private var errors: [String: ReportedReason] = [:]

    /// - Parameter reason: why `purpose` failed now; nil for a success.
    /// - Returns: whether to log it: once for each reason.
    mutating func isNew(_ reason: String?, for purpose: String) -> Bool {
      errors[purpose, default: ReportedReason()].isNew(reason)
    }
  }

  /// As a process of its own: locates the instance, repairs what a reboot may have changed, and stays until cancelled.
  /// - Parameter ready: called once the polls begin.
  /// - Throws: `CancellationError` only; any other error is logged once for each reason, and retried.
  package func run(ready: @Sendable () -> Void) async throws {
    async let reports: Void = keepReporting()
    try await locateAndWork(ready: ready)
    await reports
  }

  private func locateAndWork(ready: @Sendable () -> Void) async throws {
    let instance = try await begun { try await self.planner.locate() }
    // From now on: an instance whose container never starts terminates, too.
    async let notices: Void = watchNotices(at: instance)
    await untilDeparture {
      do {
        try await self.begun {
          try await self.adaptToAddress(instance)
          try await self.startContainer(instance)
        }
      } catch {}
    }
    try Task.checkCancellation()
    ready()
    await work(at: instance)
    await notices
  }

  /// Retries a part of the start until it succeeds.
  /// - Throws: `CancellationError` only.
  private func begun<Value>(_ part: () async throws -> Value) async throws -> Value {
    var reported = ReportedReason(), attempts = 0
    while true {
      do {
        let value = try await part()
        note(nil, for: Self.begin)
        return value
      } catch let error as CancellationError {
        throw error
      } catch {
        note(error.explained, for: Self.begin)
        if reported.isNew(error.stableReason) {
          context.log.warning("the sidecar cannot start yet; retrying", ["reason": .string(error.explained)])
        }
        try await context.clock.sleep(for: Self.backoff.bound(attempts))
        attempts += 1
      }
    }
  }

  private static let begin = "start yet"

  /// Until cancelled.
  package func stay(at instance: LocatedInstance) async {
    async let reports: Void = keepReporting()
    async let notices: Void = watchNotices(at: instance)
    await work(at: instance)
    await notices
    await reports
  }

  private func work(at instance: LocatedInstance) async {
    repeat {
      // Under one lock: a reload comes either before this read, or after the new work can be cancelled.
      let work = state.withLock { state in
        state.needsRestart = false
        let service = LogForwardingService(
          settings: state.settings, context: context, instance: instance, spool: spool)
        let work = Task {
          await withTaskGroup(of: Void.self) { group in
            group.addTask { await service.run() }
            group.addTask { await self.keepJoined(at: instance) }
            group.addTask { await self.watchDeadMembers(at: instance) }
            group.addTask { await self.watchOutage(at: instance) }
          }
        }
        state.service = service
        state.work = work
        return work
      }
      await withTaskCancellationHandler {
        await work.value
      } onCancel: {
        work.cancel()
      }
    } while !Task.isCancelled && state.withLock { $0.needsRestart }
  }

  private func keepJoined(at instance: LocatedInstance) async {
    await untilDeparture {
      await withTaskGroup(of: Void.self) { group in
        group.addTask { await self.watchAgent(at: instance) }
        group.addTask { await self.watchServer(at: instance) }
        group.addTask { await self.watchIdentity(at: instance) }
      }
    }
  }

  /// Until it is over, cancelled, or the agent is to leave: then nothing starts, joins or restarts it any more.
  private func untilDeparture(_ work: @escaping @Sendable () async -> Void) async {
    // Under one lock, as above.
    let duties = state.withLock { state -> Task<Void, Never>? in
      guard !state.isDeparting else { return nil }
      let duties = Task { await work() }
      state.duties = duties
      return duties
    }
    guard let duties else { return }
    await withTaskCancellationHandler {
      await duties.value
    } onCancel: {
      duties.cancel()
    }
  }

  /// The agent is to leave.
  func stopKeepingJoined() async {
    let duties = state.withLock { state in
      state.isDeparting = true
      return state.duties
    }
    duties?.cancel()
    await duties?.value
  }

  /// Waits until a departure that goes on has completed its hook: its agent may have ended before. What takes longer is
  /// cancelled, as this process ends, and the hook is left to its time-out.
  package func finishDeparture() async {
    guard let departure = state.withLock({ $0.departure }) else { return }
    do {
      let isComplete: Void? = try await context.within(Self.completionTimeout) {
        // The cancellation of a task that waits for another does not reach that one.
        try await withTaskCancellationHandler {
          try await departure.value
        } onCancel: {
          departure.cancel()
        }
      }
      if isComplete == nil { context.log.warning("the departure is not complete; its hook is left to its time-out") }
    } catch {
      context.log.info("the departure was interrupted", ["reason": .string(error.explained)])
    }
  }

  /// The others confirm a departure within seconds; AWS may refuse the completion for longer.
  private static let completionTimeout = Duration.seconds(60)

  /// Takes a server out of its cluster before its agent is stopped, if the others keep their quorum; else it stays a
  /// member. A client's agent leaves by itself. A machine that reboots returns with its data.
  package func leaveBeforeStop() async {
    guard settings.role == .server, settings.leaveOnTerminate else { return }
    guard await !context.reboots else {
      context.log.info("not leaving: this machine reboots, and returns with its data")
      return
    }
    await stopKeepingJoined()
    do {
      _ = try await Departure(settings: settings, context: context).runBeforeStop()
    } catch {
      context.log.info("the departure was interrupted")
    }
  }

  /// Continues with other settings. Logs that have been read by now are sent first, for at most `--flush-timeout`.
  package func reload(_ settings: Settings) {
    let planner = planner.with(settings), settings = settings.besideOtherFiles(context.files)
    let (service, work, departure, isNew) = state.withLock { state in
      let isNew = state.settings != settings
      state.settings = settings
      state.planner = planner
      if isNew { state.needsRestart = true }
      return (state.service, state.work, state.departure, isNew)
    }
    context.log.info(isNew ? "the options have changed; restarting with the new ones" : "the options have not changed")
    guard isNew else { return }
    Task {
      await service?.flush()
      work?.cancel()
      // It begins again with the new options.
      departure?.cancel()
    }
  }

  /// Before the cancellation: sends pending logs, for at most `--flush-timeout`.
  package func flush() async { await state.withLock { $0.service }?.flush() }

  private func watchAgent(at instance: LocatedInstance) async {
    var pollState = PollState()
    var generator = SystemRandomNumberGenerator()
    while !Task.isCancelled {
      // Half to one and a half times the interval: instances that booted together do not call together.
      let share = Double.random(in: 0.5...1.5, using: &generator)
      do { try await context.clock.sleep(for: settings.sidecarInterval * share) } catch { return }
      await poll(instance, &pollState)
      pollState.polls += 1
    }
  }

  /// Each part may fail without harm to the others.
  private func poll(_ instance: LocatedInstance, _ pollState: inout PollState) async {
    let callsAWS = pollState.polls % Self.pollsPerAWSCall == 0
    if callsAWS { await watchSecrets(instance, &pollState) }
    if settings.role == .server, settings.clusterRecord != nil {
      await attempt("keep the cluster's record current", &pollState) { pollState in
        try await keepRecord(instance, callsAWS: callsAWS, &pollState)
      }
    }
    switch settings.role {
    // Which group or tags the servers have is among the lost options.
    case .client where settings.lostOptions != nil: break
    case .client:
      await attempt("keep the agent joined to servers", &pollState) { pollState in
        try await rejoinServers(instance, &pollState)
      }
    case .server where settings.layout == .datacenterPerAZ:
      await attempt("complete the WAN pool", &pollState) { pollState in
        try await completeWAN(instance, callsAWS: callsAWS, &pollState)
      }
    case .server: break
    }
  }

  /// A part of a poll; a later poll repeats it. Its error is logged once for each reason, and again after a success.
  /// - Parameter purpose: what the part does, to follow `cannot`.
  func attempt(
    _ purpose: String, _ pollState: inout PollState, _ part: (inout PollState) async throws -> Void
  ) async {
    do {
      try await part(&pollState)
      _ = pollState.isNew(nil, for: purpose)
      note(nil, for: purpose)
    } catch let error as AgentError {
      context.log.debug("the agent does not answer the sidecar", ["reason": .string(error.explanation)])
    } catch {
      guard !Task.isCancelled else { return }
      note(error.explained, for: purpose)
      guard pollState.isNew(error.stableReason, for: purpose) else { return }
      context.log.warning("the sidecar cannot \(purpose); retrying", ["reason": .string(error.explained)])
    }
  }

  // MARK: The agent

  /// The agent's configuration on disk. An unreadable file is logged once for each reason.
  var current: CurrentConfiguration {
    let current = CurrentConfiguration(reading: settings.configurationPath, context.files)
    var reason: String?
    if case .unreadable(let words) = current.content { reason = words }
    let isNew = state.withLock { [reason] in $0.configurationError.isNew(reason) }
    if isNew, let reason {
      context.log.warning("cannot read the agent's configuration", ["reason": .string(reason)])
    }
    return current
  }

  func agent(timeout: Duration = agentTimeout) -> AgentClient {
    let current = current
    return AgentClient(
      address: current.agentAddress(settings), token: current.agentToken, transport: context.transport,
      timeout: timeout)
  }

  /// The members of a gossip pool; nil, logged once, where the agent's ACLs hide them.
  /// - Throws: `AgentError`.
  func members(wan: Bool, _ pollState: inout PollState) async throws -> [SerfMember]? {
    let pool = wan ? "WAN" : "LAN"
    var members: [SerfMember] = []
    do { members = try await agent().members(wan: wan) } catch AgentError.refused(status: 403, _) {}
    // An agent is a member of its own pool: where it lists none, its ACLs omit them.
    guard members.isEmpty else {
      pollState.hiddenPools.remove(pool)
      return members
    }
    if pollState.hiddenPools.insert(pool).inserted {
      context.log.warning(
        "the agent's ACLs hide the members of the \(pool) pool: the sidecar cannot keep the agent joined",
        ["hint": "set --agent-token to a token with node:read and agent:write"])
    }
    return nil
  }
}
