internal import AWS
internal import Base
internal import Artifacts
internal import Decisions
internal import Model
internal import Observers
internal import LogForwarding
internal import Synchronization

/// Watches an external agent: does it run, and does what it forwards arrive?
final class LogAgentMonitor: Sendable {
  private let agent: LogAgentConfiguration.Agent
  private let files: [LogAgentConfiguration.File]
  /// The service tells the time of a stream's last event up to an hour late (API reference, LogStream, lastEventTimestamp).
  private let patience: Duration
  private let logs: CloudWatchLogs
  private let context: RuntimeContext
  private let state: Mutex<LogAgentReport>

  /// One call for each stream.
  private static let pause = Duration.seconds(60)
  private static let timeout = Duration.seconds(10)
  /// Of a file's end, where its last line is.
  private static let tail = 64 << 10

  init(_ configuration: LogAgentConfiguration, patience: Duration, logs: CloudWatchLogs, context: RuntimeContext) {
    agent = configuration.agent
    files = configuration.files
    self.patience = patience
    self.logs = logs
    self.context = context
    state = Mutex(
      LogAgentReport(
        name: agent.name, isRunning: true,
        streams: files.map { .init(source: $0.source, group: $0.group, stream: $0.stream) }))
  }

  var report: LogAgentReport { state.withLock { $0 } }

  /// Until cancelled.
  func run() async {
    while !Task.isCancelled {
      let isRunning = await isRunning()
      var streams = report.streams
      for index in streams.indices { await refresh(files[index], &streams[index]) }
      state.withLock { [streams] state in
        state.isRunning = isRunning
        state.streams = streams
      }
      try? await context.clock.sleep(for: min(Self.pause, patience / 4))
    }
  }

  private func isRunning() async -> Bool {
    for unit in agent.units {
      let result = try? await context.launcher.run(
        Command("/bin/systemctl", ["is-active", "--quiet", unit]), timeout: Self.timeout)
      if result?.succeeded == true { return true }
    }
    return false
  }

  private func refresh(_ file: LogAgentConfiguration.File, _ stream: inout LogAgentReport.Stream) async {
    stream.lastLine = lastLine(file.path)
    do {
      let event = try await logs.lastEventTime(group: file.group, stream: file.stream)
      if event != stream.lastEvent { stream.behindSince = nil }
      stream.lastEvent = event
      stream.error = nil
    } catch {
      stream.error = error.explained
    }
    let now = context.now()
    // To the second: the agents know no finer times.
    let isBehind =
      stream.lastLine.map { line in stream.lastEvent.map { line.milliseconds / 1000 > $0.milliseconds / 1000 } ?? true }
      ?? false
    stream.behindSince = isBehind ? stream.behindSince ?? now : nil
    stream.isStalled = stream.behindSince.map { now - $0 >= patience } ?? false
  }

  /// The time in the last line of the newest file, or of that file's last change.
  private func lastLine(_ pattern: String) -> Timestamp? {
    let found = LogFiles.matching(pattern, context.files).compactMap { try? context.files.open($0) }
    guard let file = found.max(by: { ((try? $0.modified()) ?? 0) < ((try? $1.modified()) ?? 0) }),
      let size = try? file.size(), size > 0,
      let modified = try? file.modified(),
      let bytes = try? file.read(at: max(0, size - Int64(Self.tail)), count: Self.tail)
    else { return nil }
    let last = bytes.split(separator: 10).last ?? []
    return LogTimestamp().find(in: last, now: context.now()) ?? Timestamp(milliseconds: modified)
  }
}
