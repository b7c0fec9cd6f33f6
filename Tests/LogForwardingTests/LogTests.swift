import Base
import Foundation
import Host
import Testing

@testable import LogForwarding

@Suite struct LineSplitterTests {
  private func lines(_ chunks: [String], limit: Int = 1000) -> [String] {
    var splitter = LineSplitter(limit: limit)
    return chunks.flatMap { splitter.feed(Array($0.utf8)) }.map(\.text) + [splitter.finish()?.text].compactMap { $0 }
  }

  @Test func `lines end with either newline, may be empty, and need none at the end`() {
    #expect(lines(["a\nb\r\n\n", "c", "d\n", "e"]) == ["a", "b", "", "cd", "e"])
    #expect(lines(["a\r", "\nb"]) == ["a", "b"])
    #expect(lines([]) == [])
  }

  @Test func `bytes that are no text are replaced`() {
    var splitter = LineSplitter()
    #expect(splitter.feed([0x61, 0xFF, 0xC3, 0x28, 10]).map(\.text) == ["a\u{FFFD}\u{FFFD}("])
  }

  @Test func `a long line is cut at a character and its parts say so`() {
    let line = String(repeating: "é€😀", count: 40)
    let parts = lines([line + "\nnext\n"], limit: 120)
    #expect(parts.last == "next" && parts.count > 3)
    #expect(parts.dropLast().allSatisfy { $0.utf8.count <= 120 })
    let joined = parts.dropLast().map { $0.replacing(LineSplitter.cutMark, with: "").replacing(LineSplitter.continuationMark, with: "") }.joined()
    #expect(joined == line)
    #expect(parts[0].hasSuffix(LineSplitter.cutMark) && parts[1].hasPrefix(LineSplitter.continuationMark))
  }

  /// Whatever the bytes, and however they arrive: the same lines, ends that grow to the length of the whole, no part too long.
  @Test func `random bytes in random pieces`() {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<300 {
      let alphabet: [UInt8] = [10, 13, 65, 66, 0xC3, 0xA9, 0xF0, 0x9F, 0x98, 0x80, 0xFF]
      let bytes = (0..<Int.random(in: 0...2000, using: &generator)).map { _ in alphabet.randomElement(using: &generator)! }
      var whole = LineSplitter(limit: 100), pieces = LineSplitter(limit: 100)
      var expected = whole.feed(bytes), found: [LineSplitter.Line] = []
      var rest = bytes[...]
      while !rest.isEmpty {
        let count = Int.random(in: 1...min(50, rest.count), using: &generator)
        found += pieces.feed(rest.prefix(count))
        rest = rest.dropFirst(count)
      }
      expected += [whole.finish()].compactMap { $0 }
      found += [pieces.finish()].compactMap { $0 }
      #expect(found == expected)
      #expect(expected.last?.end ?? 0 == bytes.count)
      #expect(zip(expected, expected.dropFirst()).allSatisfy { $0.end < $1.end } && expected.allSatisfy { $0.text.utf8.count <= 100 })
    }
  }
}

@Suite struct LogBatchTests {
  /// Random events: every batch is inside every limit, and together they are all of them in order.
  @Test func `batches keep every limit and lose nothing`() {
    var generator = SystemRandomNumberGenerator()
    var limits = LogBatch.Limits()
    limits.bytes = 2000
    limits.events = 30
    limits.span = 1000
    for _ in 0..<200 {
      var time: Int64 = 1_000_000
      let events = (0..<200).map { index in
        time += Int64.random(in: -50...120, using: &generator)
        return LogEvent(timestamp: time, message: "\(index) " + String(repeating: "é", count: Int.random(in: 0...200, using: &generator)))
      }
      var batches = [LogBatch(limits: limits)]
      for event in events where !batches[batches.count - 1].append(event) {
        batches.append(LogBatch(limits: limits))
        let fits = batches[batches.count - 1].append(event)
        #expect(fits)
      }
      #expect(batches.flatMap(\.events) == events)
      for batch in batches {
        let sorted = batch.chronological
        #expect(sorted.reduce(0) { $0 + $1.size } <= 2000 && sorted.count <= 30 && sorted.last!.timestamp - sorted[0].timestamp < 1000)
        #expect(zip(sorted, sorted.dropFirst()).allSatisfy { $0.timestamp <= $1.timestamp })
      }
    }
  }

  @Test func `an empty line is a blank, since the service takes no empty message`() {
    #expect(LogEvent(timestamp: 0, message: "").message == " " && LogEvent(timestamp: 0, message: "é").size == 28)
  }
}

