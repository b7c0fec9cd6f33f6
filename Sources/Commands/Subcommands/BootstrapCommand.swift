internal import Decisions
internal import Observers
internal import Base
internal import Bootstrap
internal import Execution
internal import Model
internal import Sidecar
internal import Synchronization

/// `consul-bootstrap [options]`, and with `--dry-run`.
struct BootstrapCommand: Sendable {
  private let options: Options
  private let dependencies: CommandDependencies
  /// Reads the options again, for a reload.
  private let reread: @Sendable () throws -> Settings

  init(_ invocation: Invocation) {
    options = invocation.options
    dependencies = invocation.dependencies
    reread = invocation.reread
  }

  private var log: Logger { dependencies.context.log }

  /// - Returns: the exit status; errors are reported.
  func run() async -> Int32 {
    let router = SignalRouter(terminate: dependencies.terminate)
    let task = Task { try await options.isDryRun ? dryRun() : bootstrap(router) }
    dependencies.signals.deliver { number in
      router.receive(
        number, cancel: { task.cancel() }, reload: { SidecarCommand.reload($0, reread, dependencies.context.log) })
    }
    let status: Int32
    do {
      status = try await task.value
    } catch let failure as Failure {
      report(failure)
      status = failure.status.rawValue
    } catch let failure as ReportedFailure {
      status = failure.status.rawValue
    } catch {
      if router.received == nil { log.error("internal error", ["reason": .string(error.explained)]) }
      status = ExitStatus.internalError.rawValue
    }
    // A signal that ended the run is its status; one that went to the agent has become the agent's status.
    if let number = router.endedBy {
      log.warning("ended by signal \(number)")
      return 128 + number
    }
    return status
  }

  private func dryRun() async throws -> Int32 {
    let planner = dependencies.planner
    let plan = try await planner.plan(at: try await planner.locate(), .dryRun)
    let report = PlanReport(plan, options.settings)
    dependencies.output.write(options.wantsJSON ? report.json.prettyText : report.text)
    return ExitStatus.done.rawValue
  }

  private func bootstrap(_ router: SignalRouter) async throws -> Int32 {
    let directory = options.settings.stateDirectory
    let lock: RunLock
    do { lock = RunLock(try dependencies.locks.lock(directory: directory, name: "lock")) } catch {
      throw Failure(error)
    }
    defer { withExtendedLifetime(lock) {} }
    reportLastRun()
    var forwardingEnded: (@Sendable () -> Void)?
    if !options.settings.logs.isEmpty, let forwarding = try forwardingLock() {
      forwardingEnded = { forwarding.release() }
    }
    let run = BootstrapRun(
      settings: options.settings, context: dependencies.context, planner: dependencies.planner,
      forwardingEnded: forwardingEnded,
      finalError: { failure in
        writeFinalError(failure)
        report(failure)
      },
      supervisorStarted: {
        router.route(to: $0, $1)
        lock.supervises()
      })
    do {
      let outcome = try await run.run { outcome in
        succeed(outcome)
        stay(lock)
      }
      return outcome.agentEnd?.shellStatus ?? ExitStatus.done.rawValue
    } catch let failure as Failure {
      throw ReportedFailure(status: failure.status)
    }
  }

  /// A failure of a run, which `finalError` has reported.
  private struct ReportedFailure: Error {
    let status: ExitStatus
  }

  /// Once the agent is healthy, the process that supervises it makes room for other runs, and keeps a lock of its own,
  /// by which they recognize it.
  private func stay(_ lock: RunLock) {
    let directory = options.settings.stateDirectory
    do {
      try lock.exchange { () throws(LockError) in
        try dependencies.locks.lock(directory: directory, name: Settings.supervisorLock)
      }
    } catch {
      log.warning(
        "cannot make room for other runs: they end with status 17 while this process supervises the agent",
        ["reason": .string(error.explanation)])
    }
  }

