import AWS
import Base
import TestSupport
import Testing

@testable import LogForwarding

private let path = "/var/log/app.log", name = "file:/var/log/app.log"

/// Delivery: batches, retries, checkpoints, dead letters, the end.
@Suite(.timeLimit(.minutes(5))) struct LogStreamTests {
  @Test func `a line waits for the flush interval, so that others go with it`() async throws {
    let bench = ForwardingBench()
    let deliveries = bench.recordDeliveries()
    bench.files.put(path, "1\n")
    try await bench.forwarding(path, flushInterval: .seconds(10)) { _ in
      try await bench.clock.sleep(for: .seconds(5))
      bench.files.grow(path, by: "2\n")
      try await bench.until { bench.messages() == ["1", "2"] }
    }
    #expect(deliveries.value == [.seconds(10)])
  }

  @Test func `a batch that is full does not wait for the flush interval`() async throws {
    let bench = ForwardingBench()
    // Of one stream: a quarter of the memory.
    let forwarder = bench.forwarder([name: .file(FilePattern(path)!)], flushInterval: .seconds(600), memory: 256 << 10)
    let lines = (0..<100).map { "\($0) " + String(repeating: "x", count: 1000) }
    bench.files.put(path, lines.map { $0 + "\n" }.joined())
    try await running(forwarder.run) {
      try await bench.until(within: .seconds(10)) { bench.messages().count > 60 }
      #expect(bench.messages() == Array(lines.prefix(63)))
    }
  }

  @Test func `a checkpoint is saved before the first delivery, and moves only with an acknowledgement`() async throws {
    let bench = ForwardingBench()
    bench.files.put(path, "one\ntwo\n")
    let gate = bench.context.transport.hold(ForwardingBench.endpoint)
    try await bench.forwarding(path) { forwarder in
      try await gate.arrivals()
      #expect(try bench.savedOffset() == 0)
      gate.open()
      try await bench.until { try bench.savedOffset() == 8 }
      #expect(bench.messages() == ["one", "two"])
      let status = try await bench.status(forwarder)
      #expect(status.sentEvents == 2 && status.sentBytes == 58 && status.retries == 0 && status.behindBytes == 0)
      #expect(status.lastError == nil && status.waited == nil && status.lastAcknowledged != nil)
    }
    // The next start resumes there.
    bench.files.grow(path, by: "three\n")
    try await bench.forwarding(path) { _ in try await bench.until { bench.messages().count == 3 } }
    #expect(bench.messages() == ["one", "two", "three"])
  }

  @Test func `what a cancelled forwarder had not delivered is delivered after the next start`() async throws {
    let bench = ForwardingBench()
    bench.files.put(path, "1\n2\n")
    bench.aws.fail("PutLogEvents", .unreachable)
    try await bench.forwarding(path) { _ in try await bench.aws.call("PutLogEvents", number: 2) }
    bench.aws.recover("PutLogEvents")
    bench.files.grow(path, by: "3\n")
    try await bench.forwarding(path) { _ in try await bench.until { bench.messages() == ["1", "2", "3"] } }
  }

  /// The pauses double from half a second to half a minute, half of each at random; the service is never given up.
  @Test func `a service that throttles or fails is retried with growing pauses`() async throws {
    let bench = ForwardingBench()
    let deliveries = bench.recordDeliveries()
    bench.files.put(path, "1\n")
    bench.aws.refuse("PutLogEvents", .internalFailure, times: 4)
    bench.aws.refuse("PutLogEvents", .throttled, times: 4)
    try await bench.forwarding(path) { forwarder in
      try await bench.aws.call("PutLogEvents", number: 3)
      try await bench.clock.settle()
      #expect(try await bench.condition(forwarder) == .retrying)
      let status = try await bench.status(forwarder)
      #expect(status.retries == 3 && !status.isParked && status.waited ?? .zero > .zero)
      #expect(status.lastError?.hasPrefix("CloudWatchLogs PutLogEvents answered Throttling (HTTP 400") == true)
      try await bench.until { bench.messages() == ["1"] }
      #expect(try await bench.status(forwarder).retries == 8)
      try await bench.until { try await bench.condition(forwarder) == .ok }
    }
    let pauses = zip(deliveries.value, deliveries.value.dropFirst()).map { $1 - $0 }
    let bounds = [0.5, 1, 2, 4, 8, 16, 30, 30].map { Duration.seconds($0) }
    #expect(pauses.count == 8)
    #expect(zip(pauses, bounds).allSatisfy { $0 >= $1 / 2 && $0 <= $1 })
    #expect(bench.log == [])
  }

  // MARK: Dead letters

  /// The stream exists for the service already, so that the first call is PutLogEvents.
  private static func benchWithStream() -> ForwardingBench {
    let bench = ForwardingBench()
    bench.context.transport.on(ForwardingBench.endpoint) { request in
      request.header("X-Amz-Target") == "Logs_20140328.CreateLogStream"
        ? HTTPResponse(status: 200, body: []) : nil
    }
    return bench
  }

  /// Indices as the service may send them, hostile ones included: they must not trap.
  @Test(arguments: [
    (#""tooOldLogEventEndIndex":1"#, [0]), (#""tooNewLogEventStartIndex":2"#, [2]),
    (#""expiredLogEventEndIndex":1,"tooNewLogEventStartIndex":2"#, [0, 2]),
    (#""tooOldLogEventEndIndex":9223372036854775807"#, [0, 1, 2]),
    (#""tooNewLogEventStartIndex":-9223372036854775808"#, [0, 1, 2]),
    (#""tooNewLogEventStartIndex":9223372036854775807,"expiredLogEventEndIndex":-1"#, []),
    (#""tooOldLogEventEndIndex":1e300"#, []),
  ])
  func `events that the service rejects are kept as dead letters and counted`(
    _ rejected: String, _ expected: [Int]
  ) async throws {
    let bench = Self.benchWithStream()
    bench.files.put(path, "0\n1\n2\n")
    Self.rejectPutLogEvents(bench, rejected)
    try await bench.forwarding(path) { forwarder in
      try await bench.until { try bench.savedOffset() == 6 }
      let status = try await bench.status(forwarder)
      #expect(status.rejected == Int64(expected.count) && status.sentEvents == Int64(3 - expected.count))
      #expect(status.sentBytes == Int64(3 - expected.count) * 27 && status.losses == SourceLosses())
    }
    let letters = bench.files.text(ForwardingBench.deadLetters)
    let time = bench.context.clock.wall().milliseconds
    #expect((letters == nil) == expected.isEmpty)
    if let letters {
      let value = try JSONValue(parsing: letters)
      #expect(value["source"] == .string(name))
      let events = value["events"]?.array ?? []
      #expect(events.map { $0["message"]?.string } == expected.map { String($0) })
      #expect(events.allSatisfy { $0["timestamp"]?.integer ?? 0 <= time })
    }
    let message = "warning CloudWatch Logs rejected events of \(name); they are kept in the dead-letter file"
    #expect(
      bench.log
        == (expected.isEmpty ? [] : [message + " count=\(expected.count) file=\"\(ForwardingBench.deadLetters)\""]))
  }

  private static func rejectPutLogEvents(_ bench: ForwardingBench, _ rejected: String) {
    bench.context.transport.on(ForwardingBench.endpoint) { request in
      guard request.header("X-Amz-Target") == "Logs_20140328.PutLogEvents" else { return nil }
      let body = #"{"rejectedLogEventsInfo":{"# + rejected + "}}"
      return HTTPResponse(status: 200, body: Array(body.utf8))
    }
  }

  /// Regression: the error was reported as one of the checkpoint, which was not saved, and the events were not counted.
  @Test func `events that cannot be kept as dead letters count as lost`() async throws {
    let bench = Self.benchWithStream()
    bench.files.put(path, "0\n1\n")
    bench.files.fail(.append, ForwardingBench.deadLetters, errno: 28)
    Self.rejectPutLogEvents(bench, #""tooOldLogEventEndIndex":1"#)
    try await bench.forwarding(path) { forwarder in
      try await bench.until { try bench.savedOffset() == 4 }
      let status = try await bench.status(forwarder)
      #expect(status.rejected == 1 && status.losses.lines == 1 && status.losses.bytes == 27)
      #expect(try await bench.condition(forwarder) == .ok)
    }
    #expect(bench.log.count == 1)
    #expect(bench.log[0].contains("rejected events of \(name), and they cannot be kept in the dead-letter file"))
    #expect(bench.log[0].contains("No space left on device"))
  }

  // MARK: The end

  @Test func `the end delivers what is written by then, and closes the source`() async throws {
    let bench = ForwardingBench()
    let forwarder = bench.forwarder([name: .file(FilePattern(path)!)], flushInterval: .seconds(600))
    bench.files.put(path, "1\n")
    try await running(forwarder.run) {
      try await bench.until { try await bench.status(forwarder).behindBytes == 0 }
      bench.files.grow(path, by: "2\n")
      await forwarder.end(within: .seconds(60))
      #expect(bench.messages() == ["1", "2"])
      // Regression: a stream kept its source, and with it the file, as long as its forwarder lived.
      #expect(bench.files.openFileCount == 0)
      #expect(try await bench.status(forwarder).sentEvents == 2)
    }
  }

  @Test func `the end waits no longer than its deadline`() async throws {
    let bench = ForwardingBench()
    let forwarder = bench.forwarder([name: .file(FilePattern(path)!)])
    bench.files.put(path, "1\n")
    bench.aws.fail("PutLogEvents", .unreachable)
    try await running(forwarder.run) {
      try await bench.aws.call("PutLogEvents")
      let start = bench.clock.uptime()
      await forwarder.end(within: .seconds(10))
      #expect(bench.clock.uptime() - start == .seconds(10))
    }
    #expect(bench.files.openFileCount == 0)
  }

  /// Regression: the wait of a cancelled caller was a busy loop until the deadline.
  @Test func `the end also delivers if its caller is cancelled`() async throws {
    let bench = ForwardingBench()
    let forwarder = bench.forwarder([name: .file(FilePattern(path)!)], flushInterval: .seconds(600))
    bench.files.put(path, "1\n")
    try await running(forwarder.run) {
      try await bench.until { try await bench.status(forwarder).behindBytes == 0 }
      let caller = Task {
        try? await bench.clock.sleep(for: .seconds(3600))
        await forwarder.end(within: .seconds(60))
      }
      try await bench.clock.sleep(for: .seconds(1))
      caller.cancel()
      await caller.value
      #expect(bench.messages() == ["1"] && bench.clock.uptime() < .seconds(10))
    }
  }

  // MARK: Time stamps and records

  @Test func `a time that the service would reject becomes the time of reading`() async throws {
    let bench = ForwardingBench()
    let now = bench.clock.wall()
    bench.files.put(path, "0001-01-01T00:00:00Z zero\n\((now + .seconds(3 * 3600)).iso8601) ahead\n1767225540 fine\n")
    try await bench.forwarding(path) { _ in
      try await bench.until { bench.messages().count == 3 }
    }
    let call = try await bench.aws.call("PutLogEvents")
    let events = try JSONValue(parsing: call.parameters["logEvents"] ?? "").array ?? []
    #expect(events.map { $0["timestamp"]?.integer } == [1_767_225_540_000, now.milliseconds, now.milliseconds])
  }

  @Test func `a record is delivered a second after its last line`() async throws {
    let bench = ForwardingBench()
    let deliveries = bench.recordDeliveries()
    bench.files.put(path, "2026 a\n  b\n2026 c\n  d\n")
    try await bench.forwarding(path, flushInterval: .zero) {
      $0.recordStart = FakePattern("^[0-9]{4} ")
    } _: { _ in
      try await bench.until { bench.messages() == ["2026 a\n  b", "2026 c\n  d"] }
    }
    #expect(deliveries.value == [.zero, .seconds(1)])
  }
}
