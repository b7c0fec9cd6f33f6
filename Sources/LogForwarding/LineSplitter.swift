/// Cuts a stream of bytes into lines. Pure: whoever feeds it knows where the bytes came from.
///
/// - A line ends with `\n` or `\r\n`; bytes that are no UTF-8 become U+FFFD.
/// - A line longer than an event may be is cut at a character's boundary, and its parts say so; nothing is dropped.
package struct LineSplitter: Sendable {
  /// A line, or a part of a long one.
  package struct Line: Sendable, Equatable {
    package let text: String
    /// Bytes of the stream up to its end, its newline included.
    package let end: Int

    package init(text: String, end: Int) {
      self.text = text
      self.end = end
    }
  }

  /// CloudWatch Logs takes events of 1 MB now and took 256 KB before (API reference, PutLogEvents): this fits both, with the
  /// 26 bytes that each event counts beside its text.
  package static let longestEvent = 262_144 - 26
  /// Stands at the end of every part of a cut line but its last.
  package static let cutMark = " …(cut)"
  /// Stands at the start of every part of a cut line but its first.
  package static let continuationMark = "(continued)… "

  private let limit: Int
  private var rest: [UInt8] = []
  /// Bytes before `rest`.
  private var consumed: Int
  private var isContinuation = false

  /// - Parameters:
  ///   - offset: of the first byte to come.
  ///   - limit: of an event's text, in bytes of UTF-8; at least 64.
  package init(offset: Int = 0, limit: Int = longestEvent) {
    precondition(limit >= 64)
    self.limit = limit
    consumed = offset
  }

  /// Bytes that are no line yet.
  package var pending: Int { rest.count }

  /// The lines that these bytes complete.
  package mutating func feed(_ bytes: some Collection<UInt8>) -> [Line] {
    rest += bytes
    var lines: [Line] = []
    var start = 0
    while start < rest.count {
      let window = rest[start..<min(rest.count, start + longestPart + 1)]
      if let newline = window.firstIndex(of: 10) {
        lines.append(line(rest[start..<newline], next: newline + 1))
        start = newline + 1
      } else if window.count > longestPart {
        let cut = boundary(in: rest[start..<start + longestPart])
        lines.append(part(rest[start..<cut], next: cut))
        start = cut
      } else {
        break
      }
    }
    consumed += start
    rest.removeFirst(start)
    return lines
  }

  /// What is there without a newline, when no more will come; nil if nothing is.
  package mutating func finish() -> Line? {
    guard !rest.isEmpty else { return nil }
    defer {
      consumed += rest.count
      rest = []
    }
    return line(rest[...], next: rest.count)
  }

  /// Room for both marks. U+FFFD takes three bytes where one stood: a part is counted as if all of it were replaced only if
  /// it turns out to be longer than an event.
  private var longestPart: Int { (limit - Self.cutMark.utf8.count - Self.continuationMark.utf8.count) / 3 }

  private mutating func line(_ bytes: ArraySlice<UInt8>, next: Int) -> Line {
    let text = String(decoding: bytes.last == 13 ? bytes.dropLast() : bytes, as: UTF8.self)
    defer { isContinuation = false }
    return Line(text: isContinuation ? Self.continuationMark + text : text, end: consumed + next)
  }

  private mutating func part(_ bytes: ArraySlice<UInt8>, next: Int) -> Line {
    let text = String(decoding: bytes, as: UTF8.self) + Self.cutMark
    defer { isContinuation = true }
    return Line(text: isContinuation ? Self.continuationMark + text : text, end: consumed + next)
  }

  /// The end of the last whole character, at most three bytes before the end; the end itself where there is none.
  private func boundary(in bytes: ArraySlice<UInt8>) -> Int {
    for back in 1...4 where bytes.count > back {
      let lead = bytes[bytes.endIndex - back]
      if lead & 0xC0 == 0x80 { continue }
      let length = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1
      return length > back ? bytes.endIndex - back : bytes.endIndex
    }
    return bytes.endIndex
  }
}