@Suite struct LogTimestampTests {
  private static let now = Timestamp(iso8601: "2026-01-02T03:04:05Z")!

  @Test(arguments: [
    ("2026-01-02T03:04:05.678Z [INFO]  agent: x", "2026-01-02T03:04:05.678Z"),
    ("    2026-01-02T03:04:05.678+0100 [INFO]", "2026-01-02T02:04:05.678Z"),
    ("    2026/01/02 03:04:05 [INFO] agent: x", "2026-01-02T03:04:05.000Z"), ("[2026-01-02 03:04:05,5] x", "2026-01-02T03:04:05.500Z"),
    ("2026-01-02T03:04:05.123456789-05:30 x", "2026-01-02T08:34:05.123Z"), ("Jan  2 03:04:05 host prog: x", "2026-01-02T03:04:05.000Z"),
    ("<13>Dec 31 23:59:59 host x", "2025-12-31T23:59:59.000Z"), ("1767323045 x", "2026-01-02T03:04:05.000Z"),
    ("1767323045.25 x", "2026-01-02T03:04:05.250Z"), ("1767323045678 x", "2026-01-02T03:04:05.678Z"),
    (#"{"level":"info","timestamp":"2026-01-02T03:04:05.678Z"}"#, "2026-01-02T03:04:05.678Z"), (#"{"ts":1767323045.5}"#, "2026-01-02T03:04:05.500Z"),
  ])
  func `the forms that logs have`(_ line: String, _ time: String) { #expect(LogTimestamp.find(in: line, now: Self.now)?.iso8601 == time) }

  @Test(arguments: [
    "", "plain text", "2026-13-02T03:04:05Z", "2026-01-02", "12 apples", "17673230451 x", "{", "{}", "Jam  2 03:04:05", "<13", "1767323045-1",
  ])
  func `what is no time`(_ line: String) { #expect(LogTimestamp.find(in: line, now: Self.now) == nil) }

  @Test func `random bytes are no trouble`() {
    var generator = SystemRandomNumberGenerator()
    let alphabet = Array("0123456789-:/T.Z+ <>{}\"tsJan,[]é")
    for _ in 0..<20_000 {
      _ = LogTimestamp.find(
        in: String((0..<Int.random(in: 0...45, using: &generator)).map { _ in alphabet.randomElement(using: &generator)! }), now: Self.now)
    }
  }
}

@Suite struct FileTailTests {
  /// A directory of its own, gone afterwards.
  private final class Scratch {
    let path = FileManager.default.temporaryDirectory.appending(path: "tail-\(UUID().uuidString)").path
    var log: String { path + "/app.log" }

    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    func append(_ text: String) throws {
      if !FileManager.default.fileExists(atPath: log) { _ = FileManager.default.createFile(atPath: log, contents: nil) }
      let file = try FileHandle(forWritingTo: URL(filePath: log))
      try file.seekToEnd()
      try file.write(contentsOf: Data(text.utf8))
      try file.close()
    }

    func rename(to name: String = "app.log.1") throws {
      try? FileManager.default.removeItem(atPath: "\(path)/\(name)")
      try FileManager.default.moveItem(atPath: log, toPath: "\(path)/\(name)")
    }

    func copyAndTruncate() throws {
      try? FileManager.default.removeItem(atPath: log + ".1")
      try FileManager.default.copyItem(atPath: log, toPath: log + ".1")
      try FileHandle(forWritingTo: URL(filePath: log)).truncate(atOffset: 0)
    }
  }

  private func all(_ tail: inout FileTail) throws -> [String] {
    var lines: [String] = []
    // Every file in turn, the last one twice: a rotation is seen by the look after it.
    for _ in 0..<6 { lines += try tail.read().lines.map(\.text) }
    return lines
  }

  /// Until a renamed file is given up, with what it has without a newline.
  private func later(_ tail: inout FileTail) throws -> [String] {
    var lines: [String] = []
    for _ in 0..<60 { lines += try tail.read().lines.map(\.text) }
    return lines
  }

  private func tail(_ scratch: Scratch, from position: FilePosition? = nil) -> FileTail {
    FileTail(path: scratch.log, start: position, opener: LocalFileStore())
  }

  @Test func `renamed and made anew: the rest of the old file first, a line without an end included`() throws {
    let scratch = try Scratch()
    var tail = tail(scratch)
    #expect(try all(&tail) == [])
    try scratch.append("1\n2\n")
    #expect(try all(&tail) == ["1", "2"])
    // Half a line is no truncation.
    try scratch.append("half")
    #expect(try all(&tail) == [])
    try scratch.append(" and half\n")
    #expect(try all(&tail) == ["half and half"])
    try scratch.append("3\n4")
    let writer = try FileHandle(forWritingTo: URL(filePath: scratch.log))
    try writer.seekToEnd()
    try scratch.rename()
    try scratch.append("5\n")
    #expect(try all(&tail) == ["3", "5"])
    // A program goes on with the renamed file until it is told.
    try writer.write(contentsOf: Data("b\nlate".utf8))
    #expect(try all(&tail) == ["4b"])
    #expect(try later(&tail) == ["late"])
    try scratch.append("6\n")
    try scratch.rename(to: "app.log.2")
    try scratch.append("7\n")
    try scratch.rename()
    try scratch.append("8\n")
    #expect(try all(&tail) == ["6", "7", "8"])
    // Gone from its place, twice, and nothing in it.
    try scratch.append("9\n")
    try scratch.rename(to: "app.log.3")
    try scratch.append("10\n")
    try scratch.rename(to: "app.log.4")
    #expect(try all(&tail) == ["9", "10"])
    try scratch.append("11\n")
    #expect(try all(&tail) == ["11"])
  }

  @Test func `compressed: what was renamed can be read when its name is gone`() throws {
    let scratch = try Scratch()
    var tail = tail(scratch)
    try scratch.append("1\n")
    #expect(try all(&tail) == ["1"])
    try scratch.append("2\n")
    try scratch.rename()
    try FileManager.default.moveItem(atPath: scratch.log + ".1", toPath: scratch.log + ".1.gz")
    try scratch.append("3\n")
    #expect(try all(&tail) == ["2", "3"])
  }

  @Test func `copied and truncated: the rest is read from the copy, also when the file has grown past its old length`() throws {
    for growth in ["4\n", "4\n5\n6\n7\n8\n9\n10\n"] {
      let scratch = try Scratch()
      var tail = tail(scratch)
      try scratch.append("1\n2\n")
      #expect(try all(&tail) == ["1", "2"])
      try scratch.append("3\n")
      try scratch.copyAndTruncate()
      try scratch.append(growth)
      #expect(try all(&tail) == ["3"] + growth.split(separator: "\n").map(String.init))
    }
  }

  @Test func `a restart goes on where the checkpoint was, through whatever happened meanwhile`() throws {
    let scratch = try Scratch()
    var first = tail(scratch)
    try scratch.append("1\n2\n3\n")
    let position = try first.read().lines[1].position(time: 0)
    var same = tail(scratch, from: position)
    #expect(try all(&same) == ["3"])
    try scratch.rename()
    var missing = tail(scratch, from: position)
    #expect(try all(&missing) == ["3"])
    try scratch.append("4\n")
    #expect(try all(&missing) == ["4"])
    var rotated = tail(scratch, from: position)
    #expect(try all(&rotated) == ["3", "4"])
    try FileManager.default.removeItem(atPath: scratch.log + ".1")
    var lost = tail(scratch, from: position)
    let (lines, events) = try lost.read()
    #expect(lines.map(\.text) == ["4"] && events == [.lostRest(of: position)])
    // Copied and truncated before anything was accepted: its former contents, then its present ones.
    let other = try Scratch()
    try other.append("1\n")
    let beginning = try #require(try self.tail(other).beginning(time: 0))
    try other.copyAndTruncate()
    try other.append("2\n")
    var copied = tail(other, from: beginning)
    #expect(try all(&copied) == ["1", "2"])
    // Checkpoints keep it as it is; what makes no sense is left out.
    let marks = ["file:x": SourceMark.file(position), "journal": .cursor("s=1")]
    #expect(try Checkpoints.parse(Array(Checkpoints.json(marks).prettyText.utf8)) == marks)
    #expect(try Checkpoints.parse(Array(#"{"a": {"device": "x"}, "b": 1, "c": {"cursor": "k"}, "d": {"offset": -1}}"#.utf8)) == ["c": .cursor("k")])
  }

  @Test(arguments: [
    ("app.log", "app.log", true), ("app.log", "*.log", true), ("app.log.1", "*.log", false), ("a", "?", true), ("ab", "?", false),
    (".hidden", "*", false),
    ("abcabd", "*abd", true), ("", "*", true), ("x", "", false),
  ])
  func `patterns`(_ name: String, _ pattern: String, _ isMatch: Bool) {
    #expect(LogFiles.matches(Array(name.utf8)[...], Array(pattern.utf8)[...]) == isMatch)
  }
}
