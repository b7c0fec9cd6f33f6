package import Base

/// A `RuntimeContext` of fakes, with every fake at hand. What a test does not set up crashes it.
package struct TestContext: Sendable {
  package let clock: TestClock
  package let transport: FakeTransport
  package let files: FakeFiles
  package let launcher: FakeLauncher
  package let system = FakeSystem()
  package let resolver: FakeResolver
  package let ports: FakePorts
  package let streams: FakeStreams
  package let textServer = FakeTextServer()
  package let sink = RecordingSink()
  package var environment: [String: String]
  package var logLevel: LogLevel

  /// - Parameter environment: of the program.
  package init(
    environment: [String: String] = [:], logLevel: LogLevel = .debug, clock: TestClock = TestClock()
  ) {
    self.environment = environment
    self.logLevel = logLevel
    self.clock = clock
    transport = FakeTransport(clock: clock)
    files = FakeFiles(now: clock.wall)
    launcher = FakeLauncher(clock: clock)
    resolver = FakeResolver(clock: clock)
    ports = FakePorts(clock: clock)
    streams = FakeStreams(clock: clock)
  }

  /// No agent runs on another instance: port 8300 and the HTTP API refuse connections.
  package func refuseAgent(at ip: String) {
    streams.fail("\(ip):8300", .refused)
    transport.fail("http://\(ip):8500/", .refused)
  }

  /// Another instance that cannot be reached.
  package func silenceAgent(at ip: String) {
    streams.fail("\(ip):8300", .silent)
    transport.silence("http://\(ip):8500/")
  }

  package var log: Logger { Logger(level: logLevel, sink: sink) }

  /// What the flow under test gets.
  package var context: RuntimeContext {
    RuntimeContext(
      environment: environment, transport: transport, files: files, launcher: launcher, system: system,
      resolver: resolver, ports: ports, streams: streams, clock: clock, now: clock.wall, uptime: clock.uptime,
      log: log, textServer: textServer, pattern: { FakePattern($0) })
  }
}
