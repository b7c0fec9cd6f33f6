package import AWS
package import Base
internal import Synchronization

/// Forwards every source to its stream. Its trouble is its own: nothing here stops or slows the agent.
package final class LogForwarder: Sendable {
  /// What is to be forwarded, and where to.
  package struct Plan: Sendable, Equatable {
    package var sources: [LogSource]
    /// The fields of the instance filled in, `{source}` not yet.
    package var group: String
    package var stream: String
    /// Days; nil: for ever.
    package var retention: Int?

    package init(sources: [LogSource], group: String, stream: String, retention: Int?) {
      self.sources = sources
      self.group = group
      self.stream = stream
      self.retention = retention
    }
  }

  private let plan: Plan
  private let logs: CloudWatchLogs
  private let files: any FileStore
  private let launcher: any ProcessLauncher
  private let checkpoints: Checkpoints
  private let deadLetters: DeadLetters
  private let statusPath: String
  private let clock: any Clock<Duration>
  private let now: WallClock
  private let log: Logger
  private let ending = Atomic(false)
  private let ended = Atomic(false)
  private let streams = Mutex<[String: LogStream]>([:])

  /// New files that match a pattern are found within this time.
  private static let patternPause = Duration.seconds(2)
  /// `status` reads what is at most so old.
  private static let statusPause = Duration.seconds(2)

  /// - Parameter stateDirectory: where checkpoints, dead letters and the status are.
  package init(
    _ plan: Plan, client: AWSClient, files: any FileStore, launcher: any ProcessLauncher, stateDirectory: String, clock: any Clock<Duration>,
    now: @escaping WallClock, log: Logger
  ) {
    self.plan = plan
    logs = CloudWatchLogs(client: client)
    self.files = files
    self.launcher = launcher
    checkpoints = Checkpoints(path: stateDirectory + "/log-checkpoints.json", files: files, log: log)
    deadLetters = DeadLetters(path: stateDirectory + "/log-dead-letters.jsonl", files: files)
    statusPath = stateDirectory + "/log-status.json"
    self.clock = clock
    self.now = now
    self.log = log
  }

  /// Until the task is cancelled: at once. After `end()`: once everything that is there has been accepted.
  package func run() async {
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await self.reportStatus() }
      await withTaskGroup(of: Void.self) { sources in
        for source in plan.sources {
          sources.addTask {
            switch source {
            case .file(let pattern): await self.follow(pattern)
            case .journal(let unit): await self.forward(source.description, unit: unit)
            case .consul: await self.forward(source.description, unit: "consul")
            }
          }
        }
      }
      group.cancelAll()
    }
    await writeStatus()
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

  private func forward(_ name: String, unit: String?) async {
    await forward(name, JournalSource(unit: unit, mark: await checkpoints.mark(of: name), launcher: launcher))
  }

  private func forward(_ name: String, _ lines: any LineSource) async {
    let stream = LogStream(
      source: name, lines: lines, group: plan.group.replacing("{source}", with: Self.streamPart(name)),
      stream: plan.stream.replacing("{source}", with: Self.streamPart(name)), retention: plan.retention, logs: logs, checkpoints: checkpoints,
      deadLetters: deadLetters, clock: clock, now: now, log: log)
    streams.withLock { $0[name] = stream }
    await stream.run(isEnding: { self.isEnding })
  }

  /// Stream names take neither `:` nor `*` (API reference, CreateLogStream).
  static func streamPart(_ source: String) -> String {
    let name = source.hasPrefix("file:/") ? String(source.dropFirst(6)) : source
    return name.replacing(":", with: "-").replacing("*", with: "_")
  }

  /// A task for each file that matches, and for those that appear later.
  private func follow(_ pattern: String) async {
    await withTaskGroup(of: Void.self) { group in
      var known: Set<String> = []
      repeat {
        for path in LogFiles.matching(pattern, files) where known.insert(path).inserted {
          group.addTask {
            let name = "file:\(path)"
            await self.forward(
              name, FileSource(path: path, mark: await self.checkpoints.mark(of: name), opener: self.files, now: self.now, log: self.log))
          }
        }
        if isEnding { break }
        try? await clock.sleep(for: Self.patternPause)
      } while !Task.isCancelled
    }
  }

  // MARK: Status

  private func reportStatus() async {
    while !Task.isCancelled {
      await writeStatus()
      try? await clock.sleep(for: Self.statusPause)
    }
  }

  private func writeStatus() async {
    var list: [JSONValue] = []
    for (_, stream) in streams.withLock({ $0 }).sorted(by: { $0.key < $1.key }) { list.append(Self.json(await stream.status, now: now())) }
    let report = JSONValue.object(["time": .string(now().iso8601), "streams": .array(list)])
    do {
      try files.write(statusPath, Array(report.prettyText.utf8), mode: 0o644, owner: nil)
    } catch {
      log.debug("cannot write \(statusPath)")
    }
  }

  private static func json(_ status: LogStreamStatus, now: Timestamp) -> JSONValue {
    .object([
      "source": .string(status.source), "group": .string(status.group), "stream": .string(status.stream),
      "sent_events": .integer(Int64(status.sentEvents)), "sent_bytes": .integer(Int64(status.sentBytes)),
      "retries": .integer(Int64(status.retries)), "rejected_events": .integer(Int64(status.rejected)),
      "last_acceptance": status.lastAcceptance.map { .string($0.iso8601) } ?? .null,
      "last_error": status.lastError.map(JSONValue.string) ?? .null,
      "behind_bytes": status.behindBytes.map(JSONValue.integer) ?? .null,
      "lag_seconds": status.oldestUnsent.map { .integer(max(0, (now - $0).components.seconds)) } ?? .integer(0),
    ])
  }
}

extension LogFiles {
  /// The regular files that a path with `*` and `?` in its last part names, sorted; compressed ones only if it names them itself.
  static func matching(_ pattern: String, _ files: any FileOpener) -> [String] {
    guard let slash = pattern.lastIndex(of: "/") else { return [] }
    let directory = String(pattern[..<slash]), last = String(pattern[pattern.index(after: slash)...])
    guard last.contains("*") || last.contains("?") else { return [pattern] }
    let names = (try? files.list(directory.isEmpty ? "/" : directory)) ?? []
    return names.filter { matches(Array($0.utf8)[...], Array(last.utf8)[...]) && (!isCompressed($0) || isCompressed(last)) }.map {
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
