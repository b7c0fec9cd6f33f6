internal import Base
internal import Consul
internal import Decisions
internal import Model
internal import Observers

extension Subcommand {
  static let recover = Subcommand(
    "recover", usage: "[--dry-run] [--assume-dead INSTANCE] [--json]",
    summary: "make the server with the longest log the leader of a cluster that has lost its quorum for good",
    explanation: "recover brings back a cluster of which most servers are lost. It looks at every server that may hold "
      + "data: one that is neither here nor proven terminated by EC2 is waited for, unless --assume-dead names it. The "
      + "server with the longest log then becomes the only voter, and the others join it. Run it on that server: its "
      + "sidecar carries it out. With --dry-run it shows all servers and what is missing.",
    optionSource: .lastRun, ownOptions: ["dry-run"]
  ) { try await RecoverCommand(options: $0.options, dependencies: $0.dependencies).run() }
}

struct RecoverCommand: Sendable {
  let options: Options
  let dependencies: CommandDependencies

  private var context: RuntimeContext { dependencies.context }
  private var settings: Settings { options.settings }

  /// Between two answers of EC2 (`DeathVerdict`).
  private static let pause = Duration.seconds(15)
  private static let agentTimeout = Duration.seconds(2)

  func run() async throws -> ExitStatus {
    guard settings.role == .server else {
      throw Failure(.usage, "a client has no data to recover", hint: "run recover on a server")
    }
    let planner = dependencies.planner
    let instance = try await planner.locate()
    // What the sidecar has found needs no second proof: it looks once more before it acts.
    if !options.isDryRun, let report = try report(), report.decision == .recoverable,
      report.best == instance.identity.instanceID, report.isCurrent(uptime: context.uptime(), bootID: context.bootID)
    {
      context.log.info("asking the sidecar to recover the cluster", ["reason": .string(report.reason)])
      return try await recover()
    }
    let observer = OutageObserver(settings: settings, context: context, planner: planner, instance: instance)
    var look: OutageObserver.Look
    do {
      look = try await observer.look(after: nil)
      if case .noOutage = RecoveryDecision(look.servers) {
      } else {
        context.log.info("looking at all servers twice, 15 s apart")
        try await context.clock.sleep(for: Self.pause)
        look = try await observer.look(after: look.answer)
      }
    } catch let error as AgentError {
      throw Failure(
        .agentUnhealthy, "cannot ask this server's agent", details: [error.explanation],
        hint: "start it, or run recover on another server that has data")
    }
    let report = RecoverReport(look)
    dependencies.output.write(options.wantsJSON ? report.json.prettyText : report.text)
    if options.isDryRun { return .done }
    if look.own.log == nil, let best = RecoveryDecision.longestLog(look.servers) {
      throw Failure(
        .agentUnhealthy, "this server has no data of the cluster",
        hint: "run consul-bootstrap recover on \(best.name), which has")
    }
    switch RecoveryDecision(look.servers) {
    case .noOutage: return .done
    case .wait(let reason, let missing):
      throw Failure(
        .agentUnhealthy, "the cluster cannot be recovered yet: \(reason)", details: missing,
        hint: "start or terminate what is missing, or name it with --assume-dead if its data will not come back")
    case .totalLoss:
      throw Failure(
        .clusterExisted, "no server has data of the cluster",
        hint: "form a new cluster with --on-total-loss new, and restore a snapshot into it")
    case .recover(let best, _) where best != look.own:
      throw Failure(
        .agentUnhealthy, "\(best.name) has the longest log", hint: "run consul-bootstrap recover on \(best.name)")
    case .recover: return try await recover()
    }
  }

  /// Asks the sidecar, and follows it.
  private func recover() async throws -> ExitStatus {
    let request = RecoveryRequest(
      assumedDead: settings.assumedDead, uptime: context.uptime(), bootID: context.bootID)
    try context.files.write(
      settings.recoveryRequestPath, Array(request.json.prettyText.utf8), mode: 0o600, owner: nil)
    let end = context.uptime() + RecoveryRequest.lifetime
    let current = CurrentConfiguration(reading: settings.configurationPath, context.files)
    let agent = AgentClient(
      address: current.agentAddress(settings), transport: context.transport, timeout: Self.agentTimeout)
    while context.uptime() < end {
      try await context.clock.sleep(for: .seconds(1))
      do {
        if let leader = try await agent.leader() {
          context.log.info("the cluster has a leader again", ["leader": .string(leader)])
          return .done
        }
      } catch is AgentError {
        // It is restarting.
      }
      if let report = try report(), report.decision == .failed {
        throw Failure(.agentUnhealthy, report.reason, details: report.details, hint: "read the log of the agent")
      }
      context.log.progress("waiting for the sidecar to recover the cluster")
    }
    if try context.files.status(settings.recoveryRequestPath) != nil {
      try context.files.removeFile(settings.recoveryRequestPath)
    }
    throw Failure(
      .agentUnhealthy, "the cluster has no leader yet", details: try report().map { [$0.reason] + $0.details } ?? [],
      hint: "check that the sidecar runs: consul-bootstrap status")
  }

  private func report() throws -> OutageReport? {
    guard
      let bytes = try context.files.readIfPresent(settings.outageReportPath, limit: OutageReport.sizeLimit)
    else { return nil }
    return OutageReport(json: try JSONValue(parsing: bytes))
  }
}
