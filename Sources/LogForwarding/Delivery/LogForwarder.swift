package import AWS
package import Base
internal import Synchronization

/// Forwards every source to its stream. Its trouble is its own: nothing here stops or slows the agent.
package final class LogForwarder: Sendable {
  /// What a source is on this machine.
  package enum Input: Sendable {
    /// A path, or a pattern of `*` and `?` in its last part: then each file is a stream of its own.
    case file(pattern: String)
    case journal(unit: String?)
    case container(name: String, docker: String)
    case spool(Spool)
  }

  /// One source, and where to.
  package struct Request: Sendable {
    /// As `--log` names it; what its checkpoint is kept by.
    package var name: String
    package var input: Input
    /// The fields of the instance filled in, `{source}` not yet.
    package var group: String
    package var stream: String
    /// Days; nil: for ever.
    package var retention: Int?
    package var tags: [String: String] = [:]
    /// Of JSON lines.
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
  private let ending = Atomic(false)
  private let ended = Atomic(false)
  private let streams = Mutex<[String: LogStream]>([:])

  /// New files that match a pattern are found within this time.
  private static let patternPause = Duration.seconds(2)
  /// A rotation takes less.
  private static let patience = Duration.seconds(60)
  /// A stream never gets less: its share is no bound where there are more than memory / 64 KiB of them.
  private static let leastShare = 16 << 10

  /// - Parameters:
  ///   - memory: bytes for what is read and not accepted yet, of all streams together.
  ///   - flushInterval: a batch that is not full waits so long for more.
  ///   - stateDirectory: where checkpoints and dead letters are.
  package init(
    _ requests: [Request], memory: Int, flushInterval: Duration, client: AWSClient, files: any FileStore,
    launcher: any ProcessLauncher,
    stateDirectory: String,
    clock: any Clock<Duration>, now: @escaping WallClock, log: Logger
  ) {
    self.requests = requests
    self.memory = memory
    self.flushInterval = flushInterval
    // Here each failure is counted, and waited for as long as it takes.
    logs = CloudWatchLogs(client: client.withoutRetries())
    self.files = files
    self.launcher = launcher
    checkpoints = CheckpointStore(path: stateDirectory + "/log-checkpoints.json", files: files, log: log)
    deadLetters = DeadLetters(path: stateDirectory + "/log-dead-letters.jsonl", files: files)
    self.clock = clock
    self.now = now
    self.log = log
  }

  /// Until the task is cancelled: at once. After `end()`: once everything that is there has been accepted.
  package func run() async {
    await withTaskGroup(of: Void.self) { group in
      for request in requests {
        group.addTask {
          switch request.input {
          case .file(let pattern) where LogFiles.isPattern(pattern): await self.follow(pattern, request)
          case .file(let path):
            await self.forward(request.name, request) {
              FileSource(path: path, mark: $0, opener: self.files, now: self.now, log: self.log)
            }
          case .journal(let unit):
            await self.forward(request.name, request) {
              CommandSource(.journal(unit: unit), mark: $0, launcher: self.launcher, clock: self.clock)
            }
          case .container(let name, let docker):
            await self.forward(request.name, request) {
              CommandSource(.container(name, docker: docker), mark: $0, launcher: self.launcher, clock: self.clock)
            }
          case .spool(let spool):
            await self.forward(request.name, request) { SpoolSource(spool, mark: $0, now: self.now) }
          }
        }
      }
    }
    ended.store(true, ordering: .relaxed)
  }

  /// What is there is still sent, then `run` returns. Waits for that, no longer than `time`; what is left then is sent after the
  /// next start.
  package func end(within time: Duration) async {
    ending.store(true, ordering: .relaxed)
    let deadline = now() + time
    while !ended.load(ordering: .relaxed), now() < deadline { try? await clock.sleep(for: .milliseconds(50)) }
  }

  private var isEnding: Bool { ending.load(ordering: .relaxed) }

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
      plan, lines: source(await checkpoints.mark(of: name)), logs: logs, checkpoints: checkpoints,
      deadLetters: deadLetters,
      share: { self.share }, flushInterval: flushInterval, clock: clock, now: now, log: log)
    streams.withLock { $0[name] = stream }
    await stream.run(isEnding: { self.isEnding || isOver() })
  }

  /// What one stream may hold: its events are in memory as text, as JSON, as the request's body, and once more in libcurl.
  private var share: Int { max(Self.leastShare, memory / 4 / max(1, streams.withLock { $0.count })) }

  /// A task for each file that matches, and for those that appear later.
  private func follow(_ pattern: String, _ request: Request) async {
    await withTaskGroup(of: Void.self) { group in
      var known: [String: (gone: Timestamp?, isOver: Flag)] = [:]
      repeat {
        let present = Set(LogFiles.matching(pattern, files))
        for path in present.subtracting(known.keys).sorted() {
          let flag = Flag()
          known[path] = (nil, flag)
          group.addTask {
            let name = "file:\(path)"
            await self.forward(name, request, until: { flag.isSet }) {
              FileSource(path: path, mark: $0, opener: self.files, now: self.now, log: self.log)
            }
            if flag.isSet, !Task.isCancelled { await self.forget(name) }
          }
        }
        // A name that does not come back, as where each day has its own: what is left is sent, and its stream is over.
        for (path, file) in known {
          if present.contains(path) {
            known[path]?.gone = nil
          } else if let gone = file.gone {
            guard now() - gone >= Self.patience else { continue }
            file.isOver.set()
            known[path] = nil
          } else {
            known[path]?.gone = now()
          }
        }
        if isEnding { break }
        try? await clock.sleep(for: Self.patternPause)
      } while !Task.isCancelled
    }
  }

  private func forget(_ name: String) async {
    streams.withLock { $0[name] = nil }
    do { try await checkpoints.remove(name) } catch { log.debug("cannot forget the place in \(name)") }
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

extension LogFiles {
  static func isPattern(_ path: String) -> Bool {
    path.drop { $0 == "/" }.contains { $0 == "*" || $0 == "?" }
  }

  /// The regular files that a path with `*` and `?` in its last part names, sorted; compressed ones only if it names them itself.
  package static func matching(_ pattern: String, _ files: any FileOpener) -> [String] {
    guard let slash = pattern.lastIndex(of: "/") else { return [] }
    let directory = String(pattern[..<slash]), last = String(pattern[pattern.index(after: slash)...])
    guard last.contains("*") || last.contains("?") else { return [pattern] }
    let names = (try? files.list(directory.isEmpty ? "/" : directory)) ?? []
    return names.filter {
      matches(Array($0.utf8)[...], Array(last.utf8)[...]) && (!isCompressed($0) || isCompressed(last))
    }.map {
      "\(directory)/\($0)"
    }
  }

  /// A shell's pattern; a leading dot is matched by a dot only.
  static func matches(_ name: ArraySlice<UInt8>, _ pattern: ArraySlice<UInt8>) -> Bool {
    if name.first == 46, pattern.first != 46 { return false }
    // Where the latest star stands, and what it has swallowed so far.
    var n = name.startIndex, p = pattern.startIndex
    var star: Int?, mark = n
    while n < name.endIndex {
      if p < pattern.endIndex, pattern[p] == 42 {
        star = p
        mark = n
        p += 1
      } else if p < pattern.endIndex, pattern[p] == 63 || pattern[p] == name[n] {
        n += 1
        p += 1
      } else if let star {
        p = star + 1
        mark += 1
        n = mark
      } else {
        return false
      }
    }
    return pattern[p...].allSatisfy { $0 == 42 }
  }
}
