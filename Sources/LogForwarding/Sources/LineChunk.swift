package import Base

/// Lines that a source has read, with their texts in one buffer: a line of its own memory each would cost more than all else.
package struct LineChunk: Sendable {
  package struct Line: Sendable, Equatable {
    /// Where its text lies in the chunk's `bytes`: UTF-8, without the newline.
    package let text: Range<Int>
    /// Where the source goes on behind it: an offset, or whatever the source counts.
    package let end: Int64
    /// As the source knows it; nil: to be found in the text.
    package var time: Timestamp?

    package init(text: Range<Int>, end: Int64, time: Timestamp? = nil) {
      self.text = text
      self.end = end
      self.time = time
    }
  }

  package var bytes: [UInt8] = []
  package var lines: [Line] = []
  /// Where the first of `bytes` stands in the source, and how many of them are the source's own: what was mended follows them.
  package var base: Int64 = 0
  package var ownCount = 0
  /// The place behind a line of this chunk, to be kept once the line has been accepted. Nil where going on from there would
  /// leave out what was read before, or where there is no such place.
  package var mark: (@Sendable (_ line: Line, _ chunk: LineChunk) -> Checkpoint?)?

  package init() {}

  package var isEmpty: Bool { lines.isEmpty }

  package func place(behind line: Line) -> Checkpoint? { mark?(line, self) }

  /// Appends a text that is not in the buffer yet.
  package mutating func append(_ text: String, end: Int64, time: Timestamp? = nil) {
    let start = bytes.count
    bytes += text.utf8
    lines.append(Line(text: start..<bytes.count, end: end, time: time))
  }

  package func text(_ line: Line) -> String { String(decoding: bytes[line.text], as: UTF8.self) }
  package var texts: [String] { lines.map(text) }
}
