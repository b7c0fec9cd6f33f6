internal import AWS
package import Base

/// What a stream has done, for `status`.
package struct LogStreamStatus: Sendable, Equatable {
  package let source: String
  package let group: String
  package let stream: String
  package var sentEvents = 0
  package var sentBytes = 0
  package var retries = 0
  package var rejected = 0
  package var lastAcceptance: Timestamp?
  package var lastError: String?
  package var behindBytes: Int64?
  /// The time of the oldest event that is read and not accepted yet.
  package var oldestUnsent: Timestamp?
}

/// Sends one source to one stream, at least once: a mark is kept only after the service has accepted what is before it.
actor LogStream {
  private let source: String
  private let group: String
  private let stream: String
  private let retention: Int?
  private let logs: CloudWatchLogs
  private let checkpoints: Checkpoints
  private let deadLetters: DeadLetters
  private let clock: any Clock<Duration>
  private let now: WallClock
  private let log: Logger
  private(set) var status: LogStreamStatus
  /// Nil while it is being read.
  private var lines: (any LineSource)?
  private var isMade = false
  private var parkedFor: String?

  /// A batch waits so long for more.
  private static let flushAge = Duration.seconds(1)
  /// Files that are rotated, compressed and rotated again more often than this are out of reach.
  private static let lookPause = Duration.milliseconds(200)
  /// Between reads of a source that had nothing new.
  private static let idlePause = Duration.milliseconds(250)
  /// A service that throttles or fails is asked again for as long as it takes.
  private static let backoff = Backoff(base: .milliseconds(500), cap: .seconds(30))
  /// What no repetition mends (a missing permission) is tried again now and then.
  private static let parkedPause = Duration.seconds(60)

  init(
    source: String, lines: any LineSource, group: String, stream: String, retention: Int?, logs: CloudWatchLogs, checkpoints: Checkpoints,
    deadLetters: DeadLetters,
    clock: any Clock<Duration>, now: @escaping WallClock, log: Logger
  ) {
    self.source = source
    self.lines = lines
    self.group = group
    self.stream = stream
    self.retention = retention
    self.logs = logs
    self.checkpoints = checkpoints
    self.deadLetters = deadLetters
    self.clock = clock
    self.now = now
    self.log = log
    status = LogStreamStatus(source: source, group: group, stream: stream)
  }

  /// Until `isEnding` says so and nothing is left, or the task is cancelled: then what was not accepted is read again next time.
  func run(isEnding: @Sendable () -> Bool) async {
    let watcher = Task {
      while !Task.isCancelled {
        try? await clock.sleep(for: Self.lookPause)
        look()
      }
    }
    defer { watcher.cancel() }
    var batch = LogBatch(), last: SourceLine?, since: Timestamp?
    var troubles = 0
    var isMarked = await checkpoints.mark(of: source) != nil
    while !Task.isCancelled {
      var found: [SourceLine] = []
      do {
        if !isMarked, let beginning = try lines?.beginning() {
          try await checkpoints.set(beginning, of: source)
          isMarked = true
        }
        found = try await read()
        troubles = 0
      } catch {
        if Task.isCancelled { return }
        troubles += 1
        note("cannot read \(source): \((error as? FileError)?.explanation ?? (error as? LaunchError)?.explanation ?? "\(error)")")
      }
      for line in found {
        let event = LogEvent(
          timestamp: (line.time ?? LogTimestamp.find(in: line.text, now: now()) ?? now()).milliseconds, message: line.text)
        if batch.isEmpty { since = now() }
        if !batch.append(event) {
          guard await deliver(batch, through: last) else { return }
          batch = LogBatch()
          since = now()
          _ = batch.append(event)
        }
        if line.mark != nil { last = line }
      }
      status.behindBytes = lines?.behind()
      status.oldestUnsent = batch.events.first.map { Timestamp(milliseconds: $0.timestamp) }
      if !batch.isEmpty, let begun = since, isEnding() || now() - begun >= Self.flushAge {
        guard await deliver(batch, through: last) else { return }
        batch = LogBatch()
      }
      guard found.isEmpty else { continue }
      if isEnding(), batch.isEmpty, troubles == 0 { return }
      do { try await clock.sleep(for: troubles > 0 ? Self.parkedPause / 12 : Self.idlePause) } catch { return }
    }
  }

  private func read() async throws -> [SourceLine] {
    guard var taken = lines else { return [] }
    lines = nil
    defer { lines = taken }
    return try await taken.read()
  }

  /// While a delivery takes its time.
  private func look() {
    do { try lines?.look() } catch { log.debug("cannot look at \(source)", ["reason": .string("\(error)")]) }
  }

  /// - Returns: false if the task was cancelled before the service accepted the batch.
  private func deliver(_ batch: LogBatch, through last: SourceLine?) async -> Bool {
    var generator = SystemRandomNumberGenerator()
    let events = batch.chronological
    for attempt in 0... {
      var pause = Self.backoff.halfJitter(min(attempt, 10), using: &generator)
      do {
        try await make()
        let rejected = try await logs.putLogEvents(group: group, stream: stream, events.lazy.map { ($0.timestamp, $0.message) })
        await accepted(events, rejected, through: last)
        return true
      } catch let error as AWSError {
        if error.code == "ResourceNotFoundException" { isMade = false }
        if error.mayPass || error.kind == .expiredCredentials || !isMade {
          status.retries += 1
          status.lastError = error.explanation
          log.debug("cannot send \(source) now", ["reason": .string(error.explanation)])
        } else {
          note(error.failure("send \(source) to \(group)", role: nil).lines.joined(separator: " "))
          pause = Self.parkedPause
        }
      } catch let failure as Failure {
        note(failure.lines.joined(separator: " "))
        pause = Self.parkedPause
      } catch {
        return false
      }
      do { try await clock.sleep(for: pause) } catch { return false }
    }
    return false
  }

  private func accepted(_ events: [LogEvent], _ rejected: RejectedLogEvents?, through last: SourceLine?) async {
    status.sentEvents += events.count
    status.sentBytes += events.reduce(0) { $0 + $1.size }
    status.lastAcceptance = now()
    status.lastError = nil
    parkedFor = nil
    do {
      if let rejected {
        let refused = events.indices.filter(rejected.contains)
        status.rejected += refused.count
        status.sentEvents -= refused.count
        log.warning(
          "CloudWatch Logs refused events of \(source); they are kept", ["count": .integer(Int64(refused.count)), "file": .string(deadLetters.path)])
        try await deadLetters.append(refused.map { events[$0] }, source: source)
      }
      if let mark = try last?.mark?() { try await checkpoints.set(mark, of: source) }
    } catch let error as FileError {
      note("cannot keep the place in \(source): \(error.explanation)")
    } catch {
      note("cannot keep the place in \(source): \(error)")
    }
  }

  /// Group and stream, once; a permission that is missing is no harm where they are there.
  private func make() async throws {
    guard !isMade else { return }
    do {
      try await logs.createLogStream(group: group, stream: stream)
    } catch let error as AWSError where error.code == "ResourceNotFoundException" {
      try await logs.createLogGroup(group)
      if let retention { try await logs.putRetentionPolicy(group: group, days: retention) }
      try await logs.createLogStream(group: group, stream: stream)
    } catch let error as AWSError where error.kind == .denied {
      log.warning("may not make stream \(stream) in \(group); going on as if it were there", ["reason": .string(error.explanation)])
    }
    isMade = true
  }

  /// Said once for each trouble.
  private func note(_ trouble: String) {
    status.lastError = trouble
    guard parkedFor != trouble else { return }
    parkedFor = trouble
    log.warning("log forwarding of \(source) waits", ["reason": .string(trouble)])
  }
}

/// Events that the service refused, as JSON lines, kept for a person to look at.
package actor DeadLetters {
  package let path: String
  private let files: any FileStore

  /// A file of this size is begun anew; the one before is kept.
  private static let limit = 8 << 20

  package init(path: String, files: any FileStore) {
    self.path = path
    self.files = files
  }

  /// Throws `FileError`.
  func append(_ events: [LogEvent], source: String) throws {
    var bytes = try files.readIfPresent(path, limit: 2 * Self.limit) ?? []
    if bytes.count > Self.limit {
      try files.rename(path, to: path + ".1")
      bytes = []
    }
    for event in events {
      let line = JSONValue.object(["source": .string(source), "timestamp": .integer(event.timestamp), "message": .string(event.message)])
      bytes += Array((line.compactText + "\n").utf8)
    }
    try files.write(path, bytes, mode: 0o600, owner: nil)
  }
}
