internal import AWS
internal import Base

/// Sends one source to one stream, at least once: a checkpoint is saved only after CloudWatch Logs has acknowledged the
/// events before it.
actor LogStream {
  private let plan: LogStreamPlan
  private let logs: CloudWatchLogs
  private let checkpoints: CheckpointStore
  private let deadLetters: DeadLetters
  /// Bytes of events that this stream may hold.
  private let share: @Sendable () -> Int
  /// How long a batch that is not full waits for more events.
  private let flushInterval: Duration
  private let clocks: Clocks
  private let log: Logger
  private var counters: LogStreamStatus
  /// Nil during a read, and after the end: then its files are closed.
  private var lines: (any LineSource)?
  private var parked = ParkedActivities()
  /// Why the last attempt failed, while the service throttles, fails or is unreachable.
  private var retryReason: String?
  /// When the oldest unacknowledged event was read.
  private var waitingSince: Instant?
  private var isCreated = false
  /// Why the stream cannot be created: harmless if it exists.
  private var creationDenied: AWSError?
  /// A checkpoint that could not be saved, and when to retry.
  private var unsaved: (checkpoint: Checkpoint, retryAt: Duration)?
  /// Rejected events that could not be kept either.
  private var lostLetters = SourceLosses()

  /// Clocks of a stream: intervals and deadlines use the monotonic clock, which no correction of the time changes.
  struct Clocks: Sendable {
    let clock: any Clock<Duration>
    let uptime: MonotonicTime
    /// Only for time stamps.
    let now: WallClock
  }

  /// One moment by both clocks.
  private struct Instant {
    let uptime: Duration
    /// To be shown.
    let wall: Timestamp
  }

  /// Unacknowledged events.
  private struct Pending {
    var batch: LogBatch
    /// After the last event of the batch.
    var checkpoint: Checkpoint?
    /// When the first event was read.
    var since: Instant?
  }

  /// How long a record waits for its next line.
  private static let recordTimeout = Duration.seconds(1)
  /// During a delivery. Files that are rotated and compressed within less are not found.
  private static let scanInterval = Duration.milliseconds(200)
  /// Between reads of a source with nothing new.
  private static let pollInterval = Duration.milliseconds(250)
  /// Between reads of a source that cannot be read, and between attempts to save a checkpoint.
  private static let readBackoff = Backoff(base: .milliseconds(500), cap: .seconds(5))
  /// Between attempts while the service throttles or fails; there is no last attempt.
  private static let backoff = Backoff(base: .milliseconds(500), cap: .seconds(30))
  /// Between attempts after an error that is not retryable, for example a missing permission.
  private static let parkedInterval = Duration.seconds(60)
  /// Lines that are searched for a time if the first lines of a chunk have none.
  private static let timeReach = 50
  /// Bytes of one read.
  private static let chunk = 256 << 10
  /// CloudWatch Logs rejects events more than two hours in the future (API reference, PutLogEvents).
  private static let tolerableAhead = Duration.seconds(2 * 3600)

  init(
    _ plan: LogStreamPlan, lines: any LineSource, logs: CloudWatchLogs, checkpoints: CheckpointStore,
    deadLetters: DeadLetters, share: @escaping @Sendable () -> Int, flushInterval: Duration, clocks: Clocks, log: Logger
  ) {
    self.plan = plan
    self.lines = lines
    self.logs = logs
    self.checkpoints = checkpoints
    self.deadLetters = deadLetters
    self.share = share
    self.flushInterval = flushInterval
    self.clocks = clocks
    self.log = log
    counters = LogStreamStatus(source: plan.source, group: plan.group, stream: plan.stream)
  }

  /// The state now.
  var status: LogStreamStatus {
    var status = counters
    let parked = retryReason == nil ? parked : parked.without(.sending)
    status.isParked = !parked.isEmpty
    status.lastError = parked.reason ?? retryReason
    status.losses.add(lostLetters)
    status.waitingSince = waitingSince?.wall
    status.waited = waitingSince.map { clocks.uptime() - $0.uptime }
    return status
  }

  /// Returns once `isEnding` returns true and everything is acknowledged, or when the task is cancelled: then
  /// unacknowledged events are read again after the next start. Closes the source in either case.
  func run(isEnding: @Sendable () -> Bool) async {
    defer {
      lines?.stop()
      lines = nil
    }
    var pending = Pending(batch: newBatch())
    var joiner = plan.recordStart.map { RecordJoiner(start: $0) }
    var joinedAt = clocks.uptime()
    var failures = 0
    var hasCheckpoint = await checkpoints.checkpoint(of: plan.source) != nil
    while !Task.isCancelled {
      // Before the read, which then finds everything that was written before the end was requested.
      let isLast = isEnding()
      var found = await readNext(&hasCheckpoint)
      if Task.isCancelled { return }
      failures = found == nil ? failures + 1 : 0
      let isIdle = found?.isEmpty ?? true
      if !isIdle { joinedAt = clocks.uptime() }
      if joiner != nil {
        found = joiner!.feed(found ?? LineChunk())
        if isIdle, joiner!.isPending, isLast || clocks.uptime() - joinedAt >= Self.recordTimeout {
          found = joiner!.flush()
        }
      }
      guard await enqueue(found ?? LineChunk(), &pending) else { return }
      if let since = pending.since, isLast || clocks.uptime() - since.uptime >= flushInterval {
        guard await deliver(&pending) else { return }
      }
      guard isIdle else { continue }
      if let unsaved, isLast || clocks.uptime() >= unsaved.retryAt { await save(unsaved.checkpoint) }
      // Frees its memory; the next batch has the size of the current share.
      if pending.batch.isEmpty { pending.batch = newBatch() }
      if isLast, pending.batch.isEmpty, joiner?.isPending != true, failures == 0 { return }
      let pause = failures > 0 ? Self.readBackoff.bound(failures - 1) : Self.pollInterval
      do { try await clocks.clock.sleep(for: pause) } catch { return }
    }
  }

  private func newBatch() -> LogBatch {
    var limits = LogBatch.Limits()
    limits.bytes = min(limits.bytes, share())
    return LogBatch(limits: limits)
  }

  // MARK: Reading

  /// The next lines; nil if the source cannot be read now, which parks the stream until it can.
  private func readNext(_ hasCheckpoint: inout Bool) async -> LineChunk? {
    do {
      if !hasCheckpoint, let initial = try lines?.initialCheckpoint() {
        guard await save(initial) else { return nil }
        hasCheckpoint = true
      }
      let found = try await read()
      counters.isWaiting = lines?.isWaiting ?? false
      counters.losses = lines?.losses ?? SourceLosses()
      updateUnreadBytes()
      resume(.reading)
      return found
    } catch {
      if !Task.isCancelled { park(.reading, "cannot read \(plan.source): \(error.explained)") }
      return nil
    }
  }

  private func read() async throws -> LineChunk {
    guard var taken = lines else { return LineChunk() }
    lines = nil
    defer { lines = taken }
    return try await taken.read(min(Self.chunk, share()))
  }

  private func updateUnreadBytes() {
    do {
      counters.behindBytes = try lines?.unreadBytes() ?? nil
    } catch {
      counters.behindBytes = nil
      log.debug("cannot determine the unread bytes of \(plan.source)", ["reason": .string(error.explained)])
    }
  }

  /// Keeps rotated files open during a delivery, until the task is cancelled.
  private func scanDuringDelivery() async {
    while true {
      do { try await clocks.clock.sleep(for: Self.scanInterval) } catch { return }
      do {
        try lines?.scanForRotation()
      } catch {
        // The next read reports the error if it persists.
        log.debug("cannot scan \(plan.source) for a rotation", ["reason": .string(error.explained)])
      }
    }
  }

  // MARK: Batches

  /// Adds the lines to the batch, and sends it whenever it is full.
  /// - Returns: false if the task was cancelled.
  private func enqueue(_ chunk: LineChunk, _ pending: inout Pending) async -> Bool {
    guard !chunk.isEmpty else { return true }
    let now = clocks.now(), uptime = clocks.uptime(), latest = now + Self.tolerableAhead
    var previous: LineChunk.Line?
    // A line without a time has that of the line before it, or at the start that of the line after it.
    var lastTime: Timestamp?
    for (index, line) in chunk.lines.enumerated() {
      let text = chunk.bytes[line.text]
      var found = time(of: line, text, now)
      if found == nil, lastTime == nil {
        found =
          chunk.lines[index...].prefix(Self.timeReach).lazy.compactMap { self.time(of: $0, chunk.bytes[$0.text], now) }
          .first ?? now
      }
      var eventTime = found ?? lastTime ?? now
      // The service also rejects times before 1970, such as Go's zero time.
      if eventTime > latest || eventTime.milliseconds < 0 { eventTime = now }
      lastTime = eventTime
      if !pending.batch.append(text, at: eventTime.milliseconds) {
        if let previous, let checkpoint = chunk.checkpoint(after: previous) { pending.checkpoint = checkpoint }
        guard await deliver(&pending) else { return false }
        _ = pending.batch.append(text, at: eventTime.milliseconds)
      }
      if pending.since == nil { pending.since = Instant(uptime: uptime, wall: now) }
      previous = line
    }
    if let previous, let checkpoint = chunk.checkpoint(after: previous) { pending.checkpoint = checkpoint }
    return true
  }

  private func time(of line: LineChunk.Line, _ text: ArraySlice<UInt8>, _ now: Timestamp) -> Timestamp? {
    line.time ?? plan.times.find(in: text, now: now)
  }

  // MARK: Delivery

  /// Retries until CloudWatch Logs acknowledges the batch.
  /// - Returns: false if the task was cancelled first.
  private func deliver(_ pending: inout Pending) async -> Bool {
    async let _ = scanDuringDelivery()
    var generator = SystemRandomNumberGenerator()
    let events = pending.batch.chronological
    counters.oldestUnsent = events.first.map { Timestamp(milliseconds: $0.timestamp) }
    waitingSince = pending.since
    for attempt in 0... {
      var pause = Self.backoff.halfJitter(min(attempt, 10), using: &generator)
      do {
        try await createStream()
        let rejected = try await logs.putLogEvents(group: plan.group, stream: plan.stream, size: pending.batch.jsonSize)
        {
          pending.batch.append(events, to: &$0)
        }
        await acknowledge(events, of: pending.batch, rejected, pending.checkpoint)
        pending.checkpoint = nil
        pending.since = nil
        pending.batch.removeAll()
        return true
      } catch let error as AWSError {
        let isMissing = error.code == "ResourceNotFoundException"
        if isMissing { isCreated = false }
        if isMissing, let creationDenied {
          park(
            .sending, creationDenied.explanation("create stream \(plan.stream) in \(plan.group)"),
            stable: creationDenied.stableExplanation)
          pause = Self.parkedInterval
        } else if error.isRetryable || error.kind == .expiredCredentials || isMissing {
          counters.retries += 1
          retryReason = error.explanation
          log.debug("cannot send \(plan.source) now", ["reason": .string(error.explanation)])
        } else {
          park(
            .sending, error.explanation("send \(plan.source) to \(plan.group)"), stable: error.stableExplanation)
          pause = Self.parkedInterval
        }
      } catch {
        if Task.isCancelled { return false }
        park(.sending, error.explained)
        pause = Self.parkedInterval
      }
      updateUnreadBytes()
      do { try await clocks.clock.sleep(for: pause) } catch { return false }
    }
    return false
  }

  private func acknowledge(
    _ events: [LogBatch.Event], of batch: LogBatch, _ rejected: RejectedLogEvents?, _ checkpoint: Checkpoint?
  ) async {
    let rejectedEvents = events.indices.filter { rejected?.contains($0) ?? false }.map { events[$0] }
    counters.sentEvents += Int64(events.count - rejectedEvents.count)
    counters.sentBytes += Int64(batch.size - rejectedEvents.reduce(0) { $0 + $1.size })
    counters.rejected += Int64(rejectedEvents.count)
    counters.lastAcknowledged = clocks.now()
    counters.oldestUnsent = nil
    waitingSince = nil
    retryReason = nil
    resume(.sending)
    if !rejectedEvents.isEmpty { await keep(rejectedEvents, of: batch) }
    if let checkpoint { await save(checkpoint) }
  }

  /// Events that cannot even be kept are lost: they count as losses.
  private func keep(_ rejectedEvents: [LogBatch.Event], of batch: LogBatch) async {
    let count = JSONValue.integer(Int64(rejectedEvents.count)), file = JSONValue.string(deadLetters.path)
    do {
      try await deadLetters.append(rejectedEvents, of: batch, source: plan.source)
      log.warning(
        "CloudWatch Logs rejected events of \(plan.source); they are kept in the dead-letter file",
        ["count": count, "file": file])
    } catch {
      lostLetters.lines += Int64(rejectedEvents.count)
      lostLetters.bytes += Int64(rejectedEvents.reduce(0) { $0 + $1.size })
      log.warning(
        "CloudWatch Logs rejected events of \(plan.source), and they cannot be kept in the dead-letter file",
        ["count": count, "file": file, "reason": .string(error.explained)])
    }
  }

  /// - Returns: false if it could not be saved: it is retried later.
  @discardableResult
  private func save(_ checkpoint: Checkpoint) async -> Bool {
    do {
      try await checkpoints.save(checkpoint, of: plan.source)
    } catch {
      unsaved = (checkpoint, clocks.uptime() + Self.readBackoff.cap)
      park(.checkpointing, "cannot save the checkpoint of \(plan.source): \(error.explained)")
      return false
    }
    unsaved = nil
    resume(.checkpointing)
    lines?.acknowledge(checkpoint)
    return true
  }

  /// Creates group and stream once. A missing permission is harmless if they exist.
  private func createStream() async throws {
    guard !isCreated else { return }
    do {
      try await logs.createLogStream(group: plan.group, stream: plan.stream)
      creationDenied = nil
    } catch let error as AWSError where error.code == "ResourceNotFoundException" {
      try await logs.createLogGroup(plan.group, tags: plan.tags)
      if let retention = plan.retention {
        do {
          try await logs.putRetentionPolicy(group: plan.group, days: retention)
        } catch let error as AWSError where error.kind == .denied {
          log.warning(
            "cannot set the retention of \(plan.group): access denied", ["reason": .string(error.explanation)])
        }
      }
      try await logs.createLogStream(group: plan.group, stream: plan.stream)
    } catch let error as AWSError where error.kind == .denied {
      if creationDenied == nil {
        log.warning(
          "cannot create stream \(plan.stream) in \(plan.group): access denied; assuming that it exists",
          ["reason": .string(error.explanation)])
      }
      creationDenied = error
    }
    isCreated = true
  }

  // MARK: Parking

  /// Logged once for each reason.
  private func park(_ activity: ParkedActivities.Activity, _ reason: String, stable: String? = nil) {
    if activity == .sending { retryReason = nil }
    guard parked.park(activity, reason, stable: stable ?? reason) else { return }
    log.warning("log forwarding of \(plan.source) is parked", ["reason": .string(reason)])
  }

  private func resume(_ activity: ParkedActivities.Activity) {
    if parked.resume(activity) { log.info("log forwarding of \(plan.source) has resumed") }
  }
}
