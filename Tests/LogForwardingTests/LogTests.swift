import Base
import Foundation
import Host
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

  @Test func `bytes that are no text are replaced`() {
    var splitter = LineSplitter()
    #expect(splitter.feed([0x61, 0xFF, 0xC3, 0x28, 10]).texts == ["a\u{FFFD}\u{FFFD}("])
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

  private struct Part: Equatable {
    let text: String
    let end: Int64
  }

  private static func parts(_ chunk: LineChunk) -> [Part] { chunk.lines.map { Part(text: chunk.text($0), end: $0.end) } }

  /// Whatever the bytes, and however they arrive: the same lines, ends that grow to the length of the whole, no part too long.
  @Test func `random bytes in random pieces`() {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<300 {
      let alphabet: [UInt8] = [10, 13, 65, 66, 0xC3, 0xA9, 0xF0, 0x9F, 0x98, 0x80, 0xFF]
      let bytes = (0..<Int.random(in: 0...2000, using: &generator)).map { _ in alphabet.randomElement(using: &generator)! }
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
      #expect(zip(expected, expected.dropFirst()).allSatisfy { $0.end < $1.end } && expected.allSatisfy { $0.text.utf8.count <= 100 })
    }
  }
}

@Suite struct LogBatchTests {
  /// Random events: every batch is inside every limit, and together they are all of them in order.
  @Test func `batches keep every limit and lose nothing`() throws {
    var generator = SystemRandomNumberGenerator()
    let alphabet = Array("ab \"\\\t\u{1}\u{7f}é€😀")
    for _ in 0..<200 {
      var limits = LogBatch.Limits()
      limits.bytes = Int.random(in: 300...3000, using: &generator)
      limits.events = Int.random(in: 1...40, using: &generator)
      limits.span = Int64.random(in: 1...2000, using: &generator)
      var time: Int64 = 1_000_000
      let events = (0..<200).map { index in
        time += Int64.random(in: -50...120, using: &generator)
        let text = (0..<Int.random(in: 0...60, using: &generator)).map { _ in String(alphabet.randomElement(using: &generator)!) }.joined()
        return Event(timestamp: time, message: "\(index) " + text)
      }
      var batches = [LogBatch(limits: limits)]
      for event in events where !batches[batches.count - 1].append(Array(event.message.utf8)[...], at: event.timestamp) {
        batches.append(LogBatch(limits: limits))
        let fits = batches[batches.count - 1].append(Array(event.message.utf8)[...], at: event.timestamp)
        #expect(fits)
      }
      #expect(batches.flatMap { batch in batch.events.map { Event(timestamp: $0.timestamp, message: batch.message($0)) } } == events)
      for batch in batches {
        // What goes over the wire, read by another's parser.
        let sent = try JSONDecoder().decode([Event].self, from: Data(Self.json(batch)))
        #expect(sent.reduce(0) { $0 + $1.message.utf8.count + 26 } == batch.size && batch.size <= limits.bytes && sent.count <= limits.events)
        #expect(sent.last!.timestamp - sent[0].timestamp < limits.span || sent.count == 1)
        #expect(zip(sent, sent.dropFirst()).allSatisfy { $0.timestamp < $1.timestamp || $0.timestamp == $1.timestamp && $0.number < $1.number })
      }
    }
  }

  private static func json(_ batch: LogBatch) -> [UInt8] {
    var json: [UInt8] = []
    batch.append(batch.chronological, to: &json)
    #expect(json.count <= batch.jsonSize)
    return json
  }

  private struct Event: Codable, Equatable {
    let timestamp: Int64
    let message: String
    var number: Int { Int(message.prefix { $0.isNumber })! }
  }

