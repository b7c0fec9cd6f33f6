internal import AWS
package import Base

/// Counters and state of a stream, for `status`.
package struct LogStreamStatus: Sendable, Equatable {
  package let source: String
  package let group: String
  package let stream: String
  package var sentEvents: Int64 = 0
  package var sentBytes: Int64 = 0
  package var retries: Int64 = 0
  package var rejected: Int64 = 0
  package var losses = SourceLosses()
  package var lastAcknowledged: Timestamp?
  package var lastError: String?
  /// Parked: the error is not retryable; the stream retries rarely until the cause is fixed.
  package var isParked = false
  package var behindBytes: Int64?
  /// Time of the oldest unacknowledged event.
  package var oldestUnsent: Timestamp?
  /// When the oldest unacknowledged event was read.
  package var waitingSince: Timestamp?
}

/// Destination of a stream, and how its lines are read.
struct LogStreamPlan: Sendable {
  let source: String
  let group: String
  let stream: String
  /// Of a group that is created here: days; nil: unlimited.
  let retention: Int?
  let tags: [String: String]
  let times: LogTimestamp
  /// Joins the lines of a record; nil: each line is an event.
  let recordStart: (any TextPattern)?
}

/// Sends one source to one stream, at least once: a checkpoint is saved only after CloudWatch Logs has acknowledged the events
/// before it.
actor LogStream {
  private let plan: LogStreamPlan
  private let logs: CloudWatchLogs
  private let checkpoints: CheckpointStore
  private let deadLetters: DeadLetters
  /// Bytes of events that this stream may hold.
  private let share: @Sendable () -> Int
  /// How long a batch that is not full waits for more events.
  private let flushInterval: Duration
  private let clock: any Clock<Duration>
  private let now: WallClock
  private let log: Logger
  private(set) var status: LogStreamStatus
  /// Nil during a read.
  private var lines: (any LineSource)?
  private var isCreated = false
  private var parkedReason: String?
  /// Why the stream cannot be created: harmless if it exists.
  private var creationDenied: AWSError?

  /// How long a record waits for its next line.
  private static let recordTimeout = Duration.seconds(1)
  /// During a delivery. Files that are rotated and compressed within less are not found.
  private static let scanInterval = Duration.milliseconds(200)
  /// Between reads of a source with nothing new.
  private static let pollInterval = Duration.milliseconds(250)
  /// Between reads of a source that cannot be read.
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
    deadLetters: DeadLetters,
    share: @escaping @Sendable () -> Int, flushInterval: Duration, clock: any Clock<Duration>, now: @escaping WallClock,
    log: Logger
  ) {
    self.plan = plan
    self.lines = lines
    self.logs = logs
    self.checkpoints = checkpoints
    self.deadLetters = deadLetters
    self.share = share
    self.flushInterval = flushInterval
    self.clock = clock
    self.now = now
    self.log = log
    status = LogStreamStatus(source: plan.source, group: plan.group, stream: plan.stream)
  }

  /// Unacknowledged events.
  private struct Pending {
    var batch: LogBatch
    /// After the last event of the batch.
    var checkpoint: Checkpoint?
    /// When the first event was read.
    var since: Timestamp?
  }

  /// Returns once `isEnding` returns true and everything is acknowledged, or when the task is cancelled: then unacknowledged
  /// events are read again after the next start.
  func run(isEnding: @Sendable () -> Bool) async {
    defer { lines?.stop() }
    var pending = Pending(batch: newBatch())
    var joiner = plan.recordStart.map { RecordJoiner(start: $0) }
    var joinedAt = now()
    var problems = 0
    var hasCheckpoint = await checkpoints.checkpoint(of: plan.source) != nil
    while !Task.isCancelled {
      var found = LineChunk()
      // Before the read, which then finds everything that was written before the end was requested.
      let isLast = isEnding()
      do {
        if !hasCheckpoint, let initial = try lines?.initialCheckpoint() {
          try await checkpoints.save(initial, of: plan.source)
          hasCheckpoint = true
        }
        found = try await read()
        problems = 0
      } catch {
        if Task.isCancelled { return }
        problems += 1
        park(
          "cannot read \(plan.source): \(error.explained)"
        )
      }
      let isIdle = found.isEmpty
      if !isIdle { joinedAt = now() }
      if joiner != nil {
        found = joiner!.feed(found)
        if isIdle, joiner!.isPending, isLast || now() - joinedAt >= Self.recordTimeout { found = joiner!.flush() }
      }
      guard await enqueue(found, &pending) else { return }
      if let losses = lines?.losses { status.losses = losses }
      status.behindBytes = lines?.unreadBytes()
      if let since = pending.since, isLast || now() - since >= flushInterval {
        guard await deliver(&pending) else { return }
      }
      guard isIdle else { continue }
      // Frees its memory; the next batch has the size of the current share.
      if pending.batch.isEmpty { pending.batch = newBatch() }
      if isLast, pending.batch.isEmpty, joiner?.isPending != true, problems == 0 { return }
      do { try await clock.sleep(for: problems > 0 ? Self.readBackoff.bound(problems - 1) : Self.pollInterval) } catch {
        return
      }
    }
  }

  private func newBatch() -> LogBatch {
    var limits = LogBatch.Limits()
    limits.bytes = min(limits.bytes, share())
    return LogBatch(limits: limits)
  }

  private func read() async throws -> LineChunk {
    guard var taken = lines else { return LineChunk() }
    lines = nil
    defer { lines = taken }
    return try await taken.read(min(Self.chunk, share()))
  }

  /// Called during a delivery.
  private func scanForRotation() {
    do { try lines?.scanForRotation() } catch {
      log.debug("cannot scan \(plan.source) for a rotation", ["reason": .string("\(error)")])
    }
  }

  /// Adds the lines to the batch, and sends it whenever it is full.
  /// - Returns: false if the task was cancelled.
  private func enqueue(_ chunk: LineChunk, _ pending: inout Pending) async -> Bool {
    guard !chunk.isEmpty else { return true }
    let now = now(), latest = now + Self.tolerableAhead
    var previous: LineChunk.Line?
    // A line without a time has that of the line before it, or at the start that of the line after it.
    var lastTime: Timestamp?
    for (index, line) in chunk.lines.enumerated() {
      let text = chunk.bytes[line.text]
      var found = self.time(of: line, text, now)
      if found == nil, lastTime == nil {
        found =
          chunk.lines[index...].prefix(Self.timeReach).lazy.compactMap { self.time(of: $0, chunk.bytes[$0.text], now) }
          .first ?? now
      }
      var time = found ?? lastTime ?? now
      // The service also rejects times before 1970, such as Go's zero time.
      if time > latest || time.milliseconds < 0 { time = now }
      lastTime = time
      if !pending.batch.append(text, at: time.milliseconds) {
        if let previous, let checkpoint = chunk.checkpoint(after: previous) { pending.checkpoint = checkpoint }
        guard await deliver(&pending) else { return false }
        _ = pending.batch.append(text, at: time.milliseconds)
      }
      if pending.since == nil { pending.since = now }
      previous = line
    }
    if let previous, let checkpoint = chunk.checkpoint(after: previous) { pending.checkpoint = checkpoint }
    return true
  }

  private func time(of line: LineChunk.Line, _ text: ArraySlice<UInt8>, _ now: Timestamp) -> Timestamp? {
    line.time ?? plan.times.find(in: text, now: now)
  }

  /// Retries until CloudWatch Logs acknowledges the batch.
  /// - Returns: false if the task was cancelled first.
  private func deliver(_ pending: inout Pending) async -> Bool {
    let watcher = Task {
      while !Task.isCancelled {
        do { try await clock.sleep(for: Self.scanInterval) } catch { return }
        scanForRotation()
      }
    }
    defer { watcher.cancel() }
    var generator = SystemRandomNumberGenerator()
    let events = pending.batch.chronological
    status.oldestUnsent = events.first.map { Timestamp(milliseconds: $0.timestamp) }
    status.waitingSince = pending.since
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
            creationDenied.failure("create stream \(plan.stream) in \(plan.group)", role: nil).lines.joined(
              separator: " "))
          pause = Self.parkedInterval
        } else if error.isRetryable || error.kind == .expiredCredentials || isMissing {
          status.retries += 1
          status.isParked = false
          status.lastError = error.explanation
          log.debug("cannot send \(plan.source) now", ["reason": .string(error.explanation)])
        } else {
          park(error.failure("send \(plan.source) to \(plan.group)", role: nil).lines.joined(separator: " "))
          pause = Self.parkedInterval
        }
      } catch let failure as Failure {
        park(failure.lines.joined(separator: " "))
        pause = Self.parkedInterval
      } catch {
        return false
      }
      status.behindBytes = lines?.unreadBytes()
      do { try await clock.sleep(for: pause) } catch { return false }
    }
    return false
  }

  private func acknowledge(
    _ events: [LogBatch.Event], of batch: LogBatch, _ rejected: RejectedLogEvents?, _ checkpoint: Checkpoint?
  ) async {
    status.sentEvents += Int64(events.count)
    status.sentBytes += Int64(batch.size)
    status.lastAcknowledged = now()
    status.lastError = nil
    status.isParked = false
    status.oldestUnsent = nil
    status.waitingSince = nil
    if parkedReason != nil { log.info("log forwarding of \(plan.source) has resumed") }
    parkedReason = nil
    do {
      if let rejected, events.indices.contains(where: rejected.contains) {
        let rejectedEvents = events.indices.filter(rejected.contains).map { events[$0] }
        status.rejected += Int64(rejectedEvents.count)
        status.sentEvents -= Int64(rejectedEvents.count)
        status.sentBytes -= Int64(rejectedEvents.reduce(0) { $0 + $1.size })
        log.warning(
          "CloudWatch Logs rejected events of \(plan.source); they are kept in the dead-letter file",
          ["count": .integer(Int64(rejectedEvents.count)), "file": .string(deadLetters.path)])
        try await deadLetters.append(rejectedEvents, of: batch, source: plan.source)
      }
      if let checkpoint {
        try await checkpoints.save(checkpoint, of: plan.source)
        lines?.acknowledge(checkpoint)
      }
    } catch {
      park("cannot save the checkpoint of \(plan.source): \(error.explained)")
    }
  }

  /// Creates group and stream once. A missing permission is harmless if they exist.
  private func createStream() async throws {
    guard !isCreated else { return }
    do {
      try await logs.createLogStream(group: plan.group, stream: plan.stream)
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

  /// Logged once for each problem.
  private func park(_ problem: String) {
    status.lastError = problem
    status.isParked = true
    guard parkedReason != problem else { return }
    parkedReason = problem
    log.warning("log forwarding of \(plan.source) is parked", ["reason": .string(problem)])
  }
}
