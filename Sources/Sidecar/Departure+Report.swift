internal import Base
internal import Model

/// What a departure tells `status` and the log.
extension Departure {
  /// The holder of the lock is named by its instance.
  func recordedInstance() throws -> String {
    guard let bytes = try context.files.readIfPresent(settings.instanceRecordPath, limit: 64 << 10),
      let id = try JSONValue(parsing: bytes)["instance_id"]?.string
    else {
      throw Failure(
        .configurationRejected, "\(settings.instanceRecordPath) does not name this instance",
        hint: "run consul-bootstrap again, which writes it")
    }
    return id
  }

  func release(_ progress: inout Progress) async {
    do {
      try await progress.session.release(agent(configuration))
    } catch {
      context.log.debug("the lock ends with its session", ["reason": .string(error.explained)])
    }
  }

  /// While it goes on: a new reason is written at once, the same one again after an interval.
  func report(_ notice: Notice, _ phase: DepartureReport.Phase, _ progress: inout Progress) {
    let now = context.uptime()
    if phase == .waiting { context.log.progress("this server has not left yet: \(progress.reason)") }
    let text = "\(phase) \(progress.reason)"
    if let (last, time) = progress.reported, last == text, now - time < DepartureReport.interval { return }
    progress.reported = (text, now)
    write(notice, phase, progress.reason, progress.others)
  }

  /// - Parameter isRelease: whether a person ends the machine, whatever the others lose by it.
  func report(_ notice: Notice, _ outcome: Outcome, _ others: Set<IPv4Address> = [], isRelease: Bool = false) {
    let releasedAt = isRelease ? context.uptime() : nil
    switch outcome {
    case .left:
      context.log.warning("this \(settings.role.rawValue) has left")
      write(notice, .left, "it has left", others, releasedAt)
    case .nothingToLeave(let reason), .lastOne(let reason):
      context.log.warning("there is nothing to leave", ["reason": .string(reason)])
      write(notice, .left, reason, others, releasedAt)
    case .kept(let reason):
      context.log.error("this \(settings.role.rawValue) has not left", ["reason": .string(reason)])
      write(notice, .kept, reason, others, releasedAt)
    }
  }

  /// The servers that this one may ask about itself: those of its configuration, and those of the raft configuration
  /// that a process before this one has seen.
  func knownOthers() -> Set<IPv4Address> { Set(configuration.peers).union(before?.others ?? []) }

  /// When the notice of this termination came; now, if no process before this one has had it.
  func startOfTermination() -> Duration {
    let now = context.uptime()
    guard let before, before.source == .termination, let since = before.since, since >= .zero
    else { return now }
    return min(since, now)
  }

  /// The last report of this boot.
  var before: DepartureReport? {
    do {
      guard let bytes = try context.files.readIfPresent(settings.departureReportPath, limit: DepartureReport.sizeLimit),
        let report = DepartureReport(json: try JSONValue(parsing: bytes)), report.bootID == context.bootID
      else { return nil }
      return report
    } catch {
      context.log.info("cannot read the report of the departure", ["reason": .string(error.explained)])
      return nil
    }
  }

  private func write(
    _ notice: Notice, _ phase: DepartureReport.Phase, _ reason: String, _ others: Set<IPv4Address>,
    _ releasedAt: Duration? = nil
  ) {
    let report = DepartureReport(
      source: notice.source, phase: phase, reason: reason, time: context.now(), uptime: context.uptime(),
      bootID: context.bootID, others: others.sorted(), since: notice.since,
      releasedAt: releasedAt ?? before?.releasedAt)
    do {
      try context.files.write(
        settings.departureReportPath, Array(report.json.prettyText.utf8), mode: 0o644, owner: nil)
    } catch {
      context.log.debug("cannot write the report of the departure", ["reason": .string(error.explained)])
    }
  }
}

/// How often a departure that waits looks again.
extension Departure {
  /// At first as often as others need to take turns; some minutes later so rarely. A session lasts longer.
  private static let promptTime = Duration.seconds(120), longestPause = Duration.seconds(10)

  /// Each attempt at the lock is an entry in raft, and a termination may wait for days.
  func pause(_ notice: Notice, _ progress: Progress) -> Duration {
    guard notice.source == .termination else { return Self.pause }
    let late = context.uptime() - progress.start - Self.promptTime
    return min(Self.longestPause, Self.pause + max(.zero, late) / 30)
  }
}
