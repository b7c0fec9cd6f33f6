/// Every seam that a flow uses: the only ways in which it reads or changes anything outside its own values.
/// The composition root in Commands fills it with the real ones, tests with fakes.
package struct RuntimeContext: Sendable {
  package let environment: [String: String]
  package let transport: any HTTPTransport
  package let files: any FileStore
  package let launcher: any ProcessLauncher
  package let system: any System
  package let resolver: any NameResolver
  package let ports: any PortProber
  package let streams: any StreamTransport
  /// For sleeping.
  package let clock: any Clock<Duration>
  /// The wall clock, for time stamps only.
  package let now: WallClock
  /// For every interval and deadline.
  package let uptime: MonotonicTime
  package let log: Logger
  package let textServer: any TextServer
  /// Compiles a POSIX extended regular expression; nil if the text is not one.
  package let pattern: @Sendable (String) -> (any TextPattern)?

  package init(
    environment: [String: String], transport: any HTTPTransport, files: any FileStore, launcher: any ProcessLauncher,
    system: any System, resolver: any NameResolver, ports: any PortProber,
    streams: any StreamTransport, clock: any Clock<Duration>, now: @escaping WallClock, uptime: @escaping MonotonicTime,
    log: Logger, textServer: any TextServer, pattern: @escaping @Sendable (String) -> (any TextPattern)?
  ) {
    self.environment = environment
    self.transport = transport
    self.files = files
    self.launcher = launcher
    self.system = system
    self.resolver = resolver
    self.ports = ports
    self.streams = streams
    self.clock = clock
    self.now = now
    self.uptime = uptime
    self.log = log
    self.textServer = textServer
    self.pattern = pattern
  }
}
