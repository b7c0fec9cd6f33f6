internal import Base

/// A place in a source, to go on from after a restart.
package enum Checkpoint: Sendable, Equatable {
  case file(FilePosition)
  /// The journal's own, or the time of a container's line.
  case cursor(String)
  case spool(SpoolPosition)
}

/// Gives lines, each once, in order, from a mark on.
protocol LineSource: Sendable {
  /// The next lines; none when there is nothing new. Throws `FileError`, `LaunchError` or `SourceError`.
  /// - Parameter count: bytes, at most, but for a line that is longer.
  mutating func read(_ count: Int) async throws -> LineChunk
  /// Between reads, and often: keeps hold of what may soon be gone. Throws `FileError`.
  mutating func look() throws
  /// Everything up to here has been accepted, and is kept as accepted.
  func accepted(_ mark: Checkpoint)
  /// Bytes that are known and not read yet; nil where nobody can tell.
  func behind() -> Int64?
  /// Bytes or lines that had to be given up so far.
  var losses: SourceLosses { get }
  /// To be kept before anything is sent, where there is no mark yet; nil where none is needed. Throws `FileError`.
  func beginning() throws -> Checkpoint?
  /// Nothing will be read any more.
  func stop()
}

extension LineSource {
  mutating func look() throws {}
  func accepted(_ mark: Checkpoint) {}
  func behind() -> Int64? { nil }
  var losses: SourceLosses { SourceLosses() }
  func beginning() throws -> Checkpoint? { nil }
  func stop() {}
}

/// What had to be given up. Lines are counted where they can be: of a file that is gone nobody knows.
package struct SourceLosses: Sendable, Equatable {
  package var lines: Int64 = 0
  package var bytes: Int64 = 0
  /// Files that were gone, with what they held.
  package var files: Int64 = 0

  package init() {}
}

/// A source that cannot be read now, in words.
struct SourceError: ExplainedError {
  let explanation: String
}

/// Lines of one path, through its rotations.
struct FileSource: LineSource {
  private var tail: FileTail
  private let path: String
  private let now: WallClock
  private let log: Logger
  private(set) var losses = SourceLosses()

  init(path: String, mark: Checkpoint?, opener: any FileOpener, now: @escaping WallClock, log: Logger) {
    self.now = now
    var start: FilePosition?
    if case .file(let position)? = mark { start = position }
    tail = FileTail(path: path, start: start, opener: opener)
    self.path = path
    self.log = log
  }

  mutating func read(_ count: Int) async throws -> LineChunk {
    let (chunk, events) = try tail.read(count, time: now().milliseconds)
    for event in events {
      switch event {
      case .rotated: log.debug("\(path) was rotated")
      case .truncated(copyFound: true): log.debug("\(path) was copied and truncated")
      case .truncated(copyFound: false):
        losses.files += 1
        log.warning("\(path) was truncated, and no copy of it was found: lines that were not read yet are lost")
      case .lostRest:
        losses.files += 1
        log.warning("the file that \(path) was is gone: lines of it that were not read yet are lost")
      case .gaveUp(let bytes):
        losses.bytes += bytes
        log.warning("\(path) was rotated more often than its files can be held", ["lost_bytes": .integer(bytes)])
      }
    }
    return chunk
  }

  mutating func look() throws { try tail.look() }

  func behind() -> Int64? { try? tail.behind() }

  func beginning() throws -> Checkpoint? { try tail.beginning(time: now().milliseconds).map { .file($0) } }
}
