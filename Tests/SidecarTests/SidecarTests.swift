import AWS
import Base
import Model
import TestSupport
import Testing

@testable import Sidecar

/// Start, reload and end.
@Suite(.timeLimit(.minutes(5))) struct SidecarTests {
  private var sidecar = SidecarFixture()

  /// Log forwarding that serves its metrics at a port: which settings it runs with is seen by the port.
  private func forwarding(_ port: UInt16, interval: Duration = .seconds(30)) -> Settings {
    var settings = sidecar.settings
    settings.logs = [.init(source: .file(FilePattern("/var/log/app.log")!))]
    settings.metricsAddress = .loopback(port: port)
    settings.sidecarInterval = interval
    return settings
  }

  private func serving(_ ports: UInt16...) -> SidecarFixture {
    var sidecar = sidecar
    for port in ports { sidecar.context.textServer.allow(.loopback(port: port)) }
    sidecar.settings = forwarding(ports[0])
    return sidecar
  }

  // MARK: Start

  /// The same warning was logged every five seconds for as long as Consul was missing.
  @Test func `an instance that cannot be located yet is retried with backoff, and each reason is logged once`()
    async throws
  {
    let sidecar = sidecar, clock = sidecar.context.clock
    sidecar.context.files.delete(SidecarFixture.consul)
    let isReady = Watched(false), task = Task { try await sidecar.sidecar().run { isReady.update { $0 = true } } }
    // Retries at 5, 15, 35, 75, 135 and 195 s.
    try await clock.sleep(for: .seconds(134))
    sidecar.context.files.put(SidecarFixture.consul, "binary", mode: 0o644)
    try await clock.sleep(for: .seconds(60))
    sidecar.context.files.put(SidecarFixture.consul, "binary", mode: 0o755)
    #expect(!isReady.value)
    try await isReady.wait { $0 ? () : nil }
    #expect(clock.uptime() == .seconds(195))
    task.cancel()
    _ = await task.result
    #expect(
      sidecar.log == [
        "warning the sidecar cannot start yet; retrying reason=\"Consul is not installed; no consul in "
          + "/usr/local/bin, /usr/bin, /opt/consul/bin; hint: install Consul, or set its path with --consul\"",
        "warning the sidecar cannot start yet; retrying reason=\"/usr/local/bin/consul is not executable; "
          + "hint: run chmod +x /usr/local/bin/consul\"",
      ])
  }

  /// Any other error than a failure ended the process silently with status 0.
  @Test func `an error of the file system is retried, too`() async throws {
    var sidecar = sidecar
    sidecar.settings.start = .docker
    sidecar.settings.image = "consul:1.20"
    sidecar.context.files.put("/usr/bin/docker", "binary", mode: 0o755)
    sidecar.context.launcher.run("/usr/bin/docker", ["run", "--rm"], output: "Consul v1.20.1\n")
    // Once for the sidecar's own report.
    sidecar.context.files.fail(.read, "/proc/sys/kernel/random/boot_id", errno: 5, times: 3)
    #expect(try await sidecar.runUntilReady() == .seconds(15))
    let notYet =
      "warning the sidecar cannot start yet; retrying "
      + #"reason="read /proc/sys/kernel/random/boot_id: Input/output error""#
    #expect(sidecar.log == [notYet])
  }

  // MARK: End

  @Test func `a cancelled sidecar ends, whether it waits to start or runs`() async throws {
    let sidecar = serving(1)
    let running = Task { try await sidecar.sidecar().run {} }
    _ = try await sidecar.context.textServer.served(at: .loopback(port: 1))
    running.cancel()
    try await running.value
    #expect(sidecar.context.textServer.text(at: .loopback(port: 1)) == nil)
    sidecar.context.files.delete(SidecarFixture.consul)
    let waiting = Task { try await sidecar.sidecar().run {} }
    try await sidecar.context.sink.record(containing: "the sidecar cannot start yet")
    waiting.cancel()
    await #expect(throws: CancellationError.self) { try await waiting.value }
  }

  // MARK: Reload

  @Test func `a reload with other options restarts the work with them`() async throws {
    let fixture = serving(1, 2)
    try await fixture.whileStaying { sidecar in
      _ = try await fixture.context.textServer.served(at: .loopback(port: 1))
      sidecar.reload(forwarding(2))
      _ = try await fixture.context.textServer.served(at: .loopback(port: 2))
      #expect(fixture.context.textServer.text(at: .loopback(port: 1)) == nil)
    }
    #expect(fixture.log == ["info the options have changed; restarting with the new ones"])
  }

  /// The polls went on with the interval of before.
  @Test func `a reload restarts the polls, too`() async throws {
    var fixture = serving(1, 2)
    fixture.settings.sidecarInterval = .seconds(40 * 3600)
    fixture.settings.role = .client
    var settings = forwarding(2, interval: .seconds(1))
    settings.role = .client
    fixture.agent.set { $0.members.append(.init("server", "10.0.1.1")) }
    try await fixture.whileStaying { sidecar in
      sidecar.reload(settings)
      try await fixture.polls(3)
    }
    #expect(fixture.context.clock.uptime() < .seconds(3600))
  }

  @Test func `a reload with the same options restarts nothing`() async throws {
    var fixture = serving(1)
    // Each start of log forwarding finds the group's name once.
    fixture.settings.logGroup = "/consul/{group}"
    try await fixture.whileStaying { sidecar in
      try await fixture.aws.call("DescribeAutoScalingInstances")
      sidecar.reload(fixture.settings)
      try await fixture.context.clock.sleep(for: .seconds(30))
      #expect(fixture.context.textServer.text(at: .loopback(port: 1)) != nil)
    }
    #expect(fixture.aws.calls("DescribeAutoScalingInstances").count == 1)
    #expect(fixture.log == ["info the options have not changed"])
  }

  /// A hook whose name was wrong.
  @Test func `a reload begins a departure again with the new options`() async throws {
    var fixture = SidecarFixture()
    fixture.settings.terminationHook = "wrong"
    fixture.context.files.put(
      SidecarFixture.configuration, #"{"bind_addr": "10.0.1.10", "node_name": "own"}"#, mode: 0o640)
    fixture.aws.setGroups([FakeGroup("consul", desired: 0, hooks: ["ending"])])
    fixture.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10", group: "consul", lifecycle: "Terminating:Wait")
    ])
    fixture.settings.membership = .groups(["consul"])
    fixture.metadata.set("/latest/meta-data/autoscaling/target-lifecycle-state", "Terminated")
    try await fixture.whileStaying { [fixture] sidecar in
      try await fixture.context.clock.sleep(for: .seconds(10))
      #expect(fixture.aws.completedHooks.isEmpty)
      var settings = fixture.settings
      settings.terminationHook = "ending"
      sidecar.reload(settings)
      try await fixture.context.clock.sleep(for: .seconds(90))
      #expect(fixture.aws.completedHooks == ["ending consul i-0aaa CONTINUE"])
    }
  }

  /// With CloudWatch away, a reload must not wait for it longer than --flush-timeout.
  @Test func `the flush before a restart is bounded by the flush timeout`() async throws {
    var fixture = serving(1, 2)
    fixture.settings.flushTimeout = .seconds(7)
    fixture.context.files.put("/var/log/app.log", "a line\n")
    fixture.aws.fail("PutLogEvents", .timedOut(whileConnecting: true))
    try await fixture.whileStaying { sidecar in
      try await fixture.aws.call("PutLogEvents")
      let start = fixture.context.clock.uptime()
      sidecar.reload(forwarding(2))
      _ = try await fixture.context.textServer.served(at: .loopback(port: 2))
      let time = fixture.context.clock.uptime() - start
      #expect(time >= .seconds(7) && time < .seconds(8))
    }
  }

  /// Lines that had been read but not sent were sent again, or not at all, after each reload.
  @Test func `what has been read is sent before the restart`() async throws {
    var fixture = serving(1, 2)
    fixture.settings.flushInterval = .seconds(3600)
    try await fixture.whileStaying { sidecar in
      _ = try await fixture.context.textServer.served(at: .loopback(port: 1))
      fixture.context.files.put("/var/log/app.log", "a line\n")
      try await fixture.context.clock.sleep(for: .seconds(2))
      #expect(fixture.aws.calls("PutLogEvents").isEmpty)
      sidecar.reload(forwarding(2))
      _ = try await fixture.context.textServer.served(at: .loopback(port: 2))
      #expect(fixture.aws.messages(group: "/consul/dc1", stream: "i-0aaa/var/log/app.log") == ["a line"])
    }
  }

  /// A reload that came while the work was restarted was lost for log forwarding: the settings were read before the
  /// flag was cleared. Each pair of reloads tries another moment of the restart; the old order fails nearly every run.
  @Test func `the second of two reloads in a row counts, whenever it comes`() async throws {
    let pairs = UInt16(3000)
    let textServer = sidecar.context.textServer
    for port in 0...2 * pairs { textServer.allow(.loopback(port: port)) }
    var fixture = sidecar
    // A service that ends at once: only its start is of interest.
    fixture.settings = forwarding(0)
    fixture.settings.logs = [.init(source: .syslog)]
    fixture.settings.logAgent = .awslogs
    try await fixture.whileStaying { sidecar in
      var settings = fixture.settings
      for pair in 1...pairs {
        settings.metricsAddress = .loopback(port: 2 * pair - 1)
        sidecar.reload(settings)
        let next = ContinuousClock.now + .microseconds(Int(pair) % 50)
        settings.metricsAddress = .loopback(port: 2 * pair)
        while ContinuousClock.now < next {}
        sidecar.reload(settings)
        // One without a change takes nothing back.
        sidecar.reload(settings)
        let isServed = try await served(2 * pair)
        #expect(isServed)
        guard isServed else { break }
      }
    }
  }

  /// Whether anything is served at the port before every task waits.
  private func served(_ port: UInt16) async throws -> Bool {
    let (textServer, clock) = (sidecar.context.textServer, sidecar.context.clock)
    return try await withThrowingTaskGroup(of: Bool.self) { group in
      group.addTask {
        try await textServer.hasServed(at: .loopback(port: port))
        return true
      }
      group.addTask {
        try await clock.settle()
        return false
      }
      defer { group.cancelAll() }
      return try await group.next() ?? false
    }
  }
}
