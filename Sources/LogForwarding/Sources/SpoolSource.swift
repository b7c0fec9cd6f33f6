internal import Base

/// Lines of a spool.
struct SpoolSource: LineSource {
  private let spool: Spool
  private let now: WallClock
  private var position: SpoolPosition
  private var splitter: LineSplitter

  init(_ spool: Spool, checkpoint: Checkpoint?, now: @escaping WallClock) {
    self.spool = spool
    self.now = now
    position = SpoolPosition(segment: 0, offset: 0)
    if case .spool(let saved)? = checkpoint, spool.contains(saved) { position = saved }
    splitter = LineSplitter(offset: position.offset)
    spool.release(before: position)
  }

  mutating func read(_ count: Int) async throws -> LineChunk {
    while true {
      switch try spool.segment(from: position.segment) {
      case .nothing: return LineChunk()
      case .lost(let lines, let bytes, let number):
        var chunk = splitter.finish()
        chunk.append(Self.notice(lines: lines, bytes: bytes), end: 0, time: now())
        move(to: number + 1, 0)
        chunk.makeCheckpoint = { [position] _, _ in .spool(position) }
        return chunk
      case .file(let file, let number, let isLast):
        if number != position.segment { move(to: number, 0) }
        let bytes = try file.read(at: position.offset, count: count)
        if bytes.isEmpty {
          if isLast { return LineChunk() }
          // A complete segment: the bytes after its last newline are a line.
          let last = splitter.finish()
          move(to: number + 1, 0)
          if last.isEmpty { continue }
          return withCheckpoints(last, position)
        }
        position = SpoolPosition(segment: number, offset: position.offset.saturatingAdding(Int64(bytes.count)))
        let chunk = splitter.feed(bytes)
        if !chunk.isEmpty { return withCheckpoints(chunk, nil) }
      }
    }
  }

  private mutating func move(to segment: Int64, _ offset: Int64) {
    position = SpoolPosition(segment: segment, offset: offset)
    splitter = LineSplitter(offset: offset)
  }

  /// - Parameter position: of all checkpoints; nil: each line's own.
  private func withCheckpoints(_ chunk: LineChunk, _ position: SpoolPosition?) -> LineChunk {
    var chunk = chunk
    chunk.makeCheckpoint = { [segment = self.position.segment] line, _ in
      .spool(position ?? SpoolPosition(segment: segment, offset: line.end))
    }
    return chunk
  }

  /// The event that takes the place of dropped lines.
  static func notice(lines: Int64, bytes: Int64) -> String {
    "consul-bootstrap: \(lines) lines (\(bytes) bytes) of this log were dropped here: the queue on disk was full"
  }

  func acknowledge(_ checkpoint: Checkpoint) {
    if case .spool(let position) = checkpoint { spool.release(before: position) }
  }

  func unreadBytes() -> Int64? { spool.unreadBytes(after: position).saturatingAdding(Int64(splitter.pending)) }
  var losses: SourceLosses { spool.losses }
}
