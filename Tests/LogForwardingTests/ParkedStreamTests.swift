import AWS
import Base
import TestSupport
import Testing

@testable import LogForwarding

private let path = "/var/log/app.log", name = "file:/var/log/app.log"
private let isParked = "warning log forwarding of \(name) is parked reason=",
  hasResumed =
    "info log forwarding of \(name) has resumed"

/// Parked: an error that is not retryable. Each activity is parked until it succeeds again.
@Suite(.timeLimit(.minutes(5))) struct ParkedStreamTests {
  @Test func `a missing permission parks the stream, is logged once, and ends the parking when it is granted`()
    async throws
  {
    let bench = ForwardingBench()
    let deliveries = bench.recordDeliveries()
    bench.files.put(path, "1\n")
    bench.aws.refuse("PutLogEvents", .accessDenied, times: 3)
    try await bench.forwarding(path) { forwarder in
      try await bench.aws.call("PutLogEvents", number: 2)
      try await bench.clock.settle()
      #expect(try await bench.condition(forwarder) == .parked)
      let report = ForwardingReport(time: bench.clock.wall(), pid: 1, streams: await forwarder.status(), agent: nil)
      let reason =
        "cannot send \(name) to g: access denied: CloudWatchLogs PutLogEvents answered AccessDenied (HTTP 403): "
        + "not authorized; hint: allow logs:PutLogEvents for role web-node"
      #expect(report.problems(at: bench.clock.wall()).map(\.message) == ["\(name) is parked: \(reason)"])
      #expect(bench.log == [isParked + "\"\(reason)\""])
      try await bench.until { bench.messages() == ["1"] }
      try await bench.until { try await bench.condition(forwarder) == .ok }
      #expect(bench.log.last == hasResumed && bench.log.count == 2)
    }
    // Once a minute.
    #expect(
      zip(deliveries.value, deliveries.value.dropFirst()).map { $1 - $0 } == [.seconds(60), .seconds(60), .seconds(60)])
  }

  /// Regression: AWS's request ID made each attempt a new reason, a new problem and the end of the one before.
  @Test func `a denial is one problem, whatever the request ID`() async throws {
    let bench = ForwardingBench()
    bench.files.put(path, "1\n")
    bench.aws.numberRequests()
    bench.aws.refuse("PutLogEvents", .accessDenied)
    try await bench.forwarding(path) { forwarder in
      try await bench.aws.call("PutLogEvents", number: 1)
      try await bench.clock.settle()
      let first = await forwarder.status().map(\.lastError)
      #expect(first.first??.contains("request-") == true)
      try await bench.aws.call("PutLogEvents", number: 4)
      try await bench.clock.settle()
      #expect(await forwarder.status().map(\.lastError) == first)
      #expect(bench.log.count == 1)
    }
  }

  @Test func `an error that is retryable again ends the parking in the status`() async throws {
    let bench = ForwardingBench()
    bench.files.put(path, "1\n")
    bench.aws.refuse("PutLogEvents", .throttled, times: 2)
    bench.aws.refuse("PutLogEvents", .accessDenied, times: 1)
    try await bench.forwarding(path) { forwarder in
      try await bench.aws.call("PutLogEvents", number: 2)
      try await bench.clock.settle()
      #expect(try await bench.condition(forwarder) == .retrying)
      try await bench.until { bench.messages() == ["1"] }
      #expect(bench.log.map { $0.hasPrefix(isParked) } == [true, false] && bench.log.last == hasResumed)
    }
  }

  /// Regression: a stream that a read error had parked stayed parked until the next acknowledged batch.
  @Test func `the next successful read ends the parking by a read error, also if nothing new is written`() async throws
  {
    let bench = ForwardingBench()
    bench.files.put(path, "1\n")
    try await bench.forwarding(path) { forwarder in
      try await bench.until { bench.messages() == ["1"] }
      bench.files.fail(.open, path, errno: 5)
      try await bench.until { try await bench.condition(forwarder) == .parked }
      #expect(
        try await bench.status(forwarder).lastError == "cannot read \(name): open \(path): Input/output error")
      bench.files.recover(.open, path)
      try await bench.until(within: .seconds(10)) { try await bench.condition(forwarder) == .ok }
      #expect(try await bench.status(forwarder).lastError == nil && bench.messages() == ["1"])
    }
    #expect(bench.log == [isParked + "\"cannot read \(name): open \(path): Input/output error\"", hasResumed])
  }

  /// Regression: an acknowledged batch ended the parking though the source still could not be read.
  @Test func `an acknowledged batch does not end the parking by a read error`() async throws {
    let bench = ForwardingBench()
    bench.files.put(path, "1\n")
    try await bench.forwarding(path, flushInterval: .seconds(10)) { forwarder in
      try await bench.until { try await bench.status(forwarder).behindBytes == 0 }
      bench.files.fail(.open, path, errno: 5)
      try await bench.until { bench.messages() == ["1"] }
      #expect(try await bench.condition(forwarder) == .parked)
    }
    #expect(bench.log.count == 1)
  }

  /// Regression: the stream stayed parked until the next acknowledged batch, whose checkpoint was saved.
  @Test func `a checkpoint that cannot be saved is retried without a new batch`() async throws {
    let bench = ForwardingBench()
    bench.files.put(path, "1\n")
    try await bench.forwarding(path) { forwarder in
      try await bench.until { try bench.savedOffset() == 2 }
      bench.files.fail(.write, ForwardingBench.checkpoints, errno: 28)
      bench.files.grow(path, by: "2\n")
      try await bench.until { try await bench.condition(forwarder) == .parked }
      let reason =
        "cannot save the checkpoint of \(name): write \(ForwardingBench.checkpoints): No space left on device"
      #expect(try await bench.status(forwarder).lastError == reason)
      #expect(bench.messages() == ["1", "2"])
      try await bench.clock.sleep(for: .seconds(20))
      bench.files.recover(.write, ForwardingBench.checkpoints)
      try await bench.until(within: .seconds(10)) { try bench.savedOffset() == 4 }
      try await bench.until { try await bench.condition(forwarder) == .ok }
      #expect(bench.log == [isParked + "\"\(reason)\"", hasResumed])
    }
  }

  /// Regression: the error was reported as one of the source.
  @Test func `nothing is sent before the first checkpoint can be saved`() async throws {
    let bench = ForwardingBench()
    bench.files.put(path, "1\n")
    bench.files.fail(.write, ForwardingBench.checkpoints, errno: 28, times: 3)
    try await bench.forwarding(path) { forwarder in
      try await bench.until { try await bench.condition(forwarder) == .parked }
      #expect(bench.aws.calls == [])
      try await bench.until { bench.messages() == ["1"] }
    }
    #expect(bench.log.first?.contains("cannot save the checkpoint of \(name)") == true && bench.log.last == hasResumed)
  }

  // MARK: Files that are missing or unreadable

  @Test func `a missing file is shown as waiting, which is not a problem, until it appears`() async throws {
    let bench = ForwardingBench()
    try await bench.forwarding(path) { forwarder in
      try await bench.until { try await bench.condition(forwarder) == .waiting }
      let status = try await bench.status(forwarder)
      let report = ForwardingReport(time: bench.clock.wall(), pid: 1, streams: [status], agent: nil)
      #expect(report.problems(at: bench.clock.wall()).map(\.message) == [] && status.lastError == nil)
      #expect(report.streams[0].condition.humanReadable == "waiting for the file")
      bench.files.put(path, "1\n")
      try await bench.until { bench.messages() == ["1"] }
      #expect(try await bench.condition(forwarder) == .ok)
    }
    #expect(bench.log == [])
  }

  @Test func `a file that cannot be opened is a problem, until it can`() async throws {
    let bench = ForwardingBench()
    bench.files.put(path, "1\n")
    bench.files.fail(.open, path, errno: 13)
    try await bench.forwarding(path) { forwarder in
      try await bench.until { try await bench.condition(forwarder) == .parked }
      #expect(try await bench.status(forwarder).lastError == "cannot read \(name): open \(path): Permission denied")
      bench.files.recover(.open, path)
      try await bench.until { bench.messages() == ["1"] }
      #expect(try await bench.condition(forwarder) == .ok && bench.log.last == hasResumed)
    }
  }

  // MARK: Creation of group and stream

  @Test func `a missing group is created with its retention and tags, and then the stream`() async throws {
    let bench = ForwardingBench(hasGroup: false)
    bench.files.put(path, "1\n")
    try await bench.forwarding(path) {
      $0.retention = 14
      $0.tags = ["team": "platform"]
    } _: { _ in
      try await bench.until { bench.messages() == ["1"] }
    }
    #expect(
      bench.aws.calls.map(\.action)
        == ["CreateLogStream", "CreateLogGroup", "PutRetentionPolicy", "CreateLogStream", "PutLogEvents"])
    #expect(bench.aws.calls("CreateLogGroup")[0].parameters["tags"] == #"{"team":"platform"}"#)
    #expect(bench.aws.retentionDays(group: "g") == 14 && bench.log == [])
  }

  @Test func `a retention that may not be set does not stop the stream`() async throws {
    let bench = ForwardingBench(hasGroup: false)
    bench.files.put(path, "1\n")
    bench.aws.refuse("PutRetentionPolicy", .accessDenied)
    try await bench.forwarding(path) {
      $0.retention = 14
    } _: { _ in
      try await bench.until { bench.messages() == ["1"] }
    }
    #expect(bench.log.count == 1)
    #expect(bench.log[0].hasPrefix("warning cannot set the retention of g: access denied reason="))
  }

  @Test func `a stream that may not be created is used if it exists`() async throws {
    let bench = ForwardingBench()
    bench.aws.createLogStream(group: "g", stream: "var/log/app.log")
    bench.aws.refuse("CreateLogStream", .accessDenied)
    bench.files.put(path, "1\n")
    try await bench.forwarding(path) { forwarder in
      try await bench.until { bench.messages() == ["1"] }
      #expect(try await bench.condition(forwarder) == .ok)
    }
    let message = "warning cannot create stream var/log/app.log in g: access denied; assuming that it exists reason="
    #expect(bench.log.count == 1 && bench.log[0].hasPrefix(message))
  }

  @Test func `a stream that may not be created and is missing parks the stream, until it exists`() async throws {
    let bench = ForwardingBench()
    bench.aws.refuse("CreateLogStream", .accessDenied)
    bench.files.put(path, "1\n")
    try await bench.forwarding(path) { forwarder in
      try await bench.until { try await bench.condition(forwarder) == .parked }
      #expect(
        try await bench.status(forwarder).lastError?.hasSuffix(
          "hint: allow logs:CreateLogStream for role web-node") == true)
      bench.aws.createLogStream(group: "g", stream: "var/log/app.log")
      try await bench.until { bench.messages() == ["1"] }
      try await bench.until { try await bench.condition(forwarder) == .ok }
      #expect(bench.log.last == hasResumed)
    }
  }

  @Test func `a group that may not be created parks the stream, until it exists`() async throws {
    let bench = ForwardingBench(hasGroup: false)
    bench.aws.refuse("CreateLogGroup", .accessDenied)
    bench.files.put(path, "1\n")
    try await bench.forwarding(path) { forwarder in
      try await bench.until { try await bench.condition(forwarder) == .parked }
      #expect(try await bench.status(forwarder).lastError?.contains("allow logs:CreateLogGroup") == true)
      bench.aws.createLogStream(group: "g", stream: "other")
      try await bench.until { bench.messages() == ["1"] }
    }
  }

  @Test func `a stream that is deleted while it is used is created again`() async throws {
    let bench = ForwardingBench()
    bench.files.put(path, "1\n")
    try await bench.forwarding(path) { forwarder in
      try await bench.until { bench.messages() == ["1"] }
      bench.aws.refuse("PutLogEvents", .init(status: 400, code: "ResourceNotFoundException"), times: 1)
      bench.files.grow(path, by: "2\n")
      try await bench.until { bench.messages() == ["1", "2"] }
      #expect(bench.aws.calls("CreateLogStream").count == 2)
    }
    #expect(bench.log == [])
  }
}
