internal import Base
internal import Bootstrap
internal import Decisions
internal import Host
internal import Synchronization

/// `consul-bootstrap [options]`, and with `--dry-run`.
struct BootstrapCommand: Sendable {
  private let options: Options
  private let console: Console
  private let ownLog: OwnLog?
  private let context: RuntimeContext
  private let planner: Planner
  /// Reads the options again, for a reload.
  private let reread: @Sendable () throws -> Settings

  init(options: Options, dependencies: CommandDependencies, reread: @escaping @Sendable () throws -> Settings) {
    self.reread = reread
    ownLog = dependencies.ownLog
    self.options = options
    console = dependencies.console
    context = dependencies.context
    planner = dependencies.planner
  }

  func run(_ signals: Signals) async -> Never {
    let router = SignalRouter()
    let task = Task { try await options.isDryRun ? dryRun() : bootstrap(router) }
    signals.deliver { number in
      router.receive(number, cancel: { task.cancel() }, reload: { SidecarCommand.reload($0, reread, context.log) })
    }
    let status: Int32
    do {
      status = try await task.value
    } catch let failure as Failure {
      report(failure)
      status = failure.status.rawValue
    } catch {
      if router.received == nil { context.log.error("unexpected: \(error)") }
      status = 1
    }
    // A signal that ended the run is its status; one that the agent got has already become the agent's.
    if let number = router.endedBy {
      context.log.warning("ended by signal \(number)")
      Machine.exit(128 + number)
    }
    Machine.exit(status)
  }

  private func dryRun() async throws -> Int32 {
    let plan = try await planner.plan(at: try await planner.locate(), .dryRun)
    let report = PlanReport(plan)
    Machine.write(options.wantsJSON ? report.json.prettyText : report.text)
    return 0
  }

  private func bootstrap(_ router: SignalRouter) async throws -> Int32 {
    let lock = try RunLock.acquire(stateDirectory: options.settings.stateDirectory)
    defer { withExtendedLifetime(lock) {} }
    let forwarding =
      options.settings.logs.isEmpty
      ? nil : ForwardingLock(stateDirectory: options.settings.stateDirectory, log: context.log)
    var forwardingEnded: (@Sendable () -> Void)?
    if let forwarding { forwardingEnded = { forwarding.release() } }
    let run = BootstrapRun(
      settings: options.settings, context: context, planner: planner, forwardingEnded: forwardingEnded,
      finalError: { failure in writeFinalError(failure) },
      supervisorStarted: { router.route(to: $0, $1) })
    let outcome = try await run.run { outcome in succeed(outcome) }
    return outcome.agentEnd?.shellStatus ?? 0
  }

  private func succeed(_ outcome: BootstrapRun.Outcome) {
    if let health = outcome.health {
      var attributes: [(key: String, value: JSONValue)] = [("leader", .string(health.leader ?? ""))]
      if outcome.plan.readiness?.role == .client {
        attributes.append(("role", "client"))
      } else {
        attributes.append(("servers", .integer(Int64(health.servers))))
        attributes.append(("voter", health.isVoter.map(JSONValue.bool) ?? "unknown (ACLs)"))
      }
      if let wanted = outcome.plan.wanServersWanted {
        attributes.append(("wan", .string("\(health.wanServers.map(String.init) ?? "?") of \(wanted)")))
      }
      context.log.info("healthy", attributes: attributes)
    } else {
      context.log.info("configuration written; the agent is not started (--start none)")
    }
    guard options.wantsJSON else { return }
    var report: [String: JSONValue] = ["plan": PlanReport(outcome.plan).json]
    if let health = outcome.health {
      report["health"] = .object([
        "leader": health.leader.map(JSONValue.string) ?? .null, "servers": .integer(Int64(health.servers)),
        "voter": health.isVoter.map(JSONValue.bool) ?? .null,
        "wan_servers": health.wanServers.map { .integer(Int64($0)) } ?? .null,
      ])
    }
    Machine.write(JSONValue.object(report).prettyText)
  }

  private func writeFinalError(_ failure: Failure) {
    guard let ownLog else { return }
    Logger(level: .error, sink: ownLog).error(
      failure.lines.joined(separator: " "), ["status": .integer(Int64(failure.status.rawValue))])
  }

  private func report(_ failure: Failure) {
    if options.logFormat == .json {
      // The log that is forwarded has its last words already.
      Logger(level: .error, sink: console).error(
        failure.message,
        [
          "details": .strings(failure.details), "hint": failure.hint.map(JSONValue.string) ?? .null,
          "status": .integer(Int64(failure.status.rawValue)),
        ])
    } else {
      console.write(text: Program.errorText(failure))
    }
  }
}

/// Where a signal goes: it ends the run, until an agent runs under us; then it is the agent's.
private final class SignalRouter: Sendable {
  private struct State {
    var supervisor: Supervisor?
    var sidecar: Sidecar?
    var received: Int32?
    var endedBy: Int32?
  }

  private let state = Mutex(State())

  var received: Int32? { state.withLock { $0.received } }
  var endedBy: Int32? { state.withLock { $0.endedBy } }

  func route(to supervisor: Supervisor, _ sidecar: Sidecar) {
    state.withLock { state in
      state.supervisor = supervisor
      state.sidecar = sidecar
    }
  }

  func receive(_ number: Int32, cancel: () -> Void, reload: (Sidecar) -> Void) {
    let (supervisor, sidecar) = state.withLock { state in
      state.received = number
      if state.supervisor == nil { state.endedBy = number }
      return (state.supervisor, state.sidecar)
    }
    if let supervisor {
      Task { await supervisor.signal(number) }
      // SIGHUP: the agent reads its configuration again, and so do we.
      if number == 1, let sidecar { reload(sidecar) }
      return
    }
    cancel()
    // Nothing that a run does before the agent runs may outlast its cancellation by more than this.
    Task.detached {
      try? await ContinuousClock().sleep(for: .milliseconds(800))
      Machine.exitAtOnce(128 + number)
    }
  }
}
