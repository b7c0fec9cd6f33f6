internal import Base

/// Joins the lines of a record to one event: a record begins with a line that contains the pattern.
struct RecordJoiner {
  private let start: any TextPattern
  private let limit: Int
  private var text: [UInt8] = []
  private var time: Timestamp?
  /// Whether a record is incomplete, and the checkpoint after its last line.
  private(set) var isPending = false
  private var last: Checkpoint?
  /// The next record continues one that was too long.
  private var isContinuation = false

  init(start: any TextPattern, limit: Int = LineSplitter.longestEvent) {
    self.start = start
    self.limit = limit
  }

  /// The records that these lines complete. The checkpoint after a record is the one after its last line.
  mutating func feed(_ chunk: LineChunk) -> LineChunk {
    var records = Records()
    var previous: LineChunk.Line?
    for line in chunk.lines {
      let bytes = chunk.bytes[line.text]
      let begins = isPending && start.isFound(in: bytes)
      let isTooLong = isPending && !begins && text.count + 1 + bytes.count > limit - LineSplitter.cutMark.utf8.count
      if begins || isTooLong {
        if let previous { last = chunk.checkpoint(after: previous) }
        if isTooLong { text += LineSplitter.cutMark.utf8 }
        complete(&records)
        isContinuation = isTooLong
      }
      if isPending {
        text.append(10)
      } else {
        time = line.time
        if isContinuation { text += LineSplitter.continuationMark.utf8 }
        isContinuation = false
      }
      text += bytes
      isPending = true
      previous = line
    }
    if let previous { last = chunk.checkpoint(after: previous) }
    return records.chunk
  }

  /// The incomplete record, if its next line does not arrive in time.
  mutating func flush() -> LineChunk {
    var records = Records()
    complete(&records)
    return records.chunk
  }

  /// Records, and the checkpoints after them.
  private struct Records {
    var lines = LineChunk()
    var checkpoints: [Checkpoint?] = []

    var chunk: LineChunk {
      var chunk = lines
      chunk.makeCheckpoint = { [checkpoints] record, _ in checkpoints[Int(record.end)] }
      return chunk
    }
  }

  private mutating func complete(_ records: inout Records) {
    guard isPending else { return }
    let begin = records.lines.bytes.count
    records.lines.bytes += text
    records.lines.lines.append(
      .init(text: begin..<records.lines.bytes.count, end: Int64(records.checkpoints.count), time: time))
    records.checkpoints.append(last)
    text.removeAll(keepingCapacity: true)
    isPending = false
    last = nil
  }
}
