package import AWS
package import Base
internal import Synchronization

/// Forwards every source to its stream. Its errors never stop or slow the agent.
package final class LogForwarder: Sendable {
  /// One source and its destination.
  package struct Request: Sendable {
    /// As `--log` names it; the key of its checkpoint.
    package var name: String
    package var input: LogInput
    /// With every field filled in except `{source}`.
    package var group: String
    package var stream: String
    /// Days; nil: unlimited.
    package var retention: Int?
    package var tags: [String: String] = [:]
    /// Key of the time in JSON lines.
    package var timestampKey: String?
    package var recordStart: (any TextPattern)?

    package init(name: String, input: LogInput, group: String, stream: String) {
      self.name = name
      self.input = input
      self.group = group
      self.stream = stream
    }
  }

  private let requests: [Request]
  private let logs: CloudWatchLogs
  private let checkpoints: CheckpointStore
  private let deadLetters: DeadLetters
  private let memory: Int
  private let flushInterval: Duration
  private let seams: LogInput.Seams
  private let isEndRequested = Atomic(false)
  private let hasEnded = Atomic(false)
  private let streams = Mutex<[String: LogStream]>([:])
  /// Of patterns that match no file, or whose directory cannot be listed.
  private let patterns = Mutex<[String: LogStreamStatus]>([:])

  /// New files that match a pattern are found within this time.
  private static let patternInterval = Duration.seconds(2)
  /// A name that is missing for longer does not come back: a rotation takes less.
  private static let missingTimeout = Duration.seconds(60)
  private static let endInterval = Duration.milliseconds(50)
  /// A stream never gets less; with more than memory / 64 KiB streams, `memory` is no bound.
  private static let minimumShare = 16 << 10

  /// - Parameters:
  ///   - memory: bytes for the unacknowledged events of all streams together.
  ///   - flushInterval: how long a batch that is not full waits for more events.
  ///   - stateDirectory: holds checkpoints and dead letters.
  ///   - clock: for sleeping.
  ///   - uptime: for intervals and deadlines.
  ///   - now: for time stamps only.
  package init(
    _ requests: [Request], memory: Int, flushInterval: Duration, client: AWSClient, files: any FileStore,
    launcher: any ProcessLauncher, stateDirectory: String, clock: any Clock<Duration>, uptime: @escaping MonotonicTime,
    now: @escaping WallClock, log: Logger
  ) {
    self.requests = requests
    self.memory = memory
    self.flushInterval = flushInterval
    // Each stream counts its failures and retries without limit.
    logs = CloudWatchLogs(client: client.withoutRetries())
    checkpoints = CheckpointStore(path: stateDirectory + "/log-checkpoints.json", files: files, log: log)
    deadLetters = DeadLetters(path: stateDirectory + "/log-dead-letters.jsonl", files: files)
    seams = LogInput.Seams(files: files, launcher: launcher, clock: clock, uptime: uptime, now: now, log: log)
  }

  /// Returns when the task is cancelled, or after `end(within:)` once CloudWatch Logs has acknowledged everything.
  package func run() async {
    await withTaskGroup(of: Void.self) { group in
      for request in requests {
        group.addTask {
          switch request.input.kind {
          case .lines(let source):
            await self.forward(request.name, request) { [seams = self.seams] in source($0, seams) }
          case .files(let pattern): await self.follow(pattern, request)
          }
        }
      }
    }
    hasEnded.store(true, ordering: .relaxed)
  }

  /// Makes `run` return once it has sent what is written by now. Waits for that, but not longer than `time`; the rest
  /// is sent after the next start.
  package func end(within time: Duration) async {
    isEndRequested.store(true, ordering: .relaxed)
    let deadline = seams.uptime() + time
    do {
      try await waitForEnd(until: deadline)
    } catch {
      // Logs are also sent if the caller is cancelled: the deadline bounds the wait.
      let rest = Task { try await self.waitForEnd(until: deadline) }
      _ = await rest.result
    }
  }

  private func waitForEnd(until deadline: Duration) async throws {
    while !hasEnded.load(ordering: .relaxed), seams.uptime() < deadline {
      try await seams.clock.sleep(for: Self.endInterval)
    }
  }

  private var isEnding: Bool { isEndRequested.load(ordering: .relaxed) }

  private func forward(
    _ name: String, _ request: Request, until isOver: @Sendable () -> Bool = { false },
    _ source: (Checkpoint?) -> any LineSource
  ) async {
    let (group, stream) = Self.destination(of: name, request)
    let plan = LogStreamPlan(
      source: name, group: group, stream: stream, retention: request.retention, tags: request.tags,
      times: LogTimestamp(key: request.timestampKey), recordStart: request.recordStart)
    // A strong reference would keep the forwarder, and with it every stream, alive for ever.
    let share = { @Sendable [weak self] in self?.share ?? Self.minimumShare }
    let logStream = LogStream(
      plan, lines: source(await checkpoints.checkpoint(of: name)), logs: logs, checkpoints: checkpoints,
      deadLetters: deadLetters, share: share, flushInterval: flushInterval,
      clocks: LogStream.Clocks(clock: seams.clock, uptime: seams.uptime, now: seams.now), log: seams.log)
    streams.withLock { $0[name] = logStream }
    await logStream.run(isEnding: { self.isEnding || isOver() })
  }

  private static func destination(of name: String, _ request: Request) -> (group: String, stream: String) {
    let part = LogStreamName.part(of: name)
    return (request.group.replacing("{source}", with: part), request.stream.replacing("{source}", with: part))
  }

  /// Bytes that one stream may hold: memory holds its events as text, as JSON, as the request's body, and in libcurl.
  private var share: Int { max(Self.minimumShare, memory / 4 / max(1, streams.withLock { $0.count })) }

  /// Of every stream, by name.
  package func status() async -> [LogStreamStatus] {
    var list = patterns.withLock { Array($0.values) }
    for (_, stream) in streams.withLock({ $0 }) { list.append(await stream.status) }
    return list.sorted { $0.source < $1.source }
  }
}

