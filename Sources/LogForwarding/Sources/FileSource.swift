internal import Base

/// Lines of one path, through its rotations.
struct FileSource: LineSource {
  private var tail: FileTail
  private let path: String
  private let now: WallClock
  private let log: Logger
  private(set) var losses = SourceLosses()

  init(path: String, checkpoint: Checkpoint?, opener: any FileOpener, now: @escaping WallClock, log: Logger) {
    self.now = now
    var start: FilePosition?
    if case .file(let position)? = checkpoint { start = position }
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
        log.warning("\(path) was truncated and no copy of it was found: its unread lines are lost")
      case .lostRest:
        losses.files += 1
        log.warning("the file that \(path) was is gone: its unread lines are lost")
      case .dropped(let bytes):
        losses.bytes = losses.bytes.saturatingAdding(bytes)
        log.warning(
          "\(path) was rotated more often than its files can be held open", ["lost_bytes": .integer(bytes)])
      }
    }
    return chunk
  }

  mutating func scanForRotation() throws { try tail.scanForRotation() }

  func unreadBytes() throws -> Int64? { try tail.unreadBytes() }

  var isWaiting: Bool { tail.isWaiting }

  func initialCheckpoint() throws -> Checkpoint? {
    try tail.initialPosition(time: now().milliseconds).map { .file($0) }
  }
}
