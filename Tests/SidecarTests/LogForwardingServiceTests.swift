import AWS
import Base
import Consul
import LogForwarding
import Model
import TestSupport
import Testing

@testable import Observers
@testable import Sidecar

/// The log side of a sidecar on i-0aaa: one file is forwarded to the existing group.
struct LogFixture: Sendable {
  let context = TestContext(logLevel: .info)
  let aws: FakeAWS
  var settings = Settings()
  static let path = "/var/log/app.log", report = "/var/lib/consul-bootstrap/log-status.json"

  init() {
    aws = FakeAWS(context)
    settings.logs = [.init(source: .file(FilePattern(Self.path)!))]
    settings.logGroup = "g"
    settings.logStream = "{source}"
    aws.createLogStream(group: "g", stream: "other")
    context.files.makeDirectory("/var/lib/consul-bootstrap")
    context.files.put(Self.path, "1\n")
  }

  var service: LogForwardingService {
    let identity = Identity(
      instanceID: "i-0aaa", region: "eu-west-1", availabilityZone: "eu-west-1a", privateIP: IPv4Address("10.0.1.10")!,
      vpcID: "vpc-1")
    let instance = LocatedInstance(
      identity: identity, client: aws.client(),
      binary: MachineObserver.Binary(path: "/usr/bin/consul", version: ConsulVersion(1, 20, 1)))
    return LogForwardingService(settings: settings, context: context.context, instance: instance, spool: nil)
  }

  var messages: [String] { aws.messages(group: "g", stream: "var/log/app.log") }

  /// The report that `status` reads.
  func readReport() throws -> ForwardingReport? {
    guard let bytes = context.files.bytes(Self.report) else { return nil }
    return ForwardingReport(json: try JSONValue(parsing: bytes))
  }

  func until(within time: Duration = .seconds(120), _ condition: () async throws -> Bool) async throws {
    let deadline = context.clock.uptime() + time
    while try await !condition() {
      guard context.clock.uptime() < deadline else {
        Issue.record("not within \(time)")
        throw CancellationError()
      }
      try await context.clock.sleep(for: .milliseconds(500))
    }
  }
}