  private func reportLastRun() {
    let settings = options.settings
    if let reason = settings.lostOptions {
      log.warning(
        "the options of the last run are damaged; this run uses only those that it was given",
        ["reason": .string(reason)])
    }
    guard !settings.optionsOfLastRun.isEmpty else { return }
    log.info(
      "using options of the last run; --fresh forgets them",
      [
        "options": .strings(settings.optionsOfLastRun.map { "--\($0)" }),
        "from": .string(settings.sidecarConfigurationPath),
      ])
  }

  /// The holder of the sidecar's lock forwards the logs; nil if a sidecar holds it.
  private func forwardingLock() throws -> ForwardingLock? {
    do {
      return ForwardingLock(
        try dependencies.locks.lock(
          directory: options.settings.stateDirectory, name: SidecarCommand.lockName))
    } catch {
      if case .held = error { return nil }
      throw Failure(error)
    }
  }

  private func succeed(_ outcome: BootstrapRun.Outcome) {
    if let health = outcome.health {
      var attributes: [(key: String, value: JSONValue)] = [("leader", .string(health.leader ?? ""))]
      if options.settings.role == .client {
        attributes.append(("role", "client"))
      } else {
        attributes.append(("servers", .integer(Int64(health.servers))))
        attributes.append(("voter", health.isVoter.map(JSONValue.bool) ?? "unknown (ACLs)"))
      }
      if let wan = outcome.plan.requirements?.wan {
        attributes.append(("wan", .string("\(health.wanServers.map(String.init) ?? "?") of \(wan.addresses.count)")))
      }
      log.info("healthy", attributes: attributes)
    } else if case .stayInWarmPool = outcome.plan.decision {
      log.info("nothing is set up in a warm pool; the instance boots normally once it leaves the pool")
    } else {
      log.info("configuration written; the agent is not started (--start none)")
    }
    guard options.wantsJSON else { return }
    var report: [String: JSONValue] = ["plan": PlanReport(outcome.plan, options.settings).json]
    if let health = outcome.health {
      report["health"] = .object([
        "leader": health.leader.map(JSONValue.string) ?? .null, "servers": .integer(Int64(health.servers)),
        "voter": health.isVoter.map(JSONValue.bool) ?? .null,
        "wan_servers": health.wanServers.map { .integer(Int64($0)) } ?? .null,
      ])
    }
    dependencies.output.write(JSONValue.object(report).prettyText)
  }

  /// For the log that is forwarded: a failed boot ends with its reason in CloudWatch.
  private func writeFinalError(_ failure: Failure) {
    guard let ownLog = dependencies.ownLog else { return }
    Logger(level: .error, sink: ownLog).error(
      failure.explanation, ["status": .integer(Int64(failure.status.rawValue))])
  }

  private func report(_ failure: Failure) {
    guard options.logFormat == .json else { return dependencies.errorOutput.write(text: failure.text) }
    // The forwarded log has its final error already.
    Logger(level: .error, sink: dependencies.errorOutput).error(
      failure.message,
      [
        "details": .strings(failure.details), "hint": failure.hint.map(JSONValue.string) ?? .null,
        "status": .integer(Int64(failure.status.rawValue)),
      ])
  }
}

/// The sidecar's lock, until this run forwards nothing any more.
private final class ForwardingLock: Sendable {
  private let lock: Mutex<(any HeldLock)?>

  init(_ lock: any HeldLock) { self.lock = Mutex(lock) }

  func release() { lock.withLock { $0 = nil } }
}

/// The lock of a run, which a process that goes on to supervise its agent exchanges for another.
private final class RunLock: Sendable {
  private struct State {
    var lock: any HeldLock
    var supervises = false
  }

  private let state: Mutex<State>

  init(_ lock: any HeldLock) { state = Mutex(State(lock: lock)) }

  func supervises() { state.withLock { $0.supervises = true } }

  /// Does nothing unless this process supervises an agent. The old lock is released once the new one is held.
  func exchange(_ other: () throws(LockError) -> any HeldLock) throws(LockError) {
    guard state.withLock({ $0.supervises }) else { return }
    let new = try other()
    state.withLock { $0.lock = new }
  }
}
