package import Base
internal import Synchronization

/// A place in a spool.
package struct SpoolPosition: Sendable, Equatable {
  package let segment: Int64
  package let offset: Int64

  package init(segment: Int64, offset: Int64) {
    self.segment = segment
    self.offset = offset
  }
}

/// What a child writes, kept on disk until the service has it: a bounded queue of files, `00000001.log` and so on. The child
/// is never kept waiting for the service: where the queue is full, its oldest file that nobody has begun to read is given up.
/// A file that was given up leaves `00000001.lost` in its place, which says how much it held; so the loss is exact, and is
/// told where it happened, also after a crash.
package final class Spool: OutputSink {
  private struct Segment {
    let number: Int64
    var bytes: Int64 = 0
    var lines: Int64 = 0
    /// What stands for it: losses are told, not read.
    var isLost = false
  }

  private struct State {
    /// The oldest first; the last is being written.
    var segments: [Segment] = []
    var file: (any AppendFile)?
    var endsInNewline = true
    /// What the reader has begun to read: not to be given up.
    var read: Int64 = 0
    /// Could not be written: told with the next file.
    var unwritten = SourceLosses()
    var losses = SourceLosses()
  }

  private let directory: String
  private let limit: Int64
  private let files: any FileStore
  private let log: Logger
  private let state: Mutex<State>

  /// Of one file: what is given up at a time, and what is read again at most after a crash.
  private let segmentSize: Int64

  /// What an earlier run left is still there.
  /// - Parameter limit: of all its files, in bytes.
  package init(directory: String, limit: Int64, files: any FileStore, log: Logger) {
    self.directory = directory
    self.limit = limit
    self.files = files
    self.log = log
    segmentSize = max(4096, min(1 << 20, limit / 16))
    var segments: [Segment] = []
    for name in (try? files.list(directory)) ?? [] {
      guard let dot = name.firstIndex(of: "."), let number = Int64(name[..<dot]) else { continue }
      let path = "\(directory)/\(name)"
      if name.hasSuffix(".lost"), let lost = try? Self.lost(at: path, files) {
        segments.append(Segment(number: number, bytes: lost.bytes, lines: lost.lines, isLost: true))
      } else if name.hasSuffix(".log"), let file = try? files.open(path), let (bytes, lines) = try? Self.count(file) {
        segments.append(Segment(number: number, bytes: bytes, lines: lines))
      }
    }
    // A crash between the two files of a loss leaves both: the loss is what counts.
    segments.sort { ($0.number, $0.isLost ? 0 : 1) < ($1.number, $1.isLost ? 0 : 1) }
    var known: [Segment] = []
    for segment in segments where known.last?.number != segment.number { known.append(segment) }
    // The first may have been accepted in part: no loss of it could be exact.
    state = Mutex(State(segments: known, read: known.first?.number ?? 0))
  }

  // MARK: Writing

  package func write(_ bytes: ArraySlice<UInt8>) {
    guard !bytes.isEmpty else { return }
    state.withLock { state in
      var rest = bytes
      while !rest.isEmpty {
        // Files end where lines do; a line longer than a file is cut.
        let isFull = state.file != nil && (state.segments.last?.bytes ?? 0) >= segmentSize
        var piece = rest
        if isFull, !state.endsInNewline, (state.segments.last?.bytes ?? 0) < 2 * segmentSize {
          piece = rest.firstIndex(of: 10).map { rest[...$0] } ?? rest
        } else if isFull || state.file == nil {
          begin(&state)
        } else {
          piece = rest.prefix(Int(segmentSize))
        }
        append(piece, &state)
        rest = rest[piece.endIndex...]
      }
    }
  }

  private func append(_ bytes: ArraySlice<UInt8>, _ state: inout State) {
    let lines = Int64(bytes.reduce(0) { $0 + ($1 == 10 ? 1 : 0) })
    do {
      guard let file = state.file else { throw FileError("append to", directory, errno: 0, reason: "no file") }
      try file.append(bytes)
      state.segments[state.segments.count - 1].bytes += Int64(bytes.count)
      state.segments[state.segments.count - 1].lines += lines
    } catch {
      // A full disk, most likely. What was written of it is part of the file; the next file begins anew.
      state.file = nil
      state.unwritten.bytes += Int64(bytes.count)
      state.unwritten.lines += lines
      state.losses.bytes += Int64(bytes.count)
      state.losses.lines += lines
    }
    state.endsInNewline = bytes.last == 10
  }

  private func begin(_ state: inout State) {
    state.file = nil
    makeRoom(&state)
    var number = (state.segments.last?.number ?? state.read) + 1
    do {
      try files.createDirectory(directory, mode: 0o750, owner: nil)
      if state.unwritten != SourceLosses() {
        try leave(state.unwritten, at: number)
        state.segments.append(
          Segment(number: number, bytes: state.unwritten.bytes, lines: state.unwritten.lines, isLost: true))
        state.unwritten = SourceLosses()
        number += 1
      }
      state.file = try files.append(to: path(number))
      state.segments.append(Segment(number: number))
    } catch {
      log.debug("cannot write the spool", ["reason": .string(error.explained)])
    }
  }

  /// Gives up the oldest files that nobody has begun to read, until there is room for another.
  private func makeRoom(_ state: inout State) {
    while state.segments.reduce(0, { $0 + ($1.isLost ? 0 : $1.bytes) }) + segmentSize > limit {
      guard let index = state.segments.firstIndex(where: { !$0.isLost && $0.number > state.read }) else { return }
      var loss = SourceLosses()
      loss.bytes = state.segments[index].bytes
      loss.lines = state.segments[index].lines
      state.losses.bytes += loss.bytes
      state.losses.lines += loss.lines
      do {
        // One loss for all that stand beside each other.
        let before =
          index > 0 && state.segments[index - 1].isLost && state.segments[index - 1].number > state.read
          ? index - 1 : nil
        if let before {
          loss.bytes += state.segments[before].bytes
          loss.lines += state.segments[before].lines
        }
        try leave(loss, at: state.segments[index].number)
        try files.removeFile(path(state.segments[index].number))
        if let before { try files.removeFile(lostPath(state.segments[before].number)) }
        state.segments[index].bytes = loss.bytes
        state.segments[index].lines = loss.lines
        state.segments[index].isLost = true
        if let before { state.segments.remove(at: before) }
      } catch {
        log.debug(
          "cannot make room in the spool", ["reason": .string(error.explained)])
        return
      }
    }
  }

  private func leave(_ loss: SourceLosses, at number: Int64) throws {
    let text = JSONValue.object(["lines": .integer(loss.lines), "bytes": .integer(loss.bytes)]).compactText
    try files.write(lostPath(number), Array(text.utf8), mode: 0o640, owner: nil)
  }

  // MARK: Reading

  /// What stands at a place.
  enum Piece {
    case file(any OpenFile, number: Int64, isLast: Bool)
    case lost(lines: Int64, bytes: Int64, number: Int64)
    /// Everything has been read.
    case nothing
  }

  /// The first file from this number on, which is not given up from now on. Throws `FileError`.
  func piece(from number: Int64) throws -> Piece {
    try state.withLock { state in
      guard let segment = state.segments.first(where: { $0.number >= number }) else { return .nothing }
      state.read = max(state.read, segment.number)
      if segment.isLost { return .lost(lines: segment.lines, bytes: segment.bytes, number: segment.number) }
      guard let file = try files.open(path(segment.number)) else {
        return .lost(lines: segment.lines, bytes: segment.bytes, number: segment.number)
      }
      return .file(
        file, number: segment.number, isLast: segment.number == state.segments.last?.number && state.file != nil)
    }
  }

  /// What is before this place is not needed any more.
  func release(before position: SpoolPosition) {
    state.withLock { state in
      while let first = state.segments.first, first.number < position.segment {
        do { try files.removeFile(first.isLost ? lostPath(first.number) : path(first.number)) } catch { return }
        state.segments.removeFirst()
      }
    }
  }

  /// Bytes behind a place.
  func behind(_ position: SpoolPosition) -> Int64 {
    state.withLock { state in
      state.segments.reduce(0) { sum, segment in
        if segment.isLost || segment.number < position.segment { return sum }
        return sum + segment.bytes - (segment.number == position.segment ? position.offset : 0)
      }
    }
  }

  var losses: SourceLosses { state.withLock { $0.losses } }
  var last: Int64 { state.withLock { $0.segments.last?.number ?? 0 } }

  private func path(_ number: Int64) -> String { "\(directory)/\(Self.name(number)).log" }
  private func lostPath(_ number: Int64) -> String { "\(directory)/\(Self.name(number)).lost" }

  private static func name(_ number: Int64) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, 8 - digits.count)) + digits
  }

  private static func lost(at path: String, _ files: any FileStore) throws -> SourceLosses {
    let value = try JSONValue(parsing: try files.read(path, limit: 4096))
    var losses = SourceLosses()
    losses.lines = value["lines"]?.integer ?? 0
    losses.bytes = value["bytes"]?.integer ?? 0
    return losses
  }

  private static func count(_ file: any OpenFile) throws -> (bytes: Int64, lines: Int64) {
    var offset: Int64 = 0, lines: Int64 = 0
    while true {
      let bytes = try file.read(at: offset, count: 1 << 16)
      if bytes.isEmpty { return (offset, lines) }
      offset += Int64(bytes.count)
      lines += Int64(bytes.reduce(0) { $0 + ($1 == 10 ? 1 : 0) })
    }
  }
}

