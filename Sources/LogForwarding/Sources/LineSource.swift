internal import Base

/// A position in a source, to resume from after a restart.
package enum Checkpoint: Sendable, Equatable {
  case file(FilePosition)
  /// The journal's own cursor, or the time of a container's line.
  case cursor(String)
  case spool(SpoolPosition)
}

/// Gives lines, each once, in order, from a checkpoint on.
protocol LineSource: Sendable {
  /// The next lines; none if nothing is new. Throws `FileError`, `LaunchError` or `SourceError`.
  /// - Parameter count: bytes, at most, except for a line that is longer.
  mutating func read(_ count: Int) async throws -> LineChunk
  /// Opens files that may soon be renamed or removed; called often between reads. Throws `FileError`.
  mutating func scanForRotation() throws
  /// CloudWatch Logs has acknowledged everything before the checkpoint, and the checkpoint is saved.
  func acknowledge(_ checkpoint: Checkpoint)
  /// Bytes that are written but not read yet; nil if unknown. Throws `FileError`.
  func unreadBytes() throws -> Int64?
  /// It does not exist yet, which is no error.
  var isWaiting: Bool { get }
  /// Lines or bytes that were dropped so far.
  var losses: SourceLosses { get }
  /// Saved before anything is sent if the source has no checkpoint yet; nil if it needs none. Throws `FileError`.
  func initialCheckpoint() throws -> Checkpoint?
  /// Ends what was started for reading.
  func stop()
}

extension LineSource {
  mutating func scanForRotation() throws {}
  func acknowledge(_ checkpoint: Checkpoint) {}
  func unreadBytes() throws -> Int64? { nil }
  var isWaiting: Bool { false }
  var losses: SourceLosses { SourceLosses() }
  func initialCheckpoint() throws -> Checkpoint? { nil }
  func stop() {}
}

/// What a source has dropped. Lines are counted where that is possible: the lines of a removed file cannot be counted.
package struct SourceLosses: Sendable, Equatable {
  package var lines: Int64 = 0
  package var bytes: Int64 = 0
  /// Files that disappeared with unread contents.
  package var files: Int64 = 0

  package init() {}

  mutating func add(_ other: SourceLosses) {
    lines = lines.saturatingAdding(other.lines)
    bytes = bytes.saturatingAdding(other.bytes)
    files = files.saturatingAdding(other.files)
  }

  func adding(_ other: SourceLosses) -> SourceLosses {
    var sum = self
    sum.add(other)
    return sum
  }
}

/// Why a source cannot be read now.
struct SourceError: ExplainedError {
  let explanation: String
}
