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

/// A child's output, kept on disk until CloudWatch Logs has acknowledged it: a bounded queue of segments,
/// `00000001.log` and so on. The child never waits for the service: if the queue is full, its oldest unread segment is
/// dropped.
///
/// A dropped segment leaves `00000001.lost` in its place, which records how much it held. So the loss is exact and is
/// reported where it happened, also after a crash.
package final class Spool: OutputSink {
  private struct State {
    /// The oldest first; the last one is being written.
    var segments: [SpoolSegment] = []
    /// Whether `segments` holds what an earlier run left.
    var isLoaded = false
    var file: (any AppendFile)?
    var endsInNewline = true
    /// The segment that is being read, which is never dropped.
    var reading: Int64 = 0
    /// Could not be written: recorded with the next segment.
    var unwritten = SourceLosses()
    var losses = SourceLosses()
    /// Logged, and not resolved yet.
    var problems: Set<Problem> = []

    var last: SpoolSegment? { segments.last }
  }

  private enum Problem: String {
    case load = "cannot read the log queue; output is dropped until it can"
    case write = "cannot write the log queue; output is dropped until it can"
    case makeRoom = "cannot drop old segments of the log queue"
    case release = "cannot remove acknowledged segments of the log queue"
  }

  private let directory: SpoolDirectory
  private let limit: Int64
  private let log: Logger
  private let state = Mutex(State())

  /// What is dropped at a time, and what is read again at most after a crash.
  private let segmentSize: Int64

  /// Continues the queue that an earlier run left.
  /// - Parameter limit: of all its segments together, in bytes.
  package init(directory: String, limit: Int64, files: any FileStore, log: Logger) {
    self.directory = SpoolDirectory(path: directory, files: files, log: log)
    self.limit = limit
    self.log = log
    segmentSize = max(4096, min(1 << 20, limit / 16))
    state.withLock { state in
      do { try load(&state) } catch { report(.load, error, &state) }
    }
  }

  /// Does nothing once it has succeeded. Until then numbers of segments are unknown, and nothing may be written.
  private func load(_ state: inout State) throws {
    guard !state.isLoaded else { return }
    state.segments = try directory.load()
    // The first may have been acknowledged in part: a loss of it would not be exact.
    state.reading = state.segments.first?.number ?? 0
    state.isLoaded = true
    resolve(.load, &state)
  }

  // MARK: Writing

  package func write(_ bytes: ArraySlice<UInt8>) {
    guard !bytes.isEmpty else { return }
    state.withLock { state in
      var rest = bytes
      while !rest.isEmpty {
        // Segments end where lines do; a line longer than a segment is cut.
        let isFull = state.file != nil && (state.last?.bytes ?? 0) >= segmentSize
        var piece = rest
        if isFull, !state.endsInNewline, (state.last?.bytes ?? 0) < 2 * segmentSize {
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
    var count = SourceLosses()
    count.lines = Int64(bytes.reduce(0) { $0 + ($1 == 10 ? 1 : 0) })
    count.bytes = Int64(bytes.count)
    do {
      if let file = state.file {
        try file.append(bytes)
        state.segments[state.segments.count - 1].bytes += count.bytes
        state.segments[state.segments.count - 1].lines += count.lines
      } else {
        state.unwritten.add(count)
        state.losses.add(count)
      }
    } catch {
      // Most likely a full disk. A part may have been written; the next write begins another segment.
      report(.write, error, &state)
      state.file = nil
      state.unwritten.add(count)
      state.losses.add(count)
    }
    state.endsInNewline = bytes.last == 10
  }

  private func beginSegment(_ state: inout State) {
    state.file = nil
    do {
      try load(&state)
    } catch {
      return report(.load, error, &state)
    }
    makeRoom(&state)
    var number = (state.last?.number ?? state.reading) + 1
    do {
      try directory.create()
      if state.unwritten != SourceLosses() {
        // One record for adjacent losses.
        let before = state.last.flatMap { $0.isLost && $0.number > state.reading ? $0 : nil }
        if let before { number = before.number }
        let loss = SpoolSegment(number: number, losses: (before?.losses ?? SourceLosses()).adding(state.unwritten))
        try directory.recordLoss(loss)
        if before != nil { state.segments.removeLast() }
        state.segments.append(loss)
        state.unwritten = SourceLosses()
        number += 1
      }
      state.file = try directory.append(number)
      state.segments.append(SpoolSegment(number: number))
      resolve(.write, &state)
    } catch {
      report(.write, error, &state)
    }
  }

  /// Drops the oldest unread segments until there is room for another.
  private func makeRoom(_ state: inout State) {
    while state.segments.reduce(segmentSize, { $0.saturatingAdding($1.isLost ? 0 : $1.bytes) }) > limit {
      guard let index = state.segments.firstIndex(where: { !$0.isLost && $0.number > state.reading }) else { return }
      let dropped = state.segments[index]
      do {
        // One record for adjacent losses.
        let before =
          index > 0 && state.segments[index - 1].isLost && state.segments[index - 1].number > state.reading
          ? index - 1 : nil
        let loss = SpoolSegment(
          number: dropped.number,
          losses: (before.map { state.segments[$0].losses } ?? SourceLosses()).adding(dropped.losses))
        try directory.recordLoss(loss)
        try directory.remove(dropped)
        if let before { try directory.remove(state.segments[before]) }
        state.segments[index] = loss
        if let before { state.segments.remove(at: before) }
        state.losses.add(dropped.losses)
        resolve(.makeRoom, &state)
      } catch {
        return report(.makeRoom, error, &state)
      }
    }
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
      try load(&state)
      guard let segment = state.segments.first(where: { $0.number >= number }) else { return .nothing }
      state.reading = max(state.reading, segment.number)
      let lost = ReadableSegment.lost(lines: segment.lines, bytes: segment.bytes, number: segment.number)
      guard !segment.isLost, let file = try directory.open(segment) else { return lost }
      return .file(
        file, number: segment.number, isLast: segment.number == state.last?.number && state.file != nil)
    }
  }

  /// Removes the segments before a position: they are acknowledged.
  func release(before position: SpoolPosition) {
    state.withLock { state in
      while let first = state.segments.first, first.number < position.segment {
        do {
          try directory.remove(first)
        } catch {
          return report(.release, error, &state)
        }
        state.segments.removeFirst()
        resolve(.release, &state)
      }
    }
  }

  /// Whether the position can be one of this queue; if not, it belongs to a queue whose directory was removed.
  func contains(_ position: SpoolPosition) -> Bool {
    state.withLock { state in
      guard state.isLoaded else { return true }
      guard position.segment <= state.last?.number ?? 0 else { return false }
      let segment = state.segments.first { $0.number == position.segment && !$0.isLost }
      return segment.map { position.offset <= $0.bytes } ?? true
    }
  }

  /// Bytes that are written after a position.
  func unreadBytes(after position: SpoolPosition) -> Int64 {
    state.withLock { state in
      state.segments.reduce(0) { sum, segment in
        if segment.isLost || segment.number < position.segment { return sum }
        let read = segment.number == position.segment ? position.offset : 0
        return sum.saturatingAdding(max(0, segment.bytes - read))
      }
    }
  }

  var losses: SourceLosses { state.withLock { $0.losses } }

  // MARK: Problems

  /// Logs a problem once, until it is resolved.
  private func report(_ problem: Problem, _ error: any Error, _ state: inout State) {
    guard state.problems.insert(problem).inserted else { return }
    log.warning(problem.rawValue, ["reason": .string(error.explained)])
  }

  private func resolve(_ problem: Problem, _ state: inout State) {
    guard state.problems.remove(problem) != nil else { return }
    log.info("the log queue works again", ["resolved": .string(problem.rawValue)])
  }
}
