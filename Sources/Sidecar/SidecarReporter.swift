internal import Base
internal import Execution
internal import Model
internal import Synchronization

/// Tells `status` and `doctor` that the sidecar lives: a process that does not run, or hangs, leaves an old report.
extension Sidecar {
  /// Between two reports: that of the polls, and at most half a minute.
  private var reportInterval: Duration { min(settings.sidecarInterval, SidecarReport.longestInterval) }

  /// Until cancelled.
  func keepReporting() async {
    while !Task.isCancelled {
      await report()
      do { try await context.clock.sleep(for: reportInterval) } catch { return }
    }
  }

  /// Logs once for each reason that the report cannot be written.
  package func report() async {
    let (supervisor, retried, notices) = state.withLock { ($0.supervisor, $0.retried, $0.notices) }
    let now = context.uptime()
    let report = SidecarReport(
      time: context.now(), uptime: now, bootID: context.bootID, pid: context.system.pid,
      interval: max(.seconds(1), reportInterval), problems: retried.sorted { $0.key < $1.key }.map(\.value),
      notices: notices.map { $0.later(by: now) }, agent: await supervisor?.report())
    var reason: String?
    do {
      try context.files.write(settings.sidecarReportPath, Array(report.json.prettyText.utf8), mode: 0o644, owner: nil)
    } catch {
      reason = error.explained
    }
    let isNew = state.withLock { [reason] in $0.reportError.isNew(reason) }
    if isNew, let reason { context.log.warning("cannot write the sidecar's report", ["reason": .string(reason)]) }
  }

  /// - Parameters:
  ///   - reason: nil once it succeeds.
  ///   - purpose: what the sidecar retries, to follow `cannot`.
  func note(_ reason: String?, for purpose: String) {
    state.withLock { $0.retried[purpose] = reason.map { "the sidecar cannot \(purpose): \($0)" } }
  }
}
