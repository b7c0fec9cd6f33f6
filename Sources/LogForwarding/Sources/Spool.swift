package import Base
internal import Synchronization

/// A position in a spool.
package struct SpoolPosition: Sendable, Equatable {
  package let segment: Int64
  package let offset: Int64

  package init(segment: Int64, offset: Int64) {
    self.segment = segment
    self.offset = offset
  }
}

/// A child's output, kept on disk until CloudWatch Logs has acknowledged it: a bounded queue of segments, `00000001.log`
/// and so on. The child never waits for the service: if the queue is full, its oldest unread segment is dropped.
///
/// A dropped segment leaves `00000001.lost` in its place, which records how much it held. So the loss is exact and is
/// reported where it happened, also after a crash.
package final class Spool: OutputSink {
  private struct Segment {
    let number: Int64
    var bytes: Int64 = 0
    var lines: Int64 = 0
    /// A `.lost` file stands for it: the loss is reported, not read.
    var isLost = false
  }

  private struct State {
    /// The oldest first; the last one is being written.
    var segments: [Segment] = []
    var file: (any AppendFile)?
    var endsInNewline = true
    /// The segment that is being read, which is never dropped.
    var reading: Int64 = 0
    /// Could not be written: recorded with the next segment.
    var unwritten = SourceLosses()
    var losses = SourceLosses()
  }

  private let directory: String
  private let limit: Int64
  private let files: any FileStore
  private let log: Logger
  private let state: Mutex<State>

  /// What is dropped at a time, and what is read again at most after a crash.
  private let segmentSize: Int64

  /// Continues the queue that an earlier run left.
  /// - Parameter limit: of all its segments together, in bytes.
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
    // The first may have been acknowledged in part: a loss of it would not be exact.
    state = Mutex(State(segments: known, reading: known.first?.number ?? 0))
  }

  // MARK: Writing

  package func write(_ bytes: ArraySlice<UInt8>) {
    guard !bytes.isEmpty else { return }
    state.withLock { state in
      var rest = bytes
      while !rest.isEmpty {
        // Segments end where lines do; a line longer than a segment is cut.
        let isFull = state.file != nil && (state.segments.last?.bytes ?? 0) >= segmentSize
        var piece = rest
        if isFull, !state.endsInNewline, (state.segments.last?.bytes ?? 0) < 2 * segmentSize {
          piece = rest.firstIndex(of: 10).map { rest[...$0] } ?? rest
        } else if isFull || state.file == nil {
          beginSegment(&state)
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
      // Most likely a full disk. A part may have been written; the next write begins another segment.
      state.file = nil
      state.unwritten.bytes += Int64(bytes.count)
      state.unwritten.lines += lines
      state.losses.bytes += Int64(bytes.count)
      state.losses.lines += lines
    }
    state.endsInNewline = bytes.last == 10
  }

  private func beginSegment(_ state: inout State) {
    state.file = nil
    makeRoom(&state)
    var number = (state.segments.last?.number ?? state.reading) + 1
    do {
      try files.createDirectory(directory, mode: 0o750, owner: nil)
      if state.unwritten != SourceLosses() {
        try recordLoss(state.unwritten, at: number)
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

  /// Drops the oldest unread segments until there is room for another.
  private func makeRoom(_ state: inout State) {
    while state.segments.reduce(0, { $0 + ($1.isLost ? 0 : $1.bytes) }) + segmentSize > limit {
      guard let index = state.segments.firstIndex(where: { !$0.isLost && $0.number > state.reading }) else { return }
      var loss = SourceLosses()
      loss.bytes = state.segments[index].bytes
      loss.lines = state.segments[index].lines
      state.losses.bytes += loss.bytes
      state.losses.lines += loss.lines
      do {
        // One record for adjacent losses.
        let before =
          index > 0 && state.segments[index - 1].isLost && state.segments[index - 1].number > state.reading
          ? index - 1 : nil
        if let before {
          loss.bytes += state.segments[before].bytes
          loss.lines += state.segments[before].lines
        }
        try recordLoss(loss, at: state.segments[index].number)
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

  private func recordLoss(_ loss: SourceLosses, at number: Int64) throws {
    let text = JSONValue.object(["lines": .integer(loss.lines), "bytes": .integer(loss.bytes)]).compactText
    try files.write(lostPath(number), Array(text.utf8), mode: 0o640, owner: nil)
  }

  // MARK: Reading

  /// What is read at a position.
  enum ReadableSegment {
    case file(any OpenFile, number: Int64, isLast: Bool)
    case lost(lines: Int64, bytes: Int64, number: Int64)
    /// All segments have been read.
    case nothing
  }

  /// The first segment from this number on, which is not dropped from now on. Throws `FileError`.
  func segment(from number: Int64) throws -> ReadableSegment {
    try state.withLock { state in
      guard let segment = state.segments.first(where: { $0.number >= number }) else { return .nothing }
      state.reading = max(state.reading, segment.number)
      if segment.isLost { return .lost(lines: segment.lines, bytes: segment.bytes, number: segment.number) }
      guard let file = try files.open(path(segment.number)) else {
        return .lost(lines: segment.lines, bytes: segment.bytes, number: segment.number)
      }
      return .file(
        file, number: segment.number, isLast: segment.number == state.segments.last?.number && state.file != nil)
    }
  }

  /// Removes the segments before a position: they are acknowledged.
  func release(before position: SpoolPosition) {
    state.withLock { state in
      while let first = state.segments.first, first.number < position.segment {
        do { try files.removeFile(first.isLost ? lostPath(first.number) : path(first.number)) } catch { return }
        state.segments.removeFirst()
      }
    }
  }

  /// Bytes that are written after a position.
  func unreadBytes(after position: SpoolPosition) -> Int64 {
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