  @Test func `an empty line is a blank, since the service takes no empty message`() {
    var batch = LogBatch()
    let fits = batch.append([], at: 5)
    #expect(fits)
    #expect(batch.size == 27 && Self.json(batch).elementsEqual(#"[{"message":" ","timestamp":5}]"#.utf8))
  }
}

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
    #expect(try joined(["2026 a", "  b", "c", "2026 d", "2026 e"], "^[0-9]{4} ") == ["2026 a\n  b\nc", "2026 d", "2026 e"])
    // By indentation; what comes before the first record is one.
    #expect(try joined([" x", "a", "\tb", "", "c"], "^[^[:blank:]]") == [" x", "a\n\tb\n", "c"])
    #expect(try joined([], "x") == [])
  }

  @Test func `a record that is too long goes on in another, and the place behind a record is the one behind its last line`() throws {
    let records = try joined(["start " + String(repeating: "x", count: 80), String(repeating: "y", count: 80), "start z"], "^start", limit: 120)
    #expect(records.count == 3 && records[0].hasSuffix(LineSplitter.cutMark) && records[1].hasPrefix(LineSplitter.continuationMark))
    var splitter = LineSplitter()
    var joiner = RecordJoiner(start: try #require(PosixPattern("^a")))
    var chunk = splitter.feed(Array("a1\n b\na2\n c\n".utf8))
    chunk.mark = { line, _ in .cursor("\(line.end)") }
    let found = joiner.feed(chunk)
    #expect(found.texts == ["a1\n b"])
    #expect(found.place(behind: found.lines[0]) == .cursor("6"))
    let last = joiner.flush()
    #expect(last.texts == ["a2\n c"])
    #expect(last.place(behind: last.lines[0]) == .cursor("12"))
  }

  @Test func `patterns that are none are refused`() {
    for text in ["(", "[", "a{2,1}", "*\\"] { #expect(PosixPattern(text) == nil, "\(text)") }
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
    ("<165>1 2026-01-02T03:04:05.003Z host", "2026-01-02T03:04:05.003Z"),
    (#"{"a":{"time":1},"@timestamp":"2026-01-02T03:04:05.5Z"}"#, "2026-01-02T03:04:05.500Z"),
    (#"{"time":"x \" y","ts":1767323045}"#, "2026-01-02T03:04:05.000Z"), (#"{"ts":1767323045,"timestamp" : 1767323046}"#, "2026-01-02T03:04:06.000Z"),
    (#"{"level":"info","timestamp":"2026-01-02T03:04:05.678Z"}"#, "2026-01-02T03:04:05.678Z"), (#"{"ts":1767323045.5}"#, "2026-01-02T03:04:05.500Z"),
  ])
  func `the forms that logs have`(_ line: String, _ time: String) {
    #expect(LogTimestamp().find(in: Array(line.utf8)[...], now: Self.now)?.iso8601 == time)
  }

  @Test(arguments: [
    "", "plain text", "2026-13-02T03:04:05Z", "2026-01-02", "12 apples", "17673230451 x", "{", "{}", #"{"a":{"ts":1767323045}}"#, #"{"ts":"#,
    #"{"ts"#, "Jam  2 03:04:05", "<13", "1767323045-1",
  ])
  func `what is no time`(_ line: String) { #expect(LogTimestamp().find(in: Array(line.utf8)[...], now: Self.now) == nil) }

  @Test func `random bytes are no trouble`() {
    var generator = SystemRandomNumberGenerator()
    let alphabet = Array("0123456789-:/T.Z+ <>{}\"tsJan,[]é")
    for _ in 0..<20_000 {
      let line = String((0..<Int.random(in: 0...45, using: &generator)).map { _ in alphabet.randomElement(using: &generator)! })
      _ = LogTimestamp().find(in: Array(line.utf8)[...], now: Self.now)
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
    for _ in 0..<6 { lines += try tail.read(time: 0).chunk.texts }
    return lines
  }

  /// Until a renamed file is given up, with what it has without a newline.
  private func later(_ tail: inout FileTail) throws -> [String] {
    var lines: [String] = []
    for _ in 0..<60 { lines += try tail.read(time: 0).chunk.texts }
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

  /// What is accepted may have been truncated since it was read: its place is known by what was read, not by what is there now.
  @Test func `a place is the one that was read, whatever the file has become since`() throws {
    let scratch = try Scratch()
    var first = tail(scratch)
    try scratch.append(String(repeating: "one line that is longer than a fingerprint reaches\n", count: 10) + "2\n")
    let chunk = try first.read(time: 0).chunk
    try scratch.copyAndTruncate()
    try scratch.append(String(repeating: "another line that is longer than a fingerprint reaches\n", count: 20))
    guard case .file(let position)? = chunk.place(behind: chunk.lines[9]) else {
      Issue.record("no place")
      return
    }
    var again = tail(scratch, from: position)
    #expect(try all(&again).first == "2")
    // In pieces: as if it had been read at once.
    var pieces = tail(scratch)
    var marks: [SourceMark?] = []
    for _ in 0..<100 {
      let chunk = try pieces.read(37, time: 0).chunk
      marks += chunk.lines.map { chunk.place(behind: $0) }
    }
    var whole = tail(scratch)
    let all = try whole.read(time: 0).chunk
    #expect(marks == all.lines.map { all.place(behind: $0) } && marks.count == 20)
  }

  /// While the service is away, nothing of the file is read; every look must still notice.
  @Test func `copied and truncated again and again before anything of it was read`() throws {
    let scratch = try Scratch()
    var tail = tail(scratch)
    try scratch.append("1\n")
    #expect(try all(&tail) == ["1"])
    for number in 2...5 {
      try scratch.append("\(number)\n")
      try tail.look()
      for old in [3, 2, 1] where FileManager.default.fileExists(atPath: "\(scratch.log).\(old)") {
        try FileManager.default.moveItem(atPath: "\(scratch.log).\(old)", toPath: "\(scratch.log).\(old + 1)")
      }
      try scratch.copyAndTruncate()
      // As long as before, and longer.
      try scratch.append(number % 2 == 0 ? "x\n" : "longer than before\n")
      try tail.look()
    }
    #expect(try all(&tail) == ["2", "x", "3", "longer than before", "4", "x", "5", "longer than before"])
  }

  @Test func `a restart goes on where the checkpoint was, through whatever happened meanwhile`() throws {
    let scratch = try Scratch()
    var first = tail(scratch)
    try scratch.append("1\n2\n3\n")
    let read = try first.read(time: 0).chunk
    let mark = read.place(behind: read.lines[1])
    guard case .file(let position)? = mark else {
      Issue.record("no mark")
      return
    }
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
    let (lines, events) = try lost.read(time: 0)
    #expect(lines.texts == ["4"] && events == [.lostRest(of: position)])
    // Copied and truncated before anything was accepted: its former contents, then its present ones.
    let other = try Scratch()
    try other.append("1\n")
    let beginning = try #require(try self.tail(other).beginning(time: 0))
    try other.copyAndTruncate()
    try other.append("2\n")
    var copied = tail(other, from: beginning)
    #expect(try all(&copied) == ["1", "2"])
    // Checkpoints keep it as it is; what makes no sense is left out.
    let marks = ["file:x": SourceMark.file(position), "journal": .cursor("s=1"), "consul": .spool(SpoolPosition(segment: 3, offset: 17))]
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

@Suite struct SpoolTests {
  /// A directory of its own, gone afterwards.
  private final class Scratch {
    let path = FileManager.default.temporaryDirectory.appending(path: "spool-\(UUID().uuidString)").path
    deinit { try? FileManager.default.removeItem(atPath: path) }
  }

  private func spool(_ scratch: Scratch, limit: Int64 = 1 << 20) -> Spool {
    Spool(directory: scratch.path, limit: limit, files: LocalFileStore(), log: Logger(level: .error, sink: Console(format: .text)))
  }

  private static let now: WallClock = { Timestamp(milliseconds: 0) }

  /// All that there is, and the mark behind it.
  private func drain(_ source: inout SpoolSource) async throws -> (texts: [String], mark: SourceMark?) {
    var texts: [String] = [], mark: SourceMark?
    while true {
      let chunk = try await source.read(1000)
      guard let last = chunk.lines.last else { return (texts, mark) }
      texts += chunk.texts
      mark = chunk.place(behind: last) ?? mark
    }
  }

  private func bytes(_ text: String) -> ArraySlice<UInt8> { Array(text.utf8)[...] }

  @Test func `what is written is read in order, across files and restarts, and released once it is accepted`() async throws {
    let scratch = Scratch()
    var expected: [String] = []
    var first = spool(scratch)
    var source = SpoolSource(first, mark: nil, now: Self.now)
    for number in 0..<3000 {
      expected.append("\(number) " + String(repeating: "x", count: 100))
      // Lines come in pieces, and pieces hold lines.
      first.write(bytes(String(expected[number].prefix(40))))
      first.write(bytes(String(expected[number].dropFirst(40)) + "\n"))
    }
    let (texts, mark) = try await drain(&source)
    #expect(texts == expected && first.losses == SourceLosses())
    let before = try FileManager.default.contentsOfDirectory(atPath: scratch.path).count
    source.accepted(try #require(mark))
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).count < before)
    first.write(bytes("cut by a crash"))
    first = spool(scratch)
    first.write(bytes("after\n"))
    var again = SpoolSource(first, mark: mark, now: Self.now)
    #expect(try await drain(&again).texts == ["cut by a crash", "after"])
    // A checkpoint of a queue whose directory is gone.
    try FileManager.default.removeItem(atPath: scratch.path)
    let fresh = spool(scratch)
    fresh.write(bytes("new\n"))
    var other = SpoolSource(fresh, mark: mark, now: Self.now)
    #expect(try await drain(&other).texts == ["new"])
  }

  @Test(arguments: [false, true])
  func `what does not fit is given up, exactly counted, and told where it was`(_ restarts: Bool) async throws {
    let scratch = Scratch()
    var queue = spool(scratch, limit: 200_000)
    var source = SpoolSource(queue, mark: nil, now: Self.now)
    var written: Int64 = 0
    func write(_ count: Int) {
      for _ in 0..<count {
        queue.write(bytes("\(written)\n"))
        written += 1
      }
    }
    write(1000)
    // Read, and not accepted: it is not given up.
    let held = try await drain(&source).texts.count
    write(200_000)
    if restarts {
      queue = spool(scratch, limit: 200_000)
      source = SpoolSource(queue, mark: nil, now: Self.now)
      write(200_000)
    }
    let lines = try await drain(&source).texts
    let numbers = (restarts ? lines : Array(lines)).compactMap { Int64($0) }
    let notices = lines.filter { $0.hasPrefix("consul-bootstrap: ") }
    let lost = notices.reduce(0) { $0 + Int64($1.split(separator: " ")[1])! }
    #expect(lost > 0 && Int64(numbers.count) + lost + (restarts ? 0 : Int64(held)) == written)
    #expect(numbers.last == written - 1 && zip(numbers, numbers.dropFirst()).allSatisfy { $0 < $1 })
    if restarts { #expect(numbers.first == 0) }
    // Every gap is a notice's, in its place.
    var expected: Int64 = restarts ? 0 : Int64(held)
    for line in lines {
      if let number = Int64(line) {
        #expect(number == expected)
        expected = number + 1
      } else {
        expected += Int64(line.split(separator: " ")[1])!
      }
    }
    let sizes = try FileManager.default.contentsOfDirectory(atPath: scratch.path).map {
      try FileManager.default.attributesOfItem(atPath: scratch.path + "/" + $0)[.size] as! Int
    }
    #expect(sizes.reduce(0, +) < 200_000 + 2 * 12_500)
  }
}
