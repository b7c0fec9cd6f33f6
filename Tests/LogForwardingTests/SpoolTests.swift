import Base
import TestSupport
import Testing

@testable import LogForwarding

private let directory = "/var/lib/consul-bootstrap/log-queue"

@Suite(.timeLimit(.minutes(5))) struct SpoolTests {
  private let context = TestContext(logLevel: .info)
  private var files: FakeFiles { context.files }

  /// 4 KiB a segment at the least.
  private func spool(limit: Int64 = 1 << 20) -> Spool {
    Spool(directory: directory, limit: limit, files: files, log: context.log)
  }

  private func source(_ spool: Spool, _ checkpoint: Checkpoint? = nil) -> SpoolSource {
    SpoolSource(spool, checkpoint: checkpoint, now: context.clock.wall)
  }

  /// Everything that is readable, and the checkpoint after it.
  private func drain(_ source: inout SpoolSource) async throws -> (texts: [String], checkpoint: Checkpoint?) {
    var texts: [String] = [], checkpoint: Checkpoint?
    while true {
      let chunk = try await source.read(1000)
      guard let last = chunk.lines.last else { return (texts, checkpoint) }
      texts += chunk.texts
      checkpoint = chunk.checkpoint(after: last) ?? checkpoint
    }
  }

  private func bytes(_ text: String) -> ArraySlice<UInt8> { Array(text.utf8)[...] }

  private func names() throws -> [String] { try files.list(directory) }

  /// The warnings, without their reasons.
  private var warnings: [String] { context.sink.records(.warning).map(\.message) }

  @Test func `what is written is read in order, across segments and restarts, and released once it is acknowledged`()
    async throws
  {
    var expected: [String] = []
    var queue = spool(limit: 80_000)
    var source = source(queue)
    for number in 0..<600 {
      expected.append("\(number) " + String(repeating: "x", count: 100))
      // Lines come in pieces, and pieces hold lines.
      queue.write(bytes(String(expected[number].prefix(40))))
      queue.write(bytes(String(expected[number].dropFirst(40)) + "\n"))
    }
    let (texts, checkpoint) = try await drain(&source)
    #expect(texts == expected && queue.losses == SourceLosses() && source.unreadBytes() == 0)
    #expect(try names().count == 13)
    source.acknowledge(try #require(checkpoint))
    #expect(try names() == ["00000013.log"])
    queue.write(bytes("cut by a crash"))
    queue = spool(limit: 80_000)
    queue.write(bytes("after\n"))
    var again = self.source(queue, checkpoint)
    #expect(try await drain(&again).texts == ["cut by a crash", "after"])
    // A checkpoint of a queue whose directory was removed.
    files.delete(directory)
    let fresh = spool()
    fresh.write(bytes("new\n"))
    var other = self.source(fresh, checkpoint)
    #expect(try await drain(&other).texts == ["new"])
    #expect(context.sink.lines == [])
  }

  @Test(arguments: [false, true])
  func `what does not fit is dropped, exactly counted, and reported where it was`(_ restarts: Bool) async throws {
    var queue = spool(limit: 65_536)
    var source = source(queue)
    var written: Int64 = 0
    func write(_ count: Int) {
      for _ in 0..<count {
        queue.write(bytes("\(written)\n"))
        written += 1
      }
    }
    write(500)
    // Read and unacknowledged: it is not dropped.
    let held = try await drain(&source).texts.count
    write(20_000)
    if restarts {
      queue = spool(limit: 65_536)
      source = self.source(queue)
      write(20_000)
    }
    let lines = try await drain(&source).texts
    let numbers = lines.compactMap { Int64($0) }
    let notices = lines.filter { $0.hasPrefix("consul-bootstrap: ") }
    let lost = notices.reduce(0) { $0 + Int64($1.split(separator: " ")[1])! }
    #expect(lost > 0 && Int64(numbers.count) + lost + (restarts ? 0 : Int64(held)) == written)
    #expect(numbers.last == written - 1 && zip(numbers, numbers.dropFirst()).allSatisfy { $0 < $1 })
    if restarts { #expect(numbers.first == 0) } else { #expect(queue.losses.lines == lost) }
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
    let sizes = try names().map { files.bytes("\(directory)/\($0)")?.count ?? 0 }
    #expect(sizes.reduce(0, +) < 65_536 + 2 * 4096)
  }

  // MARK: Hostile numbers

  /// Regression: the number after 9223372036854775807 trapped, and with it the process that supervises Consul.
  @Test func `files that are not segments are ignored, whatever their number`() async throws {
    let foreign = [
      "-1.log", "+00000003.log", "0.log", "1.log", "1000000000000001.log", "9223372036854775807.log",
      "9223372036854775807.lost", "99999999999999999999.log", "00000004.log.gz", "lost+found",
    ]
    for name in foreign { files.put("\(directory)/\(name)", "foreign\n") }
    files.put("\(directory)/.00000001.lost.tmp", "of a killed run")
    files.put("\(directory)/00000007.log", "mine\n")
    let queue = spool()
    queue.write(bytes("new\n"))
    var source = source(queue)
    #expect(try await drain(&source).texts == ["mine", "new"])
    #expect(files.text("\(directory)/00000008.log") == "new\n")
    #expect(warnings == foreign.sorted().map { "\(directory)/\($0) is not a segment of the log queue and is ignored" })
  }

  @Test func `the largest number that is a segment's has successors`() async throws {
    files.put("\(directory)/1000000000000000.log", "last\n")
    let queue = spool()
    queue.write(bytes("new\n"))
    var source = source(queue)
    #expect(try await drain(&source).texts == ["last", "new"])
  }

  @Test func `losses of any size are added without a trap, and are never negative`() async throws {
    let huge = #"{"lines": 9223372036854775807, "bytes": 9223372036854775807}"#
    files.put("\(directory)/00000001.log", "read\n")
    files.put("\(directory)/00000002.lost", huge)
    files.put("\(directory)/00000003.log", String(repeating: "x\n", count: 20_000))
    files.put("\(directory)/00000004.lost", #"{"lines": -9223372036854775808, "bytes": -1}"#)
    files.put("\(directory)/00000005.log", String(repeating: "y\n", count: 20_000))
    let queue = spool(limit: 65_536)
    var source = source(queue)
    // Drops 3 and 5, and joins their losses to those before them.
    queue.write(bytes("new\n"))
    for _ in 0..<30 { queue.write(bytes(String(repeating: "z", count: 4095) + "\n")) }
    let texts = try await drain(&source).texts
    #expect(texts.prefix(2) == ["read", SpoolSource.notice(lines: .max, bytes: .max)])
    #expect(texts.allSatisfy { !$0.contains(": -") && !$0.contains("(-") })
    #expect(queue.losses.lines > 20_000 && queue.losses.lines < 100_000)
  }

  @Test(arguments: [
    SpoolPosition(segment: .max, offset: .max), SpoolPosition(segment: 1, offset: .max),
    SpoolPosition(segment: 3, offset: 0), SpoolPosition(segment: 1, offset: 9),
  ])
  func `a checkpoint that cannot be one of this queue is ignored`(_ position: SpoolPosition) async throws {
    files.put("\(directory)/00000001.log", "1\n2\n")
    files.put("\(directory)/00000002.log", "3\n")
    let queue = spool()
    var source = source(queue, .spool(position))
    #expect(source.unreadBytes() == 6)
    #expect(try await drain(&source).texts == ["1", "2", "3"])
  }

  @Test func `a position beyond a segment has no unread bytes there`() {
    files.put("\(directory)/00000001.log", "1\n2\n")
    files.put("\(directory)/00000002.log", "3\n")
    #expect(spool().unreadBytes(after: SpoolPosition(segment: 1, offset: .max)) == 2)
  }

  // MARK: Errors

  /// Regression: the error counted as an empty queue. The next segment took the number of an unread one and was
  /// appended to it.
  @Test func `while the queue cannot be listed nothing is written over, and the loss is counted`() async throws {
    files.put("\(directory)/00000001.log", "old\n")
    files.fail(.list, directory, errno: 5)
    let queue = spool()
    queue.write(bytes("1\n2\n"))
    queue.write(bytes("3\n"))
    var source = source(queue, .spool(SpoolPosition(segment: 1, offset: 0)))
    await #expect(throws: FileError("list", directory, errno: 5, reason: "Input/output error")) {
      try await source.read(100)
    }
    #expect(warnings == ["cannot read the log queue; output is dropped until it can"])
    #expect(queue.losses.lines == 3 && files.text("\(directory)/00000001.log") == "old\n")
    files.recover(.list, directory)
    queue.write(bytes("4\n"))
    #expect(try await drain(&source).texts == ["old", SpoolSource.notice(lines: 3, bytes: 6), "4"])
    #expect(context.sink.records(.info).map(\.message) == ["the log queue works again"])
  }

  /// Regression: logged for debugging only, and a record for each write was left.
  @Test func `output that cannot be written is counted, and reported where it was`() async throws {
    let queue = spool()
    queue.write(bytes("1\n"))
    files.fail(.append, nil, errno: 28)
    queue.write(bytes("2\n"))
    queue.write(bytes("3\n"))
    files.recover(.append, nil)
    queue.write(bytes("4\n"))
    var source = source(queue)
    #expect(try await drain(&source).texts == ["1", SpoolSource.notice(lines: 2, bytes: 4), "4"])
    #expect(queue.losses.lines == 2 && queue.losses.bytes == 4)
    #expect(
      context.sink.lines == [
        "warning cannot write the log queue; output is dropped until it can "
          + "reason=\"append to \(directory)/00000001.log: No space left on device\"",
        "info the log queue works again resolved=\"cannot write the log queue; output is dropped until it can\"",
      ])
  }

  /// Regression: such a segment was left out. If it was the last, its number was used again.
  @Test func `a segment that cannot be read keeps its number and its place`() async throws {
    files.put("\(directory)/00000001.log", "1\n")
    files.put("\(directory)/00000002.log", "2\n")
    files.fail(.open, "\(directory)/00000002.log", errno: 5)
    let queue = spool()
    queue.write(bytes("3\n"))
    #expect(files.text("\(directory)/00000003.log") == "3\n")
    #expect(warnings == ["cannot read a segment of the log queue"])
    var source = source(queue)
    #expect(try await source.read(100).texts == ["1"])
    await #expect(throws: FileError.self) { try await source.read(100) }
    files.recover(.open, "\(directory)/00000002.log")
    #expect(try await drain(&source).texts == ["2", "3"])
  }

  @Test func `a record of a loss that cannot be read is still a loss`() async throws {
    files.put("\(directory)/00000001.lost", "not JSON")
    files.put("\(directory)/00000002.log", "2\n")
    var source = source(spool())
    #expect(try await drain(&source).texts == [SpoolSource.notice(lines: 0, bytes: 0), "2"])
    #expect(warnings == ["cannot read a segment of the log queue"])
  }

  /// Regression: silent.
  @Test func `segments that cannot be removed are reported once and removed later`() async throws {
    for number in 1...3 { files.put("\(directory)/0000000\(number).log", "\(number)\n") }
    files.fail(.removeFile, nil, errno: 30)
    var source = source(spool())
    let checkpoint = try #require(try await drain(&source).checkpoint)
    source.acknowledge(checkpoint)
    source.acknowledge(checkpoint)
    #expect(try names().count == 3)
    #expect(warnings == ["cannot remove acknowledged segments of the log queue"])
    files.recover(.removeFile, nil)
    source.acknowledge(checkpoint)
    #expect(try names() == ["00000003.log"])
    #expect(context.sink.records(.info).map(\.message) == ["the log queue works again"])
  }

  /// A loss that cannot be recorded must not be counted again at each attempt.
  @Test func `segments that cannot be dropped are reported once, and count once they are`() async throws {
    let queue = spool(limit: 65_536)
    let line = String(repeating: "x", count: 4095) + "\n"
    for _ in 0..<16 { queue.write(bytes(line)) }
    files.fail(.write, nil, errno: 28)
    for _ in 0..<4 { queue.write(bytes(line)) }
    #expect(warnings == ["cannot drop old segments of the log queue"] && queue.losses == SourceLosses())
    files.recover(.write, nil)
    queue.write(bytes(line))
    var source = source(queue)
    let notice = try #require(try await drain(&source).texts.first { $0.hasPrefix("consul-bootstrap: ") })
    #expect(notice == SpoolSource.notice(lines: queue.losses.lines, bytes: queue.losses.bytes))
    #expect(queue.losses.lines == 5)
  }
}
