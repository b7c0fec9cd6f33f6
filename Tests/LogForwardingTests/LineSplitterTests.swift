import Base
import Foundation
import Host
import TestSupport
import Testing

@testable import LogForwarding

@Suite struct LineSplitterTests {
  private func lines(_ chunks: [String], limit: Int = 1000) -> [String] {
    var splitter = LineSplitter(limit: limit)
    return chunks.flatMap { splitter.feed(Array($0.utf8)).texts } + splitter.finish().texts
  }

  @Test func `lines end with either newline, may be empty, and need none at the end`() {
    #expect(lines(["a\nb\r\n\n", "c", "d\n", "e"]) == ["a", "b", "", "cd", "e"])
    #expect(lines(["a\r", "\nb"]) == ["a", "b"])
    #expect(lines([]) == [])
  }

  @Test func `bytes that are not text are replaced`() {
    var splitter = LineSplitter()
    #expect(splitter.feed([0x61, 0xFF, 0xC3, 0x28, 10]).texts == ["a\u{FFFD}\u{FFFD}("])
  }

  @Test func `a long line is cut at a character and its parts say so`() {
    let line = String(repeating: "é€😀", count: 40)
    let parts = lines([line + "\nnext\n"], limit: 120)
    #expect(parts.last == "next" && parts.count > 3)
    #expect(parts.dropLast().allSatisfy { $0.utf8.count <= 120 })
    let joined = parts.dropLast().map {
      $0.replacing(LineSplitter.cutMark, with: "").replacing(LineSplitter.continuationMark, with: "")
    }.joined()
    #expect(joined == line)
    #expect(parts[0].hasSuffix(LineSplitter.cutMark) && parts[1].hasPrefix(LineSplitter.continuationMark))
  }

  private struct Part: Equatable {
    let text: String
    let end: Int64
  }

  private static func parts(_ chunk: LineChunk) -> [Part] {
    chunk.lines.map { Part(text: chunk.text($0), end: $0.end) }
  }

  /// Whatever the bytes, and however they arrive: the same lines, ends that grow to the length of the whole, no part
  /// too long.
  @Test func `random bytes in random pieces`() {
    var generator = SeededGenerator.fromEnvironment()
    for _ in 0..<100 {
      let alphabet: [UInt8] = [10, 13, 65, 66, 0xC3, 0xA9, 0xF0, 0x9F, 0x98, 0x80, 0xFF]
      let bytes = (0..<Int.random(in: 0...2000, using: &generator)).map { _ in
        alphabet.randomElement(using: &generator)!
      }
      var whole = LineSplitter(limit: 100), pieces = LineSplitter(limit: 100)
      var expected = Self.parts(whole.feed(bytes)), found: [Part] = []
      var rest = bytes[...]
      while !rest.isEmpty {
        let count = Int.random(in: 1...min(50, rest.count), using: &generator)
        found += Self.parts(pieces.feed(Array(rest.prefix(count))))
        rest = rest.dropFirst(count)
      }
      expected += Self.parts(whole.finish())
      found += Self.parts(pieces.finish())
      #expect(found == expected)
      #expect(expected.last?.end ?? 0 == Int64(bytes.count))
      #expect(
        zip(expected, expected.dropFirst()).allSatisfy { $0.end < $1.end }
          && expected.allSatisfy { $0.text.utf8.count <= 100 })
    }
  }
}
