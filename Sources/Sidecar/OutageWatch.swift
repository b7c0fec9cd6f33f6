internal import Base
internal import Consul
internal import Decisions
internal import Model
internal import Observers

/// Notices that the cluster has no leader, finds out whether it has lost its quorum for good, and recovers it where
/// that is wanted and this server has the longest log.
extension Sidecar {
  /// What a look leaves for the next.
  private struct OutageState {
    /// Since when there is no leader, by uptime.
    var since: Duration?
    var answer: InstanceAnswer?
    var looksAt = Duration.zero
    var loggedAt: Duration?
    var hasReport = true
    /// A recovery that has brought no leader is not tried again by itself.
    var hasFailed = false
  }

  private static let outageTick = Duration.seconds(1)
  /// While there is a leader.
  private static let peaceTick = Duration.seconds(5)
  /// Between two answers of EC2.
  private static let outagePause = Duration.seconds(15)
  private static let outageLogPause = Duration.seconds(60)
  private static let outagePurpose = "find out why the cluster has no leader"

  /// Until cancelled.
  func watchOutage(at instance: LocatedInstance) async {
    // Which group or tags the servers have is among lost options.
    guard settings.role == .server, settings.lostOptions == nil else { return }
    var outage = OutageState(), pollState = PollState()
    while !Task.isCancelled {
      let tick = outage.since == nil ? Self.peaceTick : Self.outageTick
      do { try await context.clock.sleep(for: tick) } catch { return }
      await attempt(Self.outagePurpose, &pollState) { _ in try await look(instance, &outage) }
    }
  }

  private func look(_ instance: LocatedInstance, _ outage: inout OutageState) async throws {
    guard try await agent().leader() == nil else {
      let hasReport = outage.hasReport
      outage = OutageState()
      outage.hasReport = false
      if hasReport { try remove(settings.outageReportPath, settings.recoveryRequestPath) }
      return
    }
    let now = context.uptime(), since = outage.since ?? now
    outage.since = since
    let request = try recoveryRequest()
    guard request != nil || now - since >= settings.leaderWait, now >= outage.looksAt else { return }
    outage.looksAt = now + Self.outagePause
    let found = try await OutageObserver(settings: settings, context: context, planner: planner, instance: instance)
      .look(after: outage.answer, assumedDead: request?.assumedDead ?? [])
    outage.answer = found.answer
    outage.looksAt = found.answer.answeredAt + Self.outagePause
    let decision = RecoveryDecision(found.servers)
    if case .recover(let best, _) = decision, best == found.own, request != nil || wantsRecovery(outage) {
      try report(.recovering, reason: "this server recovers the cluster", found.servers, best: best, &outage)
      outage.hasFailed = try await !recover(found.own, of: found.servers, instance)
      try remove(settings.recoveryRequestPath)
      if outage.hasFailed {
        try report(.failed, reason: "the recovery has not brought a leader", found.servers, best: best, &outage)
      }
      return
    }
    try report(decision, found.servers, &outage)
  }

  private func wantsRecovery(_ outage: OutageState) -> Bool { settings.recovery == .auto && !outage.hasFailed }

  private func recoveryRequest() throws -> RecoveryRequest? {
    guard
      let bytes = try context.files.readIfPresent(settings.recoveryRequestPath, limit: RecoveryRequest.sizeLimit),
      let request = RecoveryRequest(json: try JSONValue(parsing: bytes)),
      request.isCurrent(uptime: context.uptime(), bootID: context.bootID)
    else { return nil }
    return request
  }

  private func remove(_ paths: String...) throws {
    for path in paths where try context.files.status(path) != nil { try context.files.removeFile(path) }
  }

  // MARK: The report

  private func report(_ decision: RecoveryDecision, _ servers: [OutageServer], _ outage: inout OutageState) throws {
    switch decision {
    case .noOutage(let leader):
      try report(.wait, reason: "\(leader) leads: this server does not know it yet", servers, &outage)
    case .wait(let reason, let missing):
      try report(.wait, reason: reason, servers, details: missing, &outage)
    case .recover(let best, _):
      let reason = "\(best.name) has the longest log: consul-bootstrap recover, on it, makes it the leader"
      try report(.recoverable, reason: reason, servers, best: best, &outage)
    case .totalLoss:
      try report(.lost, reason: "no server has data, and all that had are terminated", servers, &outage)
    }
  }

  private func report(
    _ decision: OutageReport.Decision, reason: String, _ servers: [OutageServer], best: OutageServer? = nil,
    details: [String]? = nil, _ outage: inout OutageState
  ) throws {
    let report = OutageReport(
      decision, reason: reason, details: details ?? servers.map(\.explanation), best: best?.instance,
      time: context.now(), uptime: context.uptime(), bootID: context.bootID)
    let now = context.uptime()
    if outage.loggedAt.map({ now - $0 >= Self.outageLogPause }) ?? true {
      outage.loggedAt = now
      context.log.error(
        "the cluster has no leader", ["reason": .string(reason), "servers": .strings(report.details)])
    }
    outage.hasReport = true
    try context.files.write(
      settings.outageReportPath, Array(report.json.prettyText.utf8), mode: 0o644, owner: nil)
  }
}
