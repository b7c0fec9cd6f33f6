package import Base
internal import Glibc
internal import Synchronization

/// This program's log as a file, for the forwarding: every record, time-stamped, whatever standard error is. Several processes
/// append to it. It is bounded: at `limit` it becomes `.1`, and what that was before is gone.
package final class OwnLog: LogSink {
  private let path: String
  private let format: Console.Format
  private let file = Mutex<LocalAppendFile?>(nil)

  private static let limit: Int64 = 4 << 20

  package init(path: String, format: Console.Format) {
    self.path = path
    self.format = format
  }

  package func progress(_ record: LogRecord) { write(record) }

  /// A log that cannot be written has nobody to tell: standard error has the record, too.
  package func write(_ record: LogRecord) {
    let line = Array((Console.line(record, format) + "\n").utf8)
    file.withLock { file in
      if file?.isCurrent() != true { file = try? LocalAppendFile(path) }
      if let current = file, let size = try? current.size(), size > Self.limit { file = current.rotated() }
      try? file?.append(line[...])
    }
  }
}

/// To both.
package struct TwoSinks: LogSink {
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