/// Lines of a spool.
struct SpoolSource: LineSource {
  private let spool: Spool
  private let now: WallClock
  private var position: SpoolPosition
  private var splitter: LineSplitter

  init(_ spool: Spool, mark: Checkpoint?, now: @escaping WallClock) {
    self.spool = spool
    self.now = now
    position = SpoolPosition(segment: 0, offset: 0)
    // A mark beyond what is there is of another queue, whose directory is gone.
    if case .spool(let place)? = mark, place.segment <= spool.last { position = place }
    splitter = LineSplitter(offset: position.offset)
    spool.release(before: position)
  }

  mutating func read(_ count: Int) async throws -> LineChunk {
    while true {
      switch try spool.piece(from: position.segment) {
      case .nothing: return LineChunk()
      case .lost(let lines, let bytes, let number):
        var chunk = splitter.finish()
        chunk.append(Self.notice(lines: lines, bytes: bytes), end: 0, time: now())
        go(to: number + 1, 0)
        let place = position
        chunk.mark = { _, _ in .spool(place) }
        return chunk
      case .file(let file, let number, let isLast):
        if number != position.segment { go(to: number, 0) }
        let bytes = try file.read(at: position.offset, count: count)
        if bytes.isEmpty {
          if isLast { return LineChunk() }
          // Written to its end: what has no newline is a line.
          let last = splitter.finish()
          go(to: number + 1, 0)
          if last.isEmpty { continue }
          return marked(last, position)
        }
        position = SpoolPosition(segment: number, offset: position.offset + Int64(bytes.count))
        let chunk = splitter.feed(bytes)
        if !chunk.isEmpty { return marked(chunk, nil) }
      }
    }
  }

  private mutating func go(to segment: Int64, _ offset: Int64) {
    position = SpoolPosition(segment: segment, offset: offset)
    splitter = LineSplitter(offset: offset)
  }

  private func marked(_ chunk: LineChunk, _ place: SpoolPosition?) -> LineChunk {
    var chunk = chunk
    chunk.mark = { [segment = position.segment] line, _ in
      .spool(place ?? SpoolPosition(segment: segment, offset: line.end))
    }
    return chunk
  }

  /// The event that stands for what is not there.
  static func notice(lines: Int64, bytes: Int64) -> String {
    "consul-bootstrap: \(lines) lines (\(bytes) bytes) of this log were given up here: the queue on disk was full"
  }

  func accepted(_ mark: Checkpoint) { if case .spool(let place) = mark { spool.release(before: place) } }
  func behind() -> Int64? { spool.behind(position) + Int64(splitter.pending) }
  var losses: SourceLosses { spool.losses }
}
