import Base
import Foundation
import Host
import Testing

@testable import LogForwarding

@Suite struct SpoolTests {
  /// A directory of its own, gone afterwards.
  private final class Scratch {
    let path = FileManager.default.temporaryDirectory.appending(path: "spool-\(UUID().uuidString)").path
    deinit { try? FileManager.default.removeItem(atPath: path) }
  }

  private func spool(_ scratch: Scratch, limit: Int64 = 1 << 20) -> Spool {
    Spool(
      directory: scratch.path, limit: limit, files: LocalFileStore(),
      log: Logger(level: .error, sink: Console(format: .text, environment: [:])))
  }

  private static let now: WallClock = { Timestamp(milliseconds: 0) }

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

  @Test func `what is written is read in order, across files and restarts, and released once it is acknowledged`()
    async throws
  {
    let scratch = Scratch()
    var expected: [String] = []
    var first = spool(scratch)
    var source = SpoolSource(first, checkpoint: nil, now: Self.now)
    for number in 0..<3000 {
      expected.append("\(number) " + String(repeating: "x", count: 100))
      // Lines come in pieces, and pieces hold lines.
      first.write(bytes(String(expected[number].prefix(40))))
      first.write(bytes(String(expected[number].dropFirst(40)) + "\n"))
    }
    let (texts, checkpoint) = try await drain(&source)
    #expect(texts == expected && first.losses == SourceLosses())
    let before = try FileManager.default.contentsOfDirectory(atPath: scratch.path).count
    source.acknowledge(try #require(checkpoint))
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).count < before)
    first.write(bytes("cut by a crash"))
    first = spool(scratch)
    first.write(bytes("after\n"))
    var again = SpoolSource(first, checkpoint: checkpoint, now: Self.now)
    #expect(try await drain(&again).texts == ["cut by a crash", "after"])
    // A checkpoint of a queue whose directory was removed.
    try FileManager.default.removeItem(atPath: scratch.path)
    let fresh = spool(scratch)
    fresh.write(bytes("new\n"))
    var other = SpoolSource(fresh, checkpoint: checkpoint, now: Self.now)
    #expect(try await drain(&other).texts == ["new"])
  }

  @Test(arguments: [false, true])
  func `what does not fit is dropped, exactly counted, and reported where it was`(_ restarts: Bool) async throws {
    let scratch = Scratch()
    var queue = spool(scratch, limit: 200_000)
    var source = SpoolSource(queue, checkpoint: nil, now: Self.now)
    var written: Int64 = 0
    func write(_ count: Int) {
      for _ in 0..<count {
        queue.write(bytes("\(written)\n"))
        written += 1
      }
    }
    write(1000)
    // Read and unacknowledged: it is not dropped.
    let held = try await drain(&source).texts.count
    write(200_000)
    if restarts {
      queue = spool(scratch, limit: 200_000)
      source = SpoolSource(queue, checkpoint: nil, now: Self.now)
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
