package import AWS
package import Base
internal import Synchronization

/// Forwards every source to its stream. Its errors never stop or slow the agent.
package final class LogForwarder: Sendable {
  /// How a source is read on this machine.
  package enum Input: Sendable {
    /// A path, or a pattern with `*` and `?` in its last part: each file that matches has a stream of its own.
    case file(pattern: String)
    case journal(unit: String?)
    case container(name: String, docker: String)
    case spool(Spool)
  }

  /// One source and its destination.
  package struct Request: Sendable {
    /// As `--log` names it; the key of its checkpoint.
    package var name: String
    package var input: Input
    /// With every field filled in except `{source}`.
    package var group: String
    package var stream: String
    /// Days; nil: unlimited.
    package var retention: Int?
    package var tags: [String: String] = [:]
    /// Key of the time in JSON lines.
    package var timestampKey: String?
    package var recordStart: (any TextPattern)?

    package init(name: String, input: Input, group: String, stream: String) {
      self.name = name
      self.input = input
      self.group = group
      self.stream = stream
    }
  }

  private let requests: [Request]
  private let logs: CloudWatchLogs
  private let files: any FileStore
  private let launcher: any ProcessLauncher
  private let checkpoints: CheckpointStore
  private let deadLetters: DeadLetters
  private let memory: Int
  private let flushInterval: Duration
  private let clock: any Clock<Duration>
  private let now: WallClock
  private let log: Logger
  private let isEndRequested = Atomic(false)
  private let hasEnded = Atomic(false)
  private let streams = Mutex<[String: LogStream]>([:])

  /// New files that match a pattern are found within this time.
  private static let patternInterval = Duration.seconds(2)
  /// A name that is missing for longer does not come back: a rotation takes less.
  private static let patience = Duration.seconds(60)
  /// A stream never gets less; with more than memory / 64 KiB streams, `memory` is no bound.
  private static let minimumShare = 16 << 10

  /// - Parameters:
  ///   - memory: bytes for the unacknowledged events of all streams together.
  ///   - flushInterval: how long a batch that is not full waits for more events.
  ///   - stateDirectory: holds checkpoints and dead letters.
  package init(
    _ requests: [Request], memory: Int, flushInterval: Duration, client: AWSClient, files: any FileStore,
    launcher: any ProcessLauncher,
    stateDirectory: String,
    clock: any Clock<Duration>, now: @escaping WallClock, log: Logger
  ) {
    self.requests = requests
    self.memory = memory
    self.flushInterval = flushInterval
    // Each stream counts its failures and retries without limit.
    logs = CloudWatchLogs(client: client.withoutRetries())
    self.files = files
    self.launcher = launcher
    checkpoints = CheckpointStore(path: stateDirectory + "/log-checkpoints.json", files: files, log: log)
    deadLetters = DeadLetters(path: stateDirectory + "/log-dead-letters.jsonl", files: files)
    self.clock = clock
    self.now = now
    self.log = log
  }

  /// Returns when the task is cancelled, or after `end(within:)` once CloudWatch Logs has acknowledged everything.
  package func run() async {
    await withTaskGroup(of: Void.self) { group in
      for request in requests {
        group.addTask {
          switch request.input {
          case .file(let pattern) where LogFiles.isPattern(pattern): await self.follow(pattern, request)
          case .file(let path):
            await self.forward(request.name, request) {
              FileSource(path: path, checkpoint: $0, opener: self.files, now: self.now, log: self.log)
            }
          case .journal(let unit):
            await self.forward(request.name, request) {
              CommandSource(.journal(unit: unit), checkpoint: $0, launcher: self.launcher, clock: self.clock)
            }
          case .container(let name, let docker):
            await self.forward(request.name, request) {
              CommandSource(
                .container(name, docker: docker), checkpoint: $0, launcher: self.launcher, clock: self.clock)
            }
          case .spool(let spool):
            await self.forward(request.name, request) { SpoolSource(spool, checkpoint: $0, now: self.now) }
          }
        }
      }
    }
    hasEnded.store(true, ordering: .relaxed)
  }

  /// Makes `run` return once it has sent what is written by now. Waits for that, but not longer than `time`; the rest is sent
  /// after the next start.
  package func end(within time: Duration) async {
    isEndRequested.store(true, ordering: .relaxed)
    let deadline = now() + time
    while !hasEnded.load(ordering: .relaxed), now() < deadline { try? await clock.sleep(for: .milliseconds(50)) }
  }

  private var isEnding: Bool { isEndRequested.load(ordering: .relaxed) }

  private func forward(
    _ name: String, _ request: Request, until isOver: @Sendable () -> Bool = { false },
    _ source: (Checkpoint?) -> any LineSource
  )
    async
  {
    let part = LogStreamName.part(of: name)
    let plan = LogStreamPlan(
      source: name, group: request.group.replacing("{source}", with: part),
      stream: request.stream.replacing("{source}", with: part),
      retention: request.retention, tags: request.tags, times: LogTimestamp(key: request.timestampKey),
      recordStart: request.recordStart)
    let stream = LogStream(
      plan, lines: source(await checkpoints.checkpoint(of: name)), logs: logs, checkpoints: checkpoints,
      deadLetters: deadLetters,
      share: { self.share }, flushInterval: flushInterval, clock: clock, now: now, log: log)
    streams.withLock { $0[name] = stream }
    await stream.run(isEnding: { self.isEnding || isOver() })
  }

  /// Bytes that one stream may hold: memory holds its events as text, as JSON, as the request's body, and in libcurl.
  private var share: Int { max(Self.minimumShare, memory / 4 / max(1, streams.withLock { $0.count })) }

  /// Forwards each file that matches, and those that appear later.
  private func follow(_ pattern: String, _ request: Request) async {
    await withTaskGroup(of: Void.self) { group in
      var known: [String: (missingSince: Timestamp?, isOver: Flag)] = [:]
      repeat {
        let present = Set(LogFiles.matching(pattern, files))
        for path in present.subtracting(known.keys).sorted() {
          let flag = Flag()
          known[path] = (nil, flag)
          group.addTask {
            let name = "file:\(path)"
            await self.forward(name, request, until: { flag.isSet }) {
              FileSource(path: path, checkpoint: $0, opener: self.files, now: self.now, log: self.log)
            }
            if flag.isSet, !Task.isCancelled { await self.forget(name) }
          }
        }
        // A name that does not come back, for example one that contains a date: its rest is sent, and its stream ends.
        for (path, file) in known {
          if present.contains(path) {
            known[path]?.missingSince = nil
          } else if let missingSince = file.missingSince {
            guard now() - missingSince >= Self.patience else { continue }
            file.isOver.set()
            known[path] = nil
          } else {
            known[path]?.missingSince = now()
          }
        }
        if isEnding { break }
        try? await clock.sleep(for: Self.patternInterval)
      } while !Task.isCancelled
    }
  }

  private func forget(_ name: String) async {
    streams.withLock { $0[name] = nil }
    do { try await checkpoints.remove(name) } catch { log.debug("cannot remove the checkpoint of \(name)") }
  }

  private final class Flag: Sendable {
    private let value = Atomic(false)
    var isSet: Bool { value.load(ordering: .relaxed) }
    func set() { value.store(true, ordering: .relaxed) }
  }

  /// Of every stream, by name.
  package func status() async -> [LogStreamStatus] {
    var list: [LogStreamStatus] = []
    for (_, stream) in streams.withLock({ $0 }).sorted(by: { $0.key < $1.key }) { list.append(await stream.status) }
    return list
  }
}