// MARK: Patterns

extension LogForwarder {
  private final class Pattern: Sendable {
    let files: Mutex<MatchedFiles>
    init() { files = Mutex(MatchedFiles(timeout: LogForwarder.missingTimeout)) }
  }

  /// Forwards each file that matches, and those that appear later.
  private func follow(_ wanted: FilePattern, _ request: Request) async {
    let pattern = Pattern()
    var problem: String?
    await withTaskGroup(of: Void.self) { group in
      repeat {
        do {
          let paths = try LogFiles.matching(wanted, seams.files)
          let (new, isWaiting) = pattern.files.withLock { ($0.update(paths, at: seams.uptime()), $0.isEmpty) }
          for path in new { group.addTask { await self.forward(path, of: pattern, request) } }
          if problem != nil { seams.log.info("log forwarding of \(request.name) has resumed") }
          problem = nil
          show(request, problem: nil, isWaiting: isWaiting)
        } catch {
          // Which files still exist is unknown: known streams continue.
          let reason = "cannot list the files of \(request.name): \(error.explained)"
          if reason != problem {
            seams.log.warning("log forwarding of \(request.name) is parked", ["reason": .string(reason)])
          }
          problem = reason
          show(request, problem: reason, isWaiting: false)
        }
        if isEnding { break }
        do { try await seams.clock.sleep(for: Self.patternInterval) } catch { break }
      } while !Task.isCancelled
    }
  }

  /// A pattern has a status of its own while it matches no file, or cannot be evaluated.
  private func show(_ request: Request, problem: String?, isWaiting: Bool) {
    var status: LogStreamStatus?
    if problem != nil || isWaiting {
      let (group, stream) = Self.destination(of: request.name, request)
      status = LogStreamStatus(source: request.name, group: group, stream: stream)
      status?.isParked = problem != nil
      status?.lastError = problem
      status?.isWaiting = isWaiting
    }
    patterns.withLock { [status] in $0[request.name] = status }
  }

  /// Until the file has disappeared and its rest is sent; then its stream and checkpoint are removed.
  private func forward(_ path: String, of pattern: Pattern, _ request: Request) async {
    let name = "file:\(path)"
    while !Task.isCancelled {
      await forward(name, request, until: { pattern.files.withLock { $0.isEnding(path) } }) { [seams] in
        FileSource(path: path, checkpoint: $0, opener: seams.files, now: seams.now, log: seams.log)
      }
      if pattern.files.withLock({ $0.close(path) }) {
        await forget(name)
        pattern.files.withLock { $0.remove(path) }
        return
      }
      // Either everything ends, or the file has reappeared.
      if isEnding { return }
    }
  }

  private func forget(_ name: String) async {
    streams.withLock { $0[name] = nil }
    do {
      try await checkpoints.remove(name)
    } catch {
      // The next checkpoint that is saved removes it, too.
      seams.log.warning("cannot remove the checkpoint of \(name)", ["reason": .string(error.explained)])
    }
  }
}
