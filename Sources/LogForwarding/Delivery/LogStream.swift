internal import AWS
package import Base

/// What a stream has done, for `status`.
package struct LogStreamStatus: Sendable, Equatable {
  package let source: String
  package let group: String
  package let stream: String
  package var sentEvents: Int64 = 0
  package var sentBytes: Int64 = 0
  package var retries: Int64 = 0
  package var rejected: Int64 = 0
  package var losses = SourceLosses()
  package var lastAcceptance: Timestamp?
  package var lastError: String?
  /// The error is one that no repetition mends.
  package var isParked = false
  package var behindBytes: Int64?
  /// The time of the oldest event that is read and not accepted yet.
  package var oldestUnsent: Timestamp?
  /// Since when something waits to be accepted.
  package var waitingSince: Timestamp?
}

/// Where a stream's events go, and how its lines are read.
struct LogStreamPlan: Sendable {
  let source: String
  let group: String
  let stream: String
  /// Days; nil: for ever. For a group that is made here.
  let retention: Int?
  let tags: [String: String]
  let times: LogTimestamp
  /// Lines of one record are joined.
  let recordStart: (any TextPattern)?
}

/// Sends one source to one stream, at least once: a mark is kept only after the service has accepted what is before it.
actor LogStream {
  private let plan: LogStreamPlan
  private let logs: CloudWatchLogs
  private let checkpoints: CheckpointStore
  private let deadLetters: DeadLetters
  /// Bytes of events that this stream may hold.
  private let share: @Sendable () -> Int
  /// A batch that is not full waits so long for more.
  private let flushInterval: Duration
  private let clock: any Clock<Duration>
  private let now: WallClock
  private let log: Logger
  private(set) var status: LogStreamStatus
  /// Nil while it is being read.
  private var lines: (any LineSource)?
  private var isMade = false
  private var parkedFor: String?
  /// Why the stream could not be made: no harm where it is there.
  private var makingDenied: AWSError?

  /// A record waits so long for its next line.
  private static let recordAge = Duration.seconds(1)
  /// Files that are rotated, compressed and rotated again more often than this are out of reach.
  private static let lookPause = Duration.milliseconds(200)
  /// Between reads of a source that had nothing new.
  private static let idlePause = Duration.milliseconds(250)
  /// Between reads of a source that cannot be read.
  private static let troubleBackoff = Backoff(base: .milliseconds(500), cap: .seconds(5))
  /// A service that throttles or fails is asked again for as long as it takes.
  private static let backoff = Backoff(base: .milliseconds(500), cap: .seconds(30))
  /// What no repetition mends (a missing permission) is tried again now and then.
  private static let parkedPause = Duration.seconds(60)
  /// A program's first lines without a time are not more.
  private static let timeReach = 50
  /// Of one read.
  private static let chunk = 256 << 10
  /// CloudWatch Logs refuses what is more than two hours ahead (API reference, PutLogEvents): such a time cannot be right.
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

  /// What is read and not accepted yet.
  private struct Pending {
    var batch: LogBatch
    /// Behind the last event of the batch.
    var mark: Checkpoint?
    /// When its first event was read.
    var since: Timestamp?
  }

  /// Until `isEnding` says so and nothing is left, or the task is cancelled: then what was not accepted is read again next time.
  func run(isEnding: @Sendable () -> Bool) async {
    defer { lines?.stop() }
    var pending = Pending(batch: newBatch())
    var joiner = plan.recordStart.map { RecordJoiner(start: $0) }
    var joinedAt = now()
    var problems = 0
    var isMarked = await checkpoints.mark(of: plan.source) != nil
    while !Task.isCancelled {
      var found = LineChunk()
      // Before the read: what was written by then is found by it.
      let isLast = isEnding()
      do {
        if !isMarked, let beginning = try lines?.beginning() {
          try await checkpoints.set(beginning, of: plan.source)
          isMarked = true
        }
        found = try await read()
        problems = 0
      } catch {
        if Task.isCancelled { return }
        problems += 1
        note(
          "cannot read \(plan.source): \(error.explained)"
        )
      }
      let isIdle = found.isEmpty
      if !isIdle { joinedAt = now() }
      if joiner != nil {
        found = joiner!.feed(found)
        if isIdle, joiner!.isPending, isLast || now() - joinedAt >= Self.recordAge { found = joiner!.flush() }
      }
      guard await take(found, &pending) else { return }
      if let losses = lines?.losses { status.losses = losses }
      status.behindBytes = lines?.behind()
      if let since = pending.since, isLast || now() - since >= flushInterval {
        guard await deliver(&pending) else { return }
      }
      guard isIdle else { continue }
      // Its memory is given back, and the next is as large as the share is by then.
      if pending.batch.isEmpty { pending.batch = newBatch() }
      if isLast, pending.batch.isEmpty, joiner?.isPending != true, problems == 0 { return }
      do { try await clock.sleep(for: problems > 0 ? Self.troubleBackoff.bound(problems - 1) : Self.idlePause) } catch {
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

  /// While a delivery takes its time.
  private func look() {
    do { try lines?.look() } catch { log.debug("cannot look at \(plan.source)", ["reason": .string("\(error)")]) }
  }

  /// Puts the lines into the batch, and sends it whenever it is full.
  /// - Returns: false if the task was cancelled.
  private func take(_ chunk: LineChunk, _ pending: inout Pending) async -> Bool {
    guard !chunk.isEmpty else { return true }
    let now = now(), latest = now + Self.tolerableAhead
    var previous: LineChunk.Line?
    // A line without a time belongs to the one before it, or at the start to the one after.
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
      // Nor does it take a time before 1970, such as Go's zero.
      if time > latest || time.milliseconds < 0 { time = now }
      lastTime = time
      if !pending.batch.append(text, at: time.milliseconds) {
        if let previous, let place = chunk.place(behind: previous) { pending.mark = place }
        guard await deliver(&pending) else { return false }
        _ = pending.batch.append(text, at: time.milliseconds)
      }
      if pending.since == nil { pending.since = now }
      previous = line
    }
    if let previous, let place = chunk.place(behind: previous) { pending.mark = place }
    return true
  }

  private func time(of line: LineChunk.Line, _ text: ArraySlice<UInt8>, _ now: Timestamp) -> Timestamp? {
    line.time ?? plan.times.find(in: text, now: now)
  }

  /// - Returns: false if the task was cancelled before the service accepted the batch.
  private func deliver(_ pending: inout Pending) async -> Bool {
    let watcher = Task {
      while !Task.isCancelled {
        do { try await clock.sleep(for: Self.lookPause) } catch { return }
        look()
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
        try await make()
        let rejected = try await logs.putLogEvents(group: plan.group, stream: plan.stream, size: pending.batch.jsonSize)
        {
          pending.batch.append(events, to: &$0)
        }
        await accepted(events, of: pending.batch, rejected, pending.mark)
        pending.mark = nil
        pending.since = nil
        pending.batch.removeAll()
        return true
      } catch let error as AWSError {
        let isMissing = error.code == "ResourceNotFoundException"
        if isMissing { isMade = false }
        if isMissing, let makingDenied {
          note(makingDenied.explanation("make stream \(plan.stream) in \(plan.group)"))
          pause = Self.parkedPause
        } else if error.isRetryable || error.kind == .expiredCredentials || isMissing {
          status.retries += 1
          status.isParked = false
          status.lastError = error.explanation
          log.debug("cannot send \(plan.source) now", ["reason": .string(error.explanation)])
        } else {
          note(error.explanation("send \(plan.source) to \(plan.group)"))
          pause = Self.parkedPause
        }
      } catch let error as any ExplainedError {
        // No credentials: `CredentialError` or `MetadataError`.
        note(error.explanation)
        pause = Self.parkedPause
      } catch {
        return false
      }
      status.behindBytes = lines?.behind()
      do { try await clock.sleep(for: pause) } catch { return false }
    }
    return false
  }

  private func accepted(
    _ events: [LogBatch.Event], of batch: LogBatch, _ rejected: RejectedLogEvents?, _ mark: Checkpoint?
  ) async {
    status.sentEvents += Int64(events.count)
    status.sentBytes += Int64(batch.size)
    status.lastAcceptance = now()
    status.lastError = nil
    status.isParked = false
    status.oldestUnsent = nil
    status.waitingSince = nil
    if parkedFor != nil { log.info("log forwarding of \(plan.source) goes on") }
    parkedFor = nil
    do {
      if let rejected, events.indices.contains(where: rejected.contains) {
        let refused = events.indices.filter(rejected.contains).map { events[$0] }
        status.rejected += Int64(refused.count)
        status.sentEvents -= Int64(refused.count)
        status.sentBytes -= Int64(refused.reduce(0) { $0 + $1.size })
        log.warning(
          "CloudWatch Logs refused events of \(plan.source); they are kept",
          ["count": .integer(Int64(refused.count)), "file": .string(deadLetters.path)])
        try await deadLetters.append(refused, of: batch, source: plan.source)
      }
      if let mark {
        try await checkpoints.set(mark, of: plan.source)
        lines?.accepted(mark)
      }
    } catch {
      note("cannot keep the place in \(plan.source): \(error.explained)")
    }
  }

  /// Group and stream, once; a permission that is missing is no harm where they are there.
  private func make() async throws {
    guard !isMade else { return }
    do {
      try await logs.createLogStream(group: plan.group, stream: plan.stream)
    } catch let error as AWSError where error.code == "ResourceNotFoundException" {
      try await logs.createLogGroup(plan.group, tags: plan.tags)
      if let retention = plan.retention {
        do {
          try await logs.putRetentionPolicy(group: plan.group, days: retention)
        } catch let error as AWSError where error.kind == .denied {
          log.warning("may not set how long \(plan.group) keeps its events", ["reason": .string(error.explanation)])
        }
      }
      try await logs.createLogStream(group: plan.group, stream: plan.stream)
    } catch let error as AWSError where error.kind == .denied {
      if makingDenied == nil {
        log.warning(
          "may not make stream \(plan.stream) in \(plan.group); going on as if it were there",
          ["reason": .string(error.explanation)])
      }
      makingDenied = error
    }
    isMade = true
  }

  /// Said once for each trouble.
  private func note(_ trouble: String) {
    status.lastError = trouble
    status.isParked = true
    guard parkedFor != trouble else { return }
    parkedFor = trouble
    log.warning("log forwarding of \(plan.source) waits", ["reason": .string(trouble)])
  }
}
