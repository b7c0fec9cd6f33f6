internal import Base

/// Makes one event of the lines that belong together: each record begins with a line in which the pattern is found.
struct RecordJoiner {
  private let start: any TextPattern
  private let limit: Int
  private var text: [UInt8] = []
  private var time: Timestamp?
  /// There is a record, and the place behind its last line.
  private(set) var isPending = false
  private var last: Checkpoint?
  /// What goes on with a record that was too long.
  private var isContinuation = false

  init(start: any TextPattern, limit: Int = LineSplitter.longestEvent) {
    self.start = start
    self.limit = limit
  }

  /// The records that these lines complete. The place behind a record is the one behind its last line.
  mutating func feed(_ chunk: LineChunk) -> LineChunk {
    var records = Records()
    var previous: LineChunk.Line?
    for line in chunk.lines {
      let bytes = chunk.bytes[line.text]
      let begins = isPending && start.isFound(in: bytes)
      let isTooLong = isPending && !begins && text.count + 1 + bytes.count > limit - LineSplitter.cutMark.utf8.count
      if begins || isTooLong {
        if let previous { last = chunk.place(behind: previous) }
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
    if let previous { last = chunk.place(behind: previous) }
    return records.chunk
  }

  /// What there is, when its next line does not come.
  mutating func flush() -> LineChunk {
    var records = Records()
    complete(&records)
    return records.chunk
  }

  /// Records, and the places behind them.
  private struct Records {
    var lines = LineChunk()
    var marks: [Checkpoint?] = []

    var chunk: LineChunk {
      var chunk = lines
      chunk.mark = { [marks] record, _ in marks[Int(record.end)] }
      return chunk
    }
  }

  private mutating func complete(_ records: inout Records) {
    guard isPending else { return }
    let begin = records.lines.bytes.count
    records.lines.bytes += text
    records.lines.lines.append(
      .init(text: begin..<records.lines.bytes.count, end: Int64(records.marks.count), time: time))
    records.marks.append(last)
    text.removeAll(keepingCapacity: true)
    isPending = false
    last = nil
  }
}
