import AWS
import Base
import TestSupport
import Testing

@testable import LogForwarding

private let path = "/var/log/app.log", name = "file:/var/log/app.log"

/// Regression: intervals and deadlines were measured on the wall clock. With the clock set back by an hour, nothing was
/// flushed for an hour, the end waited as long, and the status was ok.
@Suite(.timeLimit(.minutes(5))) struct WallClockTests {
  @Test(arguments: [-3600, 3600])
  func `the flush interval does not change when the clock is set`(_ seconds: Int) async throws {
    let bench = ForwardingBench()
    let deliveries = bench.recordDeliveries()
    bench.files.put(path, "1\n")
    try await bench.forwarding(path, flushInterval: .seconds(10)) { _ in
      try await bench.clock.sleep(for: .seconds(5))
      bench.clock.setWall(by: .seconds(seconds))
      try await bench.until(within: .seconds(30)) { bench.messages() == ["1"] }
    }
    #expect(deliveries.value == [.seconds(10)])
  }

  @Test func `a record is complete a second after its last line, also when the clock is set back`() async throws {
    let bench = ForwardingBench()
    let deliveries = bench.recordDeliveries()
    bench.files.put(path, "a\n b\n")
    try await bench.forwarding(path, flushInterval: .zero) {
      $0.recordStart = FakePattern("^[^ ]")
    } _: { _ in
      try await bench.clock.sleep(for: .milliseconds(600))
      bench.clock.setWall(by: .seconds(-3600))
      try await bench.until(within: .seconds(30)) { bench.messages() == ["a\n b"] }
    }
    #expect(deliveries.value == [.seconds(1)])
  }

  @Test func `the end waits for its deadline only, also when the clock is set back`() async throws {
    let bench = ForwardingBench()
    let forwarder = bench.forwarder([name: .file(FilePattern(path)!)])
    bench.files.put(path, "1\n")
    bench.aws.fail("PutLogEvents", .unreachable)
    try await running(forwarder.run) {
      try await bench.aws.call("PutLogEvents")
      let start = bench.clock.uptime()
      async let setting: Void = {
        try? await bench.clock.sleep(for: .seconds(1))
        bench.clock.setWall(by: .seconds(-3600))
      }()
      await forwarder.end(within: .seconds(10))
      await setting
      #expect(bench.clock.uptime() - start == .seconds(10))
    }
  }

  @Test func `an event counts as stalled after five minutes of monotonic time`() async throws {
    let bench = ForwardingBench()
    bench.files.put(path, "1\n")
    bench.aws.fail("PutLogEvents", .unreachable)
    try await bench.forwarding(path) { forwarder in
      try await bench.aws.call("PutLogEvents")
      bench.clock.setWall(by: .seconds(3600))
      try await bench.clock.sleep(for: .seconds(5))
      #expect(try await bench.condition(forwarder) == .retrying)
      bench.clock.setWall(by: .seconds(-7200))
      try await bench.clock.sleep(for: .seconds(290))
      try await bench.until(within: .seconds(600)) { try await bench.condition(forwarder) == .stalled }
      // Up to the accuracy of the polls.
      let waited = try #require(try await bench.status(forwarder).waited)
      #expect(waited >= .seconds(300) && waited < .seconds(301))
    }
  }

  @Test func `the stream of a file that has disappeared ends after a minute, also when the clock is set back`()
    async throws
  {
    let bench = ForwardingBench()
    bench.files.put(path, "1\n")
    try await bench.forwarding("/var/log/*.log") { forwarder in
      try await bench.until { bench.messages() == ["1"] }
      bench.files.delete(path)
      let start = bench.clock.uptime()
      try await bench.clock.sleep(for: .seconds(10))
      bench.clock.setWall(by: .seconds(-3600))
      try await bench.until { await !forwarder.status().contains { $0.source == name } }
      let time = bench.clock.uptime() - start
      #expect(time >= .seconds(60) && time < .seconds(66))
    }
  }

  // MARK: The report, which another process reads

  private static let now = Timestamp(iso8601: "2026-01-02T03:04:05Z")!

  @Test(arguments: [
    (0, []), (45, []), (-45, []), (46, ["the sidecar has not reported since 2026-01-02T03:03:19.000Z"]),
    (
      -46,
      ["the sidecar has not reported since the clock was set back: its report is of 2026-01-02T03:04:51.000Z"]
    ),
  ])
  func `a report that is too old or from the future is a problem`(_ age: Int, _ problems: [String]) {
    let time = Self.now + .seconds(-age)
    let report = ForwardingReport(time: time, pid: 1, streams: [], agent: nil)
    #expect(report.problems(at: Self.now).map(\.message) == problems)
  }
}
