internal import AWS
internal import Base
internal import Bootstrap
internal import Decisions
internal import Host
internal import Synchronization

/// `consul-bootstrap [options]`, and with `--dry-run`.
struct BootstrapCommand: Sendable {
  private let options: Options
  private let environment: [String: String]
  private let console: Console
  private let world: World
  private let planner: Planner

  init(options: Options, environment: [String: String], files: LocalFileStore) {
    self.options = options
    self.environment = environment
    console = Console(format: options.logFormat == .json ? .json : .text)
    let log = Logger(level: options.logLevel, sink: console)
    let clock = ContinuousClock()
    let transport = CurlTransport(caBundle: CurlTransport.findCABundle(environment: environment))
    world = World(
      environment: environment, transport: transport, files: files, launcher: PosixProcessLauncher(environment: environment),
      system: LocalSystem(), clock: clock, now: Machine.now, uptime: Machine.uptime, log: log)
    let metadata = MetadataClient(
      environment: environment, allowsVersion1: options.allowsIMDSv1, transport: transport, clock: clock, log: log)
    let credentials = CredentialCache(
      providers: [
        EnvironmentCredentials(environment: environment),
        ProfileCredentials(profiles: SharedConfiguration(environment: environment, files: files)),
        ContainerCredentials(environment: environment, transport: transport, files: files),
        InstanceRoleCredentials(metadata: metadata),
      ], now: Machine.now)
    planner = Planner(settings: options.settings, world: world, metadata: metadata, credentials: credentials)
  }

  func run(_ signals: Signals) async -> Never {
    let router = SignalRouter()
    let task = Task { try await options.isDryRun ? dryRun() : bootstrap(router) }
    signals.deliver { number in router.receive(number, cancel: { task.cancel() }) }
    let status: Int32
    do {
      status = try await task.value
    } catch let failure as Failure {
      report(failure)
      status = failure.status.rawValue
    } catch {
      if router.received == nil { world.log.error("unexpected: \(error)") }
      status = 1
    }
    // A signal that ended the run is its status; one that the agent got has already become the agent's.
    if let number = router.endedBy {
      world.log.warning("ended by signal \(number)")
      Machine.exit(128 + number)
    }
    Machine.exit(status)
  }

  private func dryRun() async throws -> Int32 {
    let plan = try await planner.plan(at: try await planner.locate(), waits: false)
    let report = PlanReport(plan)
    Machine.write(options.wantsJSON ? report.json.prettyText : report.text)
    return 0
  }

  private func bootstrap(_ router: SignalRouter) async throws -> Int32 {
    let lock = try RunLock(stateDirectory: options.settings.stateDirectory)
    defer { withExtendedLifetime(lock) {} }
    let run = BootstrapRun(
      settings: options.settings, world: world, planner: planner, supervisorStarted: { router.route(to: $0) })
    let outcome = try await run.run { outcome in succeed(outcome) }
    return outcome.agentEnd?.shellStatus ?? 0
  }

  private func succeed(_ outcome: BootstrapRun.Outcome) {
    if let health = outcome.health {
      world.log.info(
        "healthy",
        [
          "leader": .string(health.leader ?? ""), "servers": .integer(Int64(health.servers)),
          "voter": health.isVoter.map(JSONValue.bool) ?? "unknown (ACLs)",
        ])
    } else {
      world.log.info("configuration written; the agent is not started (--start none)")
    }
    guard options.wantsJSON else { return }
    var report: [String: JSONValue] = ["plan": PlanReport(outcome.plan).json]
    if let health = outcome.health {
      report["health"] = .object([
        "leader": health.leader.map(JSONValue.string) ?? .null, "servers": .integer(Int64(health.servers)),
        "voter": health.isVoter.map(JSONValue.bool) ?? .null,
      ])
    }
    Machine.write(JSONValue.object(report).prettyText)
  }

  private func report(_ failure: Failure) {
    if options.logFormat == .json {
      world.log.error(
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
    var received: Int32?
    var endedBy: Int32?
  }

  private let state = Mutex(State())

  var received: Int32? { state.withLock { $0.received } }
  var endedBy: Int32? { state.withLock { $0.endedBy } }

  func route(to supervisor: Supervisor) { state.withLock { $0.supervisor = supervisor } }

  func receive(_ number: Int32, cancel: () -> Void) {
    let supervisor = state.withLock { state in
      state.received = number
      if state.supervisor == nil { state.endedBy = number }
      return state.supervisor
    }
    if let supervisor {
      Task { await supervisor.signal(number) }
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
