internal import Base

/// Cuts a stream of bytes into lines. Pure: the caller knows where the bytes come from.
///
/// - A line ends with `\n` or `\r\n`; bytes that are not UTF-8 become U+FFFD.
/// - A line longer than an event may be is cut at a character's boundary; its parts are marked, and nothing is dropped.
package struct LineSplitter: Sendable {
  /// CloudWatch Logs accepts events of 1 MB now and accepted 256 KB before (API reference, PutLogEvents). This fits
  /// both, with the 26 bytes that each event counts beside its text.
  package static let longestEvent = 262_144 - 26
  /// Ends every part of a cut line except its last.
  package static let cutMark = " …(cut)"
  /// Starts every part of a cut line except its first.
  package static let continuationMark = "(continued)… "

  private let limit: Int
  private var rest: [UInt8] = []
  /// Bytes before `rest`.
  private var consumed: Int64
  private var isContinuation = false
  /// Bytes of `rest` that contain no newline.
  private var searched = 0

  /// - Parameters:
  ///   - offset: of the first byte that is fed.
  ///   - limit: of an event's text, in bytes of UTF-8; at least 64.
  package init(offset: Int64 = 0, limit: Int = longestEvent) {
    precondition(limit >= 64)
    self.limit = limit
    consumed = offset
  }

  /// Bytes of the line that is not complete yet.
  package var pending: Int { rest.count }

  /// The lines that these bytes complete; their ends count the bytes of the stream.
  package mutating func feed(_ bytes: [UInt8]) -> LineChunk {
    var chunk = LineChunk()
    // Most chunks begin with a line: they need no copy.
    chunk.bytes = rest.isEmpty ? bytes : rest + bytes
    let count = chunk.bytes.count
    chunk.base = consumed
    chunk.ownCount = count
    let isASCII = Self.isASCII(chunk.bytes, from: 0)
    chunk.lines.reserveCapacity(count / 128)
    var start = 0
    var from = searched
    while start < count {
      let reach = min(count, start + longestPart + 1)
      if let newline = Self.newline(chunk.bytes, max(start, from)..<reach) {
        append(start..<newline, next: newline + 1, isASCII, &chunk)
        start = newline + 1
      } else if reach - start > longestPart {
        let cut = boundary(in: chunk.bytes[start..<start + longestPart])
        appendPart(start..<cut, &chunk)
        start = cut
      } else {
        break
      }
      from = 0
    }
    rest = start < count ? Array(chunk.bytes[start..<count]) : []
    searched = rest.count
    consumed += Int64(start)
    return chunk
  }

  /// The bytes after the last newline as a line, when no more will follow; no line if there are none.
  package mutating func finish() -> LineChunk {
    var chunk = LineChunk()
    guard !rest.isEmpty else { return chunk }
    chunk.bytes = rest
    append(0..<rest.count, next: rest.count, false, &chunk)
    consumed += Int64(rest.count)
    rest = []
    searched = 0
    return chunk
  }

  /// Leaves room for both marks. U+FFFD replaces one byte by three: a part is counted as if all of it were replaced.
  private var longestPart: Int { (limit - Self.cutMark.utf8.count - Self.continuationMark.utf8.count) / 3 }

  private mutating func append(_ range: Range<Int>, next: Int, _ isASCII: Bool, _ chunk: inout LineChunk) {
    let hasReturn = !range.isEmpty && chunk.bytes[range.upperBound - 1] == 13
    let text = range.lowerBound..<range.upperBound - (hasReturn ? 1 : 0)
    let end = consumed + Int64(next)
    if isContinuation {
      chunk.append(Self.continuationMark + String(decoding: chunk.bytes[text], as: UTF8.self), end: end)
    } else if isASCII {
      chunk.lines.append(.init(text: text, end: end))
    } else {
      let repaired = String(decoding: chunk.bytes[text], as: UTF8.self)
      if repaired.utf8.elementsEqual(chunk.bytes[text]) {
        chunk.lines.append(.init(text: text, end: end))
      } else {
        chunk.append(repaired, end: end)
      }
    }
    isContinuation = false
  }

  private mutating func appendPart(_ range: Range<Int>, _ chunk: inout LineChunk) {
    let text = String(decoding: chunk.bytes[range], as: UTF8.self) + Self.cutMark
    chunk.append(isContinuation ? Self.continuationMark + text : text, end: consumed + Int64(range.upperBound))
    isContinuation = true
  }

  private static func newline(_ bytes: [UInt8], _ range: Range<Int>) -> Int? {
    bytes.withUnsafeBufferPointer { EightBytes.firstIndex(of: 10, in: $0, range) }
  }

  static func isASCII(_ bytes: [UInt8], from start: Int) -> Bool {
    bytes.withUnsafeBufferPointer { bytes in
      var all: UInt8 = 0
      for byte in bytes[start...] { all |= byte }
      return all < 0x80
    }
  }

  /// The end of the last whole character, at most three bytes before the end; the end itself if there is none.
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
