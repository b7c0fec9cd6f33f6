import AWS
import Base
import Foundation
import Host
import Synchronization
import Testing

@testable import LogForwarding

/// Time that passes two hundred times as fast.
private struct FastClock: Clock {
  static let speed = 200
  static let begin = ContinuousClock.now

  var now: ContinuousClock.Instant { ContinuousClock.now }
  var minimumResolution: Duration { .nanoseconds(1) }

  func sleep(until deadline: ContinuousClock.Instant, tolerance: Duration?) async throws {
    try await Task.sleep(for: now.duration(to: deadline) / Self.speed)
  }

  static func wall() -> Timestamp { Timestamp(seconds: 1_700_000_000) + begin.duration(to: .now) * speed }
}

/// Takes everything.
private struct ObligingService: HTTPTransport {
  func send(_ request: HTTPRequest) async throws -> HTTPResponse { HTTPResponse(status: 200, body: Array("{}".utf8)) }
}

@Suite struct LogForwarderTests {
  /// Where each day has a file of its own, streams, handles and places would grow for ever.
  @Test func `a file whose name does not come back is sent to its end, and forgotten`() async throws {
    let directory = FileManager.default.temporaryDirectory.appending(path: "days-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let log = Logger(level: .error, sink: Console(format: .text, environment: [:])), transport = ObligingService()
    let credentials = CredentialCache(
      providers: [
        EnvironmentCredentials(environment: ["AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example"])
      ], now: FastClock.wall)
    let client = AWSClient(
      region: "eu-west-1", endpoints: EndpointResolver(environment: [:]), credentials: credentials,
      transport: transport,
      retries: RetrySettings(), clock: FastClock(), uptime: Machine.uptime, now: FastClock.wall,
      log: log)
    let forwarder = LogForwarder(
      [
        .init(
          name: "file:\(directory)/*.log", input: .file(pattern: "\(directory)/*.log"), group: "g", stream: "{source}")
      ], memory: 8 << 20,
      flushInterval: .seconds(1), client: client, files: LocalFileStore(),
      launcher: PosixProcessLauncher(environment: [:]),
      stateDirectory: directory, clock: FastClock(),
      now: FastClock.wall, log: log)
    let work = Task { await forwarder.run() }
    defer { work.cancel() }
    func until(_ condition: () async throws -> Bool) async throws {
      for _ in 0..<500 {
        if try await condition() { return }
        try await Task.sleep(for: .milliseconds(10))
      }
      Issue.record("not within 5 s")
    }
    func names() async -> [String: Int64] {
      Dictionary(
        await forwarder.status().map { (String($0.source.split(separator: "/").last!), $0.sentEvents) },
        uniquingKeysWith: { $1 })
    }
    let first = directory + "/monday.log"
    try Data("1\n2\n".utf8).write(to: URL(filePath: first))
    try await until { await names() == ["monday.log": 2] }
    // With what was written last.
    let writer = try FileHandle(forWritingTo: URL(filePath: first))
    try writer.seekToEnd()
    try FileManager.default.removeItem(atPath: first)
    try writer.write(contentsOf: Data("3\n".utf8))
    try Data("1\n".utf8).write(to: URL(filePath: directory + "/tuesday.log"))
    try await until { await names() == ["monday.log": 3, "tuesday.log": 1] }
    try await until { await names() == ["tuesday.log": 1] }
    let kept = try String(contentsOfFile: directory + "/log-checkpoints.json", encoding: .utf8)
    #expect(kept.contains("tuesday.log") && !kept.contains("monday.log"))
    await forwarder.end(within: .seconds(600))
  }
}