@Suite(.timeLimit(.minutes(5))) struct LogForwardingServiceTests {
  /// Regression: with the clock set back by an hour, an unchanged report was not renewed for an hour, and `status`
  /// showed it as current.
  @Test func `an unchanged report is renewed by the monotonic clock, with a time stamp of the wall clock`() async throws
  {
    let fixture = LogFixture()
    try await running(fixture.service.run) {
      try await fixture.until { try fixture.readReport()?.streams.first?.status.sentEvents == 1 }
      let before = try #require(try fixture.readReport()).time
      fixture.context.clock.setWall(by: .seconds(-3600))
      try await fixture.context.clock.sleep(for: .seconds(20))
      let after = try #require(try fixture.readReport()).time
      #expect(after < before)
      #expect(fixture.context.clock.wall() - after <= ForwardingReport.renewal + .seconds(2))
      #expect(try #require(try fixture.readReport()).problems(at: fixture.context.clock.wall()).isEmpty)
    }
  }

  @Test func `a problem is logged once, and its end`() async throws {
    let fixture = LogFixture()
    fixture.context.files.fail(.open, LogFixture.path, errno: 13)
    try await running(fixture.service.run) {
      try await fixture.until { try fixture.readReport()?.streams.first?.condition == .parked }
      try await fixture.context.clock.sleep(for: .seconds(10))
      fixture.context.files.recover(.open, LogFixture.path)
      try await fixture.until { try fixture.readReport()?.streams.first?.condition == .ok }
    }
    let reason = "cannot read file:/var/log/app.log: open /var/log/app.log: Permission denied"
    #expect(
      fixture.context.sink.lines == [
        "warning log forwarding of file:/var/log/app.log is parked reason=\"\(reason)\"",
        "warning log forwarding: file:/var/log/app.log is parked: \(reason)",
        "info log forwarding of file:/var/log/app.log has resumed",
        "info log forwarding: resolved: file:/var/log/app.log is parked: \(reason)",
      ])
  }

  /// Regression: logged for debugging only.
  @Test func `a report that cannot be written is logged once`() async throws {
    let fixture = LogFixture()
    fixture.context.files.fail(.write, LogFixture.report, errno: 28)
    try await running(fixture.service.run) {
      try await fixture.until { fixture.messages == ["1"] }
      try await fixture.context.clock.sleep(for: .seconds(40))
      fixture.context.files.recover(.write, LogFixture.report)
      try await fixture.until { try fixture.readReport() != nil }
    }
    #expect(
      fixture.context.sink.lines == [
        "warning cannot write the report of the log forwarding "
          + "reason=\"write \(LogFixture.report): No space left on device\""
      ])
  }

  @Test(arguments: [-3600, 0])
  func `a flush waits for the deadline only, also when the clock is set back`(_ seconds: Int) async throws {
    let fixture = LogFixture()
    fixture.aws.fail("PutLogEvents", .unreachable)
    let service = fixture.service
    try await running(service.run) {
      try await fixture.aws.call("PutLogEvents")
      let start = fixture.context.clock.uptime()
      fixture.context.clock.setWall(by: .seconds(seconds))
      await service.flush(within: .seconds(5))
      #expect(fixture.context.clock.uptime() - start == .seconds(5))
    }
  }

  /// Regression: the wait of a cancelled caller was a busy loop until the deadline.
  @Test func `a flush also delivers if its caller is cancelled before the forwarder exists`() async throws {
    var fixture = LogFixture()
    fixture.settings.logGroup = "{group}"
    fixture.settings.flushInterval = .seconds(600)
    fixture.settings.flushTimeout = .seconds(60)
    fixture.aws.setGroups([FakeGroup("g", desired: 1)])
    fixture.aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10", group: "g")])
    fixture.aws.refuse("DescribeAutoScalingInstances", .accessDenied, times: 1)
    let service = fixture.service
    try await running(service.run) { [fixture] in
      try await fixture.aws.call("DescribeAutoScalingInstances")
      let caller = Task { await service.flush(within: .seconds(60)) }
      caller.cancel()
      await caller.value
      #expect(fixture.messages == ["1"])
    }
    #expect(fixture.context.sink.records(.warning).map(\.message) == ["logs are not forwarded yet"])
  }

  // MARK: Names

  /// Guards against logs in a stream of another name while AWS does not name the group.
  @Test func `the logs wait for the group's name while AWS fails, and the reason is logged once`() async throws {
    var fixture = LogFixture()
    fixture.settings.logGroup = "/consul/{group}"
    fixture.aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10")])
    fixture.aws.numberRequests()
    fixture.aws.refuse("DescribeAutoScalingInstances", .accessDenied, times: 3)
    try await running(fixture.service.run) { [fixture] in
      try await fixture.aws.call("DescribeAutoScalingInstances", number: 4)
      #expect(fixture.context.clock.uptime() == .seconds(30))
      let logStreams = fixture.aws.logStreams
      #expect(logStreams == ["g": ["other"]])
      try await fixture.until { fixture.aws.logStreams["/consul/web"] == ["var/log/app.log"] }
    }
    #expect(
      fixture.context.sink.lines == [
        "warning logs are not forwarded yet reason=\"cannot find this instance's group for the log's name: access "
          + "denied: AutoScaling DescribeAutoScalingInstances answered AccessDenied (HTTP 403, request request-1): "
          + "not authorized; hint: allow autoscaling:DescribeAutoScalingInstances for role web-node\""
      ])
  }

  @Test func `an instance in no group has logs of its own name`() async throws {
    var fixture = LogFixture()
    fixture.settings.logGroup = "/consul/{group}"
    fixture.aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10", group: nil)])
    try await running(fixture.service.run) { [fixture] in
      try await fixture.until { fixture.aws.logStreams["/consul/no-group"] == ["var/log/app.log"] }
    }
  }

  @Test func `a service that waits for the group's name ends when it is cancelled`() async throws {
    var fixture = LogFixture()
    fixture.settings.logGroup = "/consul/{group}"
    fixture.aws.refuse("DescribeAutoScalingInstances", .accessDenied)
    try await running(fixture.service.run) { [fixture] in
      try await fixture.aws.call("DescribeAutoScalingInstances", number: 2)
    }
    #expect(fixture.aws.logStreams == ["g": ["other"]])
  }

  @Test func `without logs nothing runs`() async {
    var fixture = LogFixture()
    fixture.settings.logs = []
    fixture.settings.metricsAddress = .loopback(port: 1)
    await fixture.service.run()
    #expect(fixture.context.files.changes.isEmpty && fixture.aws.calls.isEmpty)
  }

  // MARK: Report and metrics

  /// Guards against a report written every two seconds, and against one that `status` takes for stale.
  @Test func `the report is written when it has changed, and otherwise every 15 seconds`() async throws {
    let fixture = LogFixture(), clock = fixture.context.clock
    func writes() -> Int {
      fixture.context.files.changes.count { $0 == .write(LogFixture.report, mode: 0o644, owner: nil) }
    }
    try await running(fixture.service.run) {
      try await fixture.until { try fixture.readReport()?.streams.first?.status.sentEvents == 1 }
      let before = writes()
      // Reports are due every two seconds: the first that is 15 s old comes after 16.
      try await clock.sleep(for: .seconds(15))
      #expect(writes() == before)
      try await clock.sleep(for: .seconds(2))
      #expect(writes() == before + 1)
      fixture.context.files.grow(LogFixture.path, by: "2\n")
      try await fixture.until(within: .seconds(5)) { try fixture.readReport()?.streams.first?.status.sentEvents == 2 }
      #expect(writes() >= before + 2)
    }
  }

  @Test func `the metrics are served while the service runs`() async throws {
    var fixture = LogFixture()
    let address = ServedAddress.loopback(port: 9107), textServer = fixture.context.textServer
    fixture.settings.metricsAddress = address
    textServer.allow(address)
    try await running(fixture.service.run) { [fixture] in
      try await fixture.until {
        textServer.text(at: address)?.contains(
          #"consul_bootstrap_log_sent_events_total{source="file:/var/log/app.log"} 1"#) == true
      }
      #expect(textServer.text(at: address)?.contains(#"_healthy{source="file:/var/log/app.log"} 1"#) == true)
    }
    #expect(textServer.text(at: address) == nil)
  }

  @Test func `metrics that cannot be served are logged, and the logs are forwarded`() async throws {
    var fixture = LogFixture()
    let address = ServedAddress.loopback(port: 9107)
    fixture.settings.metricsAddress = address
    fixture.context.textServer.fail(address, errno: 98)
    try await running(fixture.service.run) { [fixture] in try await fixture.until { fixture.messages == ["1"] } }
    #expect(
      fixture.context.sink.lines == [
        "warning cannot serve the metrics of the log forwarding "
          + #"reason="listen at 127.0.0.1:9107: Address already in use""#
      ])
  }

  // MARK: An external agent

  @Test func `an external agent is monitored, and its end is logged once`() async throws {
    var fixture = LogFixture()
    fixture.settings.logAgent = .awslogs
    fixture.context.launcher.run("/bin/systemctl")
    try await running(fixture.service.run) { [fixture] in
      try await fixture.until { try fixture.readReport()?.agent?.isRunning == true }
      fixture.context.launcher.run("/bin/systemctl", end: .exited(3))
      try await fixture.until { try fixture.readReport()?.agent?.isRunning == false }
      try await fixture.context.clock.sleep(for: .seconds(200))
      fixture.context.launcher.run("/bin/systemctl")
      try await fixture.until { try fixture.readReport()?.agent?.isRunning == true }
    }
    #expect(fixture.messages.isEmpty && fixture.aws.calls("PutLogEvents").isEmpty)
    #expect(
      fixture.context.sink.lines == [
        "warning log forwarding: awslogs is not running", "info log forwarding: resolved: awslogs is not running",
      ])
  }

  @Test func `an external agent without a file for the syslog forwards nothing, and that is logged`() async throws {
    var fixture = LogFixture()
    fixture.settings.logs = [.init(source: .syslog)]
    fixture.settings.logAgent = .awslogs
    await fixture.service.run()
    #expect(
      fixture.context.sink.lines == [
        "warning logs are not forwarded: this machine's syslog is not a file "
          + #"hint="install rsyslog, or omit --log-agent""#
      ])
  }
}
