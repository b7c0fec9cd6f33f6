package import Base

/// Lines that a source has read, with their texts in one buffer: a buffer for each line would cost more than all else.
package struct LineChunk: Sendable {
  package struct Line: Sendable, Equatable {
    /// Range of its text in the chunk's `bytes`: UTF-8, without the newline.
    package let text: Range<Int>
    /// Position in the source after the line: an offset, or whatever the source counts.
    package let end: Int64
    /// Known by the source; nil: to be found in the text.
    package var time: Timestamp?

    package init(text: Range<Int>, end: Int64, time: Timestamp? = nil) {
      self.text = text
      self.end = end
      self.time = time
    }
  }

  package var bytes: [UInt8] = []
  package var lines: [Line] = []
  /// Position of the first of `bytes` in the source, and how many bytes are the source's own: repaired text follows
  /// them.
  package var base: Int64 = 0
  package var ownCount = 0
  /// Creates the checkpoint after a line of this chunk, which is saved once CloudWatch Logs has acknowledged the line.
  /// It returns nil where resuming there would skip lines that were read before, or where no such position exists.
  package var makeCheckpoint: (@Sendable (_ line: Line, _ chunk: LineChunk) -> Checkpoint?)?

  package init() {}

  package var isEmpty: Bool { lines.isEmpty }

  package func checkpoint(after line: Line) -> Checkpoint? { makeCheckpoint?(line, self) }

  /// Appends a text that is not in the buffer yet.
  package mutating func append(_ text: String, end: Int64, time: Timestamp? = nil) {
    let start = bytes.count
    bytes += text.utf8
    lines.append(Line(text: start..<bytes.count, end: end, time: time))
  }

  package func text(_ line: Line) -> String { String(decoding: bytes[line.text], as: UTF8.self) }
  package var texts: [String] { lines.map(text) }
}
