import Base
import Testing

@testable import LogForwarding

@Suite struct ForwardingReportTests {
  private static let time = Timestamp(iso8601: "2026-01-02T03:04:05.678Z")!

  private static func report() -> ForwardingReport {
    var status = LogStreamStatus(source: "file:/var/log/app.log", group: "g", stream: "s")
    status.sentEvents = 7
    status.sentBytes = 207
    status.retries = 2
    status.rejected = 1
    status.losses.lines = 3
    status.losses.bytes = 33
    status.losses.files = 1
    status.lastAcknowledged = time
    status.lastError = "denied"
    status.isParked = true
    status.behindBytes = 12
    status.oldestUnsent = time + .seconds(-9)
    status.waitingSince = time + .seconds(-8)
    status.waited = .seconds(8)
    var agent = LogAgentReport(
      name: "awslogs", isRunning: false, streams: [.init(source: "a", group: "g", stream: "s")])
    agent.error = "no systemctl"
    return ForwardingReport(time: time, pid: 17, streams: [status], agent: agent)
  }

  @Test func `the report as JSON`() throws {
    let report = Self.report()
    #expect(
      report.json["streams"]?.array?.first == [
        "source": "file:/var/log/app.log", "group": "g", "stream": "s", "condition": "parked", "sent_events": 7,
        "sent_bytes": 207, "retries": 2, "rejected_events": 1, "lost_lines": 3, "lost_bytes": 33, "lost_files": 1,
        "last_acknowledged": "2026-01-02T03:04:05.678Z", "last_error": "denied", "behind_bytes": 12, "lag_seconds": 9,
        "waiting_since": "2026-01-02T03:03:57.678Z",
      ])
    let read = try #require(ForwardingReport(json: try JSONValue(parsing: report.json.prettyText)))
    #expect(read.json == report.json && read.pid == 17)
    #expect(
      read.problems(at: Self.time).map(\.message) == [
        "file:/var/log/app.log is parked: denied", "awslogs is not running (no systemctl)",
      ])
  }

  /// Regression: a stream with a condition that is not known was left out, and `status --check` ended with 0.
  @Test(arguments: ["streams", "agent", "agent's streams"])
  func `a report with a part that is none is no report`(_ part: String) throws {
    var json = try #require(Self.report().json.object)
    switch part {
    case "streams": json["streams"] = .array([.object(["source": "x", "condition": "exploded"])])
    case "agent": json["agent"] = .object(["name": "awslogs"])
    default:
      var agent = try #require(json["agent"]?.object)
      agent["streams"] = .array([.object(["source": "x"])])
      json["agent"] = .object(agent)
    }
    #expect(ForwardingReport(json: .object(json)) == nil)
  }

  /// The file may hold any number: `status` adds them up.
  @Test(arguments: [Int64.max, .min, -1])
  func `numbers that are no counters are bounded`(_ number: Int64) throws {
    var json = try #require(Self.report().json.object)
    var stream = try #require(json["streams"]?.array?.first?.object)
    let keys = [
      "sent_events", "sent_bytes", "retries", "rejected_events", "lost_lines", "lost_bytes", "lost_files",
      "behind_bytes", "lag_seconds",
    ]
    for key in keys { stream[key] = .integer(number) }
    json["streams"] = .array([.object(stream)])
    json["pid"] = .integer(number)
    let report = try #require(ForwardingReport(json: .object(json)))
    let status = try #require(report.streams.first?.status)
    let sum =
      status.retries + status.rejected + status.losses.lines + status.losses.bytes + status.losses.files
      + status.sentEvents + status.sentBytes + (status.behindBytes ?? 0)
    #expect(sum == (number < 0 ? 0 : 8 * (1 << 53)))
    #expect(report.streams[0].lag == (number < 0 ? .zero : .seconds(1 << 53)))
    #expect(!report.prometheus.isEmpty && !report.streams[0].lag.humanReadable.isEmpty)
  }

  @Test(arguments: [
    (false, Duration?.none, String?.none, false, ForwardingReport.Stream.Condition.ok),
    (false, .none, .none, true, .waiting), (false, .seconds(1), .none, false, .ok),
    (false, .seconds(299), "throttled", false, .retrying), (false, .seconds(300), "throttled", false, .stalled),
    (false, .seconds(300), .none, false, .stalled), (true, .seconds(300), "denied", false, .parked),
    (true, .none, "no such directory", true, .parked),
  ])
  func `the condition of a stream`(
    _ isParked: Bool, _ waited: Duration?, _ lastError: String?, _ isWaiting: Bool,
    _ condition: ForwardingReport.Stream.Condition
  ) {
    var status = LogStreamStatus(source: "a", group: "g", stream: "s")
    status.isParked = isParked
    status.waited = waited
    status.lastError = lastError
    status.isWaiting = isWaiting
    #expect(ForwardingReport.Stream.Condition(of: status) == condition)
  }

  @Test func `the report for Prometheus`() {
    let lines = Self.report().prometheus.split(separator: "\n").filter { !$0.hasPrefix("#") }.map(String.init)
    let label = #"{source="file:/var/log/app.log"}"#, prefix = "consul_bootstrap_log_"
    #expect(
      lines == [
        "\(prefix)sent_events_total\(label) 7", "\(prefix)sent_bytes_total\(label) 207",
        "\(prefix)retries_total\(label) 2", "\(prefix)rejected_events_total\(label) 1",
        "\(prefix)lost_lines_total\(label) 3", "\(prefix)lost_bytes_total\(label) 33",
        "\(prefix)lag_seconds\(label) 9", "\(prefix)behind_bytes\(label) 12",
        "\(prefix)last_acknowledged_timestamp_seconds\(label) 1767323045", "\(prefix)healthy\(label) 0",
        "\(prefix)agent_running 0", "\(prefix)agent_healthy{source=\"a\"} 1",
      ])
  }
}
