import AWS
import Base
import Foundation
import Host
import Synchronization
import TestSupport
import Testing

@testable import LogForwarding

/// Lifetime of forwarders, and the files of patterns.
@Suite(.timeLimit(.minutes(5))) struct LogForwarderTests {
  /// Regression: a stream held its forwarder, which held its streams. Every reload with changed options left a
  /// forwarder behind with its open files.
  @Test func `twenty reloads leave no forwarder and no descriptor behind`() async throws {
    let directory = FileManager.default.temporaryDirectory.appending(path: "reloads-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try Data("1\n".utf8).write(to: URL(filePath: directory + "/app.log"))
    try Data("1\n".utf8).write(to: URL(filePath: directory + "/other.txt"))
    let context = TestContext(logLevel: .info)
    let aws = FakeAWS(context)
    aws.createLogStream(group: "g", stream: "other")
    let alive = Mutex<[Weak<LogForwarder>]>([])
    for number in 1...20 {
      let forwarder = LogForwarder(
        [
          .init(
            name: "file:\(directory)/*.log", input: .file(FilePattern("\(directory)/*.log")!), group: "g",
            stream: "a"),
          .init(name: "other", input: .file(FilePattern("\(directory)/other.txt")!), group: "g", stream: "b"),
        ], memory: 8 << 20, flushInterval: .seconds(1), client: aws.client(), files: LocalFileStore(),
        launcher: context.launcher, stateDirectory: directory, clock: context.clock, uptime: context.clock.uptime,
        now: context.clock.wall, log: context.log)
      alive.withLock { $0.append(Weak(forwarder)) }
      let work = Task { await forwarder.run() }
      for name in ["app.log", "other.txt"] { try Self.append("\(number)\n", to: "\(directory)/\(name)") }
      while await forwarder.status().count(where: { $0.sentEvents > 0 }) < 2 {
        try await context.clock.sleep(for: .milliseconds(250))
      }
      #expect(try Self.descriptors(in: directory) == ["\(directory)/app.log", "\(directory)/other.txt"])
      if number % 2 == 0 { await forwarder.end(within: .seconds(60)) } else { work.cancel() }
      await work.value
      // Streams are kept for their status, their files are not.
      #expect(try Self.descriptors(in: directory) == [])
      #expect(await forwarder.status().count == 2)
    }
    try await context.clock.settle()
    #expect(alive.withLock { $0.count { $0.object != nil } } == 0)
  }

  private struct Weak<Object: AnyObject & Sendable>: Sendable {
    weak let object: Object?
    init(_ object: Object) { self.object = object }
  }

  private static func append(_ text: String, to path: String) throws {
    let file = try FileHandle(forWritingTo: URL(filePath: path))
    try file.seekToEnd()
    try file.write(contentsOf: Data(text.utf8))
    try file.close()
  }

  /// Files below the directory that this process has open.
  private static func descriptors(in directory: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").compactMap {
      try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)")
    }.filter { $0.hasPrefix(directory) }.sorted()
  }

  @Test func `streams share the memory, and no stream gets less than 16 KiB`() async throws {
    let bench = ForwardingBench()
    let line = String(repeating: "x", count: 1000)
    let paths = (0..<8).map { "/var/log/\($0).log" }
    for path in paths { bench.files.put(path, String(repeating: line + "\n", count: 100)) }
    let inputs = paths.map { ("file:\($0)", LogInput.file(FilePattern($0)!)) }
    let forwarder = bench.forwarder(Dictionary(inputs) { $1 }, flushInterval: .seconds(600), memory: 64 << 10)
    let sizes = Watched<[Int]>([])
    bench.context.transport.on(ForwardingBench.endpoint) { request in
      guard request.header("X-Amz-Target") == "Logs_20140328.PutLogEvents" else { return nil }
      sizes.update { $0.append(1) }
      return nil
    }
    try await running(forwarder.run) {
      try await bench.until { bench.messages(paths[0]).count > 60 }
    }
    for path in paths {
      #expect(bench.messages(path).count % 15 == 0, "15 events of 1,026 bytes fit into 16 KiB")
    }
  }

  // MARK: Patterns

  private static let pattern = "/var/log/days/*.log", patternName = "file:/var/log/days/*.log"
  private static let monday = "/var/log/days/monday.log", tuesday = "/var/log/days/tuesday.log"

  /// Regression: streams, descriptors and checkpoints grew without end where each day has a file of its own.
  @Test func `a file that disappears for a minute is sent to its end and forgotten, and is new when it reappears`()
    async throws
  {
    let bench = ForwardingBench()
    bench.files.put(Self.monday, "1\n2\n")
    try await bench.forwarding(Self.pattern) { forwarder in
      let names = { await forwarder.status().map(\.source) }
      try await bench.until { bench.messages(Self.monday) == ["1", "2"] }
      bench.files.put(Self.tuesday, "1\n")
      try await bench.until(within: .seconds(5)) { bench.messages(Self.tuesday) == ["1"] }
      // With what was written last.
      bench.files.grow(Self.monday, by: "3\n")
      bench.files.delete(Self.monday)
      try await bench.clock.sleep(for: .seconds(50))
      #expect(await names() == ["file:\(Self.monday)", "file:\(Self.tuesday)"])
      #expect(bench.messages(Self.monday) == ["1", "2", "3"])
      try await bench.until(within: .seconds(15)) { await names() == ["file:\(Self.tuesday)"] }
      #expect(try bench.savedOffset(Self.monday) == nil && bench.savedOffset(Self.tuesday) == 2)
      bench.files.put(Self.monday, "again\n")
      try await bench.until(within: .seconds(5)) { bench.messages(Self.monday).last == "again" }
      #expect(await names() == ["file:\(Self.monday)", "file:\(Self.tuesday)"])
    }
    #expect(bench.messages(Self.monday) == ["1", "2", "3", "again"] && bench.log == [])
  }

  /// Regression: a file that reappeared while its stream was ending got a second stream of the same name, whose
  /// checkpoint the first one removed.
  @Test func `a file that reappears before its rest is sent continues its stream`() async throws {
    let bench = ForwardingBench()
    bench.files.put(Self.monday, "1\n")
    try await bench.forwarding(Self.pattern) { forwarder in
      try await bench.until { bench.messages(Self.monday) == ["1"] }
      bench.aws.fail("PutLogEvents", .unreachable)
      bench.files.grow(Self.monday, by: "2\n")
      try await bench.aws.call("PutLogEvents", number: 2)
      bench.files.delete(Self.monday)
      try await bench.clock.sleep(for: .seconds(70))
      bench.files.put(Self.monday, "3\n")
      try await bench.clock.sleep(for: .seconds(5))
      bench.aws.recover("PutLogEvents")
      try await bench.until { bench.messages(Self.monday).count >= 3 }
      bench.files.grow(Self.monday, by: "4\n")
      try await bench.until { bench.messages(Self.monday).count >= 4 }
      try await bench.until { try bench.savedOffset(Self.monday) == 4 }
      #expect(bench.messages(Self.monday) == ["1", "2", "3", "4"])
      #expect(try await bench.status(of: "file:\(Self.monday)", forwarder).sentEvents == 4)
    }
  }

  /// Regression: nothing was forwarded, nothing was logged, and `status --check` was 0.
  @Test(arguments: [(2, "No such file or directory"), (13, "Permission denied"), (20, "Not a directory")])
  func `a pattern whose directory cannot be listed is a problem, until it can`(_ errno: Int32, _ reason: String)
    async throws
  {
    let bench = ForwardingBench()
    if errno != 2 { bench.files.put(Self.monday, "1\n") }
    if errno != 2 { bench.files.fail(.list, "/var/log/days", errno: errno) }
    try await bench.forwarding(Self.pattern) { forwarder in
      try await bench.until { try await bench.condition(of: Self.patternName, forwarder) == .parked }
      try await bench.clock.sleep(for: .seconds(20))
      let problem = "cannot list the files of \(Self.patternName): list /var/log/days: \(reason)"
      let report = ForwardingReport(time: bench.clock.wall(), pid: 1, streams: await forwarder.status(), agent: nil)
      #expect(report.problems(at: bench.clock.wall()).map(\.message) == ["\(Self.patternName) is parked: \(problem)"])
      #expect(report.streams[0].status.group == "g" && report.streams[0].status.stream == "var/log/days/_.log")
      #expect(bench.log == ["warning log forwarding of \(Self.patternName) is parked reason=\"\(problem)\""])
      bench.files.put(Self.monday, "1\n")
      bench.files.recover(.list, "/var/log/days")
      try await bench.until(within: .seconds(5)) { bench.messages(Self.monday) == ["1"] }
      #expect(await forwarder.status().map(\.source) == ["file:\(Self.monday)"])
      #expect(bench.log.last == "info log forwarding of \(Self.patternName) has resumed" && bench.log.count == 2)
    }
  }

  @Test func `streams continue while the directory of their pattern cannot be listed`() async throws {
    let bench = ForwardingBench()
    bench.files.put(Self.monday, "1\n")
    try await bench.forwarding(Self.pattern) { forwarder in
      try await bench.until { bench.messages(Self.monday) == ["1"] }
      bench.files.fail(.list, "/var/log/days", errno: 5)
      try await bench.clock.sleep(for: .seconds(70))
      bench.files.grow(Self.monday, by: "2\n")
      try await bench.until(within: .seconds(5)) { bench.messages(Self.monday) == ["1", "2"] }
      #expect(await forwarder.status().map(\.source) == [Self.patternName, "file:\(Self.monday)"])
    }
  }

  @Test func `a pattern that matches no file is shown as waiting, which is not a problem`() async throws {
    let bench = ForwardingBench()
    bench.files.put("/var/log/days/compressed.log.gz", "x")
    try await bench.forwarding(Self.pattern) { forwarder in
      try await bench.until { try await bench.condition(of: Self.patternName, forwarder) == .waiting }
      bench.files.put(Self.monday, "1\n")
      try await bench.until { await forwarder.status().map(\.source) == ["file:\(Self.monday)"] }
    }
    #expect(bench.log == [])
  }
}
