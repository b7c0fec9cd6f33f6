package import Base
internal import Synchronization

/// This program's log as a file, for the forwarding: every record, time-stamped, whatever standard error is.
///
/// Several processes append to it. It is bounded: at `limit` it is renamed to `.1`, which replaces the previous `.1`.
package final class OwnLog: LogSink {
  private struct State {
    var file: LocalAppendFile?
    /// Why the last record is missing from the file; nil if it is in there.
    var problem: String?
  }

  private let path: String
  private let format: Console.Format
  private let console: Logger
  private let state = Mutex(State())

  private static let limit: Int64 = 4 << 20

  /// - Parameter console: gets a warning when records cannot be written to the file; it has the records, too.
  package init(path: String, format: Console.Format, console: any LogSink) {
    self.path = path
    self.format = format
    self.console = Logger(level: .warning, sink: console)
  }

  package func progress(_ record: LogRecord) { write(record) }

  /// Whole records: one that cannot be written is reported on the console, once for each reason in a row.
  package func write(_ record: LogRecord) {
    let line = Array((Console.line(record, format) + "\n").utf8)
    let problem: String? = state.withLock { state in
      do {
        if state.file?.isCurrent() != true { state.file = try LocalAppendFile(path) }
        if let file = state.file, try file.size() > Self.limit { state.file = try file.rotated() }
        try state.file?.append(line[...])
        state.problem = nil
        return nil
      } catch {
        // The next record opens the file again.
        state.file = nil
        defer { state.problem = error.explained }
        return state.problem == error.explained ? nil : error.explained
      }
    }
    guard let problem else { return }
    console.warning(
      "cannot write this program's own log file; its records are not forwarded", ["reason": .string(problem)])
  }
}

/// Writes every record to two sinks.
package struct TeeSink: LogSink {
  private let first: any LogSink
  private let second: any LogSink

  package init(_ first: any LogSink, _ second: any LogSink) {
    self.first = first
    self.second = second
  }

  package func write(_ record: LogRecord) {
    first.write(record)
    second.write(record)
  }

  package func progress(_ record: LogRecord) {
    first.progress(record)
    second.progress(record)
  }
}
