internal import Base

/// Makes one event of the lines that belong together: each record begins with a line in which the pattern is found.
struct RecordJoiner {
  private let start: any TextPattern
  private let limit: Int
  private var text: [UInt8] = []
  private var time: Timestamp?
  /// Of its last line; nil if there is no record.
  private var last: (line: LineChunk.Line, mark: (@Sendable (LineChunk.Line) throws -> SourceMark?)?)?
  /// What goes on with a record that was too long.
  private var isContinuation = false

  init(start: any TextPattern, limit: Int = LineSplitter.longestEvent) {
    self.start = start
    self.limit = limit
  }

  /// Something waits for its next line.
  var isPending: Bool { last != nil }

  /// The records that these lines complete. The place behind a record is the one behind its last line.
  mutating func feed(_ chunk: LineChunk) -> LineChunk {
    var records = Records()
    for line in chunk.lines {
      let bytes = chunk.bytes[line.text]
      if isPending, start.isFound(in: bytes) {
        complete(&records)
      } else if isPending, text.count + 1 + bytes.count > limit - LineSplitter.cutMark.utf8.count {
        text += LineSplitter.cutMark.utf8
        complete(&records)
        isContinuation = true
      }
      if isPending {
        text.append(10)
      } else {
        time = line.time
        if isContinuation { text += LineSplitter.continuationMark.utf8 }
        isContinuation = false
      }
      text += bytes
      last = (line, chunk.mark)
    }
    return records.chunk
  }

  /// What there is, when its next line does not come.
  mutating func flush() -> LineChunk {
    var records = Records()
    complete(&records)
    return records.chunk
  }

  /// Records with the marks of chunks that are gone.
  private struct Records {
    var bytes = LineChunk()
    var marks: [(line: LineChunk.Line, mark: (@Sendable (LineChunk.Line) throws -> SourceMark?)?)] = []

    var chunk: LineChunk {
      var chunk = bytes
      chunk.mark = { [marks] record in try marks[Int(record.end)].mark?(marks[Int(record.end)].line) }
      return chunk
    }
  }

  private mutating func complete(_ records: inout Records) {
    guard let last else { return }
    let begin = records.bytes.bytes.count
    records.bytes.bytes += text
    records.bytes.lines.append(.init(text: begin..<records.bytes.bytes.count, end: Int64(records.marks.count), time: time))
    records.marks.append(last)
    text.removeAll(keepingCapacity: true)
    self.last = nil
  }
}
