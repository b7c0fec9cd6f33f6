import AWS
import Artifacts
import Base
import LogForwarding
import Model
import TestSupport
import Testing

@testable import Sidecar

@Suite(.timeLimit(.minutes(5))) struct LogAgentMonitorTests {
  private let fixture = LogFixture()
  private var context: TestContext { fixture.context }
  private static let systemctl = "/bin/systemctl"

  private func monitor(patience: Duration = .seconds(240)) throws -> LogAgentMonitor {
    var settings = fixture.settings
    settings.logAgent = .awslogs
    let identity = Identity(
      instanceID: "i-0aaa", region: "eu-west-1", availabilityZone: "eu-west-1a", privateIP: IPv4Address("10.0.1.10")!,
      vpcID: "vpc-1")
    let configuration = try #require(
      LogAgentConfiguration(settings, identity, hostName: "host", groupName: nil, syslogFile: nil))
    return LogAgentMonitor(
      configuration, patience: patience, logs: CloudWatchLogs(client: fixture.aws.client()), context: context.context)
  }

  /// A line of the file, and if it arrives the event of the stream.
  private func write(arrives: Bool) async throws {
    let time = context.clock.wall()
    context.files.grow(LogFixture.path, by: "\(time.iso8601) line\n")
    guard arrives else { return }
    try await CloudWatchLogs(client: fixture.aws.client()).createLogStream(group: "g", stream: "var/log/app.log")
    _ = try await CloudWatchLogs(client: fixture.aws.client()).putLogEvents(
      group: "g", stream: "var/log/app.log", size: 100
    ) { $0 += Array(#"[{"message":"line","timestamp":\#(time.milliseconds)}]"#.utf8) }
  }

  /// Regression: measured on the wall clock; set back by an hour, it took an hour more.
  @Test func `a stream that receives nothing is stalled after the patience, also when the clock is set back`()
    async throws
  {
    context.launcher.run(Self.systemctl)
    let monitor = try monitor()
    try await write(arrives: true)
    try await running(monitor.run) {
      try await fixture.until { monitor.report.streams[0].lastEvent != nil }
      #expect(monitor.report.problems.map(\.message) == [] && monitor.report.streams[0].behindSince == nil)
      try await context.clock.sleep(for: .seconds(5))
      try await write(arrives: false)
      let start = context.clock.uptime()
      try await fixture.until { monitor.report.streams[0].behindSince != nil }
      context.clock.setWall(by: .seconds(-3600))
      try await fixture.until(within: .seconds(600)) { monitor.report.streams[0].isStalled }
      let time = context.clock.uptime() - start
      #expect(time >= .seconds(240) && time < .seconds(310))
      // A time stamp to show, of the present clock.
      let behindSince = try #require(monitor.report.streams[0].behindSince)
      #expect(abs((context.clock.wall() - behindSince - .seconds(240)).components.seconds) < 65)
      context.clock.setWall(by: .seconds(3600))
      try await context.clock.sleep(for: .seconds(5))
      try await write(arrives: true)
      try await fixture.until { !monitor.report.streams[0].isStalled }
    }
    #expect(context.sink.lines == [])
  }

  /// A short patience called AWS without a pause that is worth the name.
  @Test(arguments: [(1, 1), (8, 2), (240, 60), (3600, 60)])
  func `the streams are described at a quarter of the patience, between 1 and 60 s`(_ patience: Int, _ seconds: Int)
    async throws
  {
    context.launcher.run(Self.systemctl)
    let monitor = try monitor(patience: .seconds(patience))
    try await running(monitor.run) {
      try await fixture.aws.call("DescribeLogStreams", number: 5)
      #expect(context.clock.uptime() == .seconds(4 * seconds))
    }
  }

  @Test func `an agent whose units are inactive is a problem`() async throws {
    context.launcher.run(Self.systemctl, end: .exited(3))
    let monitor = try monitor()
    try await running(monitor.run) { try await fixture.until { !monitor.report.isRunning } }
    #expect(monitor.report.problems.map(\.message) == ["awslogs is not running"])
    #expect(
      context.launcher.commands.prefix(2) == [
        "/bin/systemctl is-active --quiet awslogsd.service", "/bin/systemctl is-active --quiet awslogs.service",
      ])
  }

  /// Regression: it was reported as an agent that does not run, without the reason.
  @Test func `an agent whose units cannot be checked is a problem with its reason, and logged once`() async throws {
    context.launcher.fail(Self.systemctl)
    let monitor = try monitor()
    try await running(monitor.run) {
      try await fixture.until { !monitor.report.isRunning }
      try await context.clock.sleep(for: .seconds(150))
    }
    let reason = "execute /bin/systemctl: No such file or directory"
    #expect(monitor.report.problems.map(\.message) == ["awslogs is not running (\(reason))"])
    #expect(context.sink.lines == ["warning cannot check whether awslogs is running reason=\"\(reason)\""])
  }

  /// Regression: it was taken for a file without a line, which never counts as behind.
  @Test func `a file that cannot be read is reported, and logged once`() async throws {
    context.launcher.run(Self.systemctl)
    context.files.fail(.open, LogFixture.path, errno: 13)
    let monitor = try monitor()
    let reason = "cannot read /var/log/app.log: open /var/log/app.log: Permission denied"
    try await running(monitor.run) {
      try await fixture.until { monitor.report.streams[0].error == reason }
      try await context.clock.sleep(for: .seconds(150))
      context.files.recover(.open, LogFixture.path)
      try await fixture.until { monitor.report.streams[0].error == nil }
    }
    #expect(
      context.sink.lines == [
        "warning cannot check whether the lines of file:/var/log/app.log arrive reason=\"\(reason)\""
      ])
  }

  /// AWS's request ID made each minute's error another one: it was logged each time.
  @Test func `a stream that may not be described is reported, and logged once`() async throws {
    context.launcher.run(Self.systemctl)
    fixture.aws.numberRequests()
    fixture.aws.refuse("DescribeLogStreams", .accessDenied)
    let monitor = try monitor()
    try await running(monitor.run) {
      try await fixture.until { monitor.report.streams[0].error != nil }
      try await context.clock.sleep(for: .seconds(150))
    }
    #expect(fixture.aws.calls("DescribeLogStreams").count > 2)
    #expect(
      monitor.report.streams[0].error?.contains(
        "DescribeLogStreams answered AccessDenied (HTTP 403, request request-1)") == true)
    #expect(context.sink.records(.warning).count == 1)
  }

  @Test func `a stalled stream is a problem that names its group and its last event`() async throws {
    context.launcher.run(Self.systemctl)
    let monitor = try monitor()
    try await running(monitor.run) {
      try await fixture.until(within: .seconds(600)) { monitor.report.streams[0].isStalled }
      #expect(
        monitor.report.problems.map(\.message) == [
          "file:/var/log/app.log is stalled: g var/log/app.log has received nothing since it was created"
        ])
      fixture.aws.refuse("DescribeLogStreams", .throttled)
      try await fixture.until { monitor.report.streams[0].error != nil }
    }
    #expect(
      monitor.report.problems.map(\.message).first?.hasPrefix(
        "file:/var/log/app.log is stalled: g var/log/app.log has received nothing since it was created (CloudWatchLogs "
          + "DescribeLogStreams answered Throttling (HTTP 400): Rate exceeded") == true)
  }

  /// A file without lines has nothing that could arrive.
  @Test func `a file that is empty or does not exist is never behind`() async throws {
    context.launcher.run(Self.systemctl)
    context.files.truncate(LogFixture.path)
    let monitor = try monitor()
    try await running(monitor.run) {
      try await context.clock.sleep(for: .seconds(400))
      #expect(monitor.report.problems.map(\.message) == [] && monitor.report.streams[0].lastLine == nil)
      context.files.delete(LogFixture.path)
      try await context.clock.sleep(for: .seconds(400))
    }
    #expect(monitor.report.problems.map(\.message) == [] && monitor.report.streams[0].lastLine == nil)
  }

  @Test func `the second of an agent's units counts, too`() async throws {
    context.launcher.run(Self.systemctl, end: .exited(3))
    context.launcher.run(Self.systemctl, ["is-active", "--quiet", "awslogs.service"])
    let monitor = try monitor()
    try await running(monitor.run) { try await context.clock.sleep(for: .seconds(100)) }
    #expect(monitor.report.isRunning && monitor.report.problems.map(\.message) == [])
  }
}
