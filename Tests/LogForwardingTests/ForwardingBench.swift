import AWS
import Base
import TestSupport
import Testing

@testable import LogForwarding

/// A forwarder on fakes, with everything that it touches at hand.
struct ForwardingBench {
  let context: TestContext
  let aws: FakeAWS
  static let state = "/var/lib/consul-bootstrap"
  static let deadLetters = state + "/log-dead-letters.jsonl"
  static let checkpoints = state + "/log-checkpoints.json"
  static let endpoint = "https://logs.eu-west-1.amazonaws.com/"

  init(hasGroup: Bool = true) {
    context = TestContext(logLevel: .info)
    aws = FakeAWS(context)
    if hasGroup { aws.createLogStream(group: "g", stream: "other") }
    files.makeDirectory(Self.state)
    files.makeDirectory("/var/log")
  }

  var files: FakeFiles { context.files }
  var clock: TestClock { context.clock }
  /// Messages with their attributes, of level info and above.
  var log: [String] { context.sink.lines }

  func forwarder(
    _ inputs: [String: LogInput], flushInterval: Duration = .seconds(1), memory: Int = 8 << 20,
    _ change: (inout LogForwarder.Request) -> Void = { _ in }
  ) -> LogForwarder {
    let requests = inputs.sorted { $0.key < $1.key }.map { name, input in
      var request = LogForwarder.Request(name: name, input: input, group: "g", stream: "{source}")
      change(&request)
      return request
    }
    return LogForwarder(
      requests, memory: memory, flushInterval: flushInterval, client: aws.client(), files: files,
      launcher: context.launcher, stateDirectory: Self.state, clock: clock, uptime: clock.uptime, now: clock.wall,
      log: context.log)
  }

  /// Forwards files until the body returns, then cancels the forwarder.
  func forwarding(
    _ paths: String..., flushInterval: Duration = .seconds(1),
    _ change: (inout LogForwarder.Request) -> Void = { _ in },
    _ body: (LogForwarder) async throws -> Void
  ) async throws {
    let inputs = paths.map { ("file:\($0)", LogInput.file(FilePattern($0)!)) }
    let forwarder = forwarder(Dictionary(inputs) { $1 }, flushInterval: flushInterval, change)
    try await running(forwarder.run) { try await body(forwarder) }
  }

  /// Waits for a condition, polled four times per virtual second.
  func until(
    within time: Duration = .seconds(300), _ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation,
    _ condition: () async throws -> Bool
  ) async throws {
    let deadline = clock.uptime() + time
    while try await !condition() {
      if clock.uptime() >= deadline {
        Issue.record(comment ?? "not within \(time)", sourceLocation: sourceLocation)
        throw CancellationError()
      }
      try await clock.sleep(for: .milliseconds(250))
    }
  }

  /// What the stream of a file has received.
  func messages(_ path: String = "/var/log/app.log") -> [String] {
    aws.messages(group: "g", stream: String(path.dropFirst()))
  }

  /// When PutLogEvents was called, by the monotonic clock: records from now on.
  func recordDeliveries() -> Deliveries {
    let deliveries = Deliveries([])
    context.transport.on(Self.endpoint) { [clock] request in
      if request.header("X-Amz-Target") == "Logs_20140328.PutLogEvents" {
        deliveries.update { $0.append(clock.uptime()) }
      }
      return nil
    }
    return deliveries
  }

  typealias Deliveries = Watched<[Duration]>

  /// Waits until the stream exists.
  func status(of name: String = "file:/var/log/app.log", _ forwarder: LogForwarder) async throws -> LogStreamStatus {
    var found: LogStreamStatus?
    try await until("no stream \(name)") {
      found = await forwarder.status().first { $0.source == name }
      return found != nil
    }
    return try #require(found)
  }

  func condition(
    of name: String = "file:/var/log/app.log", _ forwarder: LogForwarder
  ) async throws -> ForwardingReport.Stream.Condition {
    ForwardingReport.Stream.Condition(of: try await status(of: name, forwarder))
  }

  /// Offset of the saved checkpoint of a file; nil if there is none.
  func savedOffset(_ path: String = "/var/log/app.log") throws -> Int64? {
    guard let bytes = files.bytes(Self.checkpoints) else { return nil }
    guard case .file(let position)? = try CheckpointStore.parse(bytes)["file:\(path)"] else { return nil }
    return position.offset
  }
}
