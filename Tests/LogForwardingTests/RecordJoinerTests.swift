import Base
import Foundation
import Host
import Testing

@testable import LogForwarding

@Suite struct RecordJoinerTests {
  private func joined(_ lines: [String], _ pattern: String, limit: Int = 1000, pieces: Int = 1) throws -> [String] {
    var splitter = LineSplitter()
    var joiner = RecordJoiner(start: try #require(PosixPattern(pattern)), limit: limit)
    var records: [String] = []
    for line in lines { records += joiner.feed(splitter.feed(Array((line + "\n").utf8))).texts }
    #expect(joiner.isPending == !lines.isEmpty)
    return records + joiner.flush().texts
  }

  @Test func `lines belong to the record that began before them`() throws {
    #expect(
      try joined(["2026 a", "  b", "c", "2026 d", "2026 e"], "^[0-9]{4} ") == ["2026 a\n  b\nc", "2026 d", "2026 e"])
    // By indentation; what comes before the first record is one.
    #expect(try joined([" x", "a", "\tb", "", "c"], "^[^[:blank:]]") == [" x", "a\n\tb\n", "c"])
    #expect(try joined([], "x") == [])
  }

  @Test
  func
    `a record that is too long continues in another, and the checkpoint after a record is the one after its last line`()
    throws
  {
    let records = try joined(
      ["start " + String(repeating: "x", count: 80), String(repeating: "y", count: 80), "start z"], "^start", limit: 120
    )
    #expect(
      records.count == 3 && records[0].hasSuffix(LineSplitter.cutMark)
        && records[1].hasPrefix(LineSplitter.continuationMark))
    var splitter = LineSplitter()
    var joiner = RecordJoiner(start: try #require(PosixPattern("^a")))
    var chunk = splitter.feed(Array("a1\n b\na2\n c\n".utf8))
    chunk.makeCheckpoint = { line, _ in .cursor("\(line.end)") }
    let found = joiner.feed(chunk)
    #expect(found.texts == ["a1\n b"])
    #expect(found.checkpoint(after: found.lines[0]) == .cursor("6"))
    let last = joiner.flush()
    #expect(last.texts == ["a2\n c"])
    #expect(last.checkpoint(after: last.lines[0]) == .cursor("12"))
  }

  @Test func `patterns that are none are refused`() {
    for text in ["(", "[", "a{2,1}", "*\\"] { #expect(PosixPattern(text) == nil, "\(text)") }
  }
}
