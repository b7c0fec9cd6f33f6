internal import AWS
internal import Base
internal import Artifacts
internal import Decisions
internal import Model
internal import Observers
internal import LogForwarding
internal import Synchronization

/// Monitors an external agent: whether it is running, and whether the lines of its files arrive.
final class LogAgentMonitor: Sendable {
  private let agent: LogAgentConfiguration.Agent
  private let files: [LogAgentConfiguration.File]
  /// CloudWatch Logs reports a stream's last event up to an hour late (API reference, LogStream, lastEventTimestamp).
  private let patience: Duration
  private let logs: CloudWatchLogs
  private let context: RuntimeContext
  private let state: Mutex<LogAgentReport>

  /// Between calls of DescribeLogStreams, one for each stream: a quarter of the patience, inside these bounds.
  private static let minimumInterval = Duration.seconds(1)
  private static let maximumInterval = Duration.seconds(60)
  /// Of `systemctl is-active`.
  private static let timeout = Duration.seconds(10)
  /// Bytes at a file's end that are searched for its last line.
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
    // By the monotonic clock; `behindSince` of the report is a time stamp to show.
    var behindSince = [Duration?](repeating: nil, count: files.count)
    var reported = [ReportedReason](repeating: ReportedReason(), count: files.count)
    while !Task.isCancelled {
      let (isRunning, error) = await checkUnits()
      var streams = report.streams
      for index in streams.indices {
        await refresh(files[index], &streams[index], &behindSince[index], &reported[index])
      }
      if Task.isCancelled { return }
      let isNew = state.withLock { [streams] state in
        defer {
          state.isRunning = isRunning
          state.error = error
          state.streams = streams
        }
        return state.error != error
      }
      if isNew, let error {
        context.log.warning("cannot check whether \(agent.name) is running", ["reason": .string(error)])
      }
      try? await context.clock.sleep(for: max(Self.minimumInterval, min(Self.maximumInterval, patience / 4)))
    }
  }

  /// Whether one of the agent's units is active; if none is, why that cannot be determined.
  private func checkUnits() async -> (isRunning: Bool, error: String?) {
    var reason: String?
    for unit in agent.units {
      do {
        let result = try await context.launcher.run(
          .systemctl("is-active", "--quiet", unit), timeout: Self.timeout)
        if result.succeeded { return (true, nil) }
      } catch {
        reason = error.explained
      }
    }
    return (false, reason)
  }

  private func refresh(
    _ file: LogAgentConfiguration.File, _ stream: inout LogAgentReport.Stream, _ behindSince: inout Duration?,
    _ reported: inout ReportedReason
  ) async {
    var error: String?, reason: String?
    do {
      stream.lastLine = try lastLine(file.pattern)
    } catch let fileError {
      error = "cannot read \(file.pattern.path): \(fileError.explained)"
      reason = error
    }
    do {
      let event = try await logs.lastEventTime(group: file.group, stream: file.stream)
      if event != stream.lastEvent { behindSince = nil }
      stream.lastEvent = event
    } catch let callError {
      (error, reason) = (callError.explained, callError.stableReason)
    }
    if Task.isCancelled { return }
    // The same error keeps its text in the report: AWS's request ID differs in each.
    let isNew = reported.isNew(reason)
    if isNew || error == nil { stream.error = error }
    if isNew, let error {
      context.log.warning("cannot check whether the lines of \(stream.source) arrive", ["reason": .string(error)])
    }
    // To the second: the agents send no finer times.
    let isBehind =
      stream.lastLine.map { line in stream.lastEvent.map { line.milliseconds / 1000 > $0.milliseconds / 1000 } ?? true }
      ?? false
    let uptime = context.uptime()
    if !isBehind { behindSince = nil } else if behindSince == nil { behindSince = uptime }
    stream.behindSince = behindSince.map { context.now() + ($0 - uptime) }
    stream.isStalled = behindSince.map { uptime - $0 >= patience } ?? false
  }

  /// The time in the last line of the newest file, or of that file's last change; nil if there is no file or no line.
  /// Throws `FileError`.
  private func lastLine(_ pattern: FilePattern) throws -> Timestamp? {
    let found = try LogFiles.matching(pattern, context.files).compactMap { try context.files.open($0) }
      .map { (file: $0, modified: try $0.modified()) }
    guard let (file, modified) = found.max(by: { $0.modified < $1.modified }) else { return nil }
    let size = try file.size()
    guard size > 0 else { return nil }
    let bytes = try file.read(at: max(0, size - Int64(Self.tail)), count: Self.tail)
    let last = bytes.split(separator: 10).last ?? []
    return LogTimestamp().find(in: last, now: context.now()) ?? Timestamp(milliseconds: modified)
  }
}
