package import Base

/// Every way to the context that a run has, each a seam. The composition root in Commands fills it with the real ones.
package struct RuntimeContext: Sendable {
  package let environment: [String: String]
  package let transport: any HTTPTransport
  package let files: any FileStore
  package let launcher: any ProcessLauncher
  package let system: any System
  package let resolver: any NameResolver
  package let ports: any PortProber
  /// For sleeping.
  package let clock: any Clock<Duration>
  /// For dates.
  package let now: WallClock
  /// For time-outs: time since the start of the process, which no correction of the clock moves.
  package let uptime: @Sendable () -> Duration
  package let log: Logger
  package let textServer: any TextServer
  /// A POSIX extended regular expression; nil for what is none.
  package let pattern: @Sendable (String) -> (any TextPattern)?

  package init(
    environment: [String: String], transport: any HTTPTransport, files: any FileStore, launcher: any ProcessLauncher,
    system: any System, resolver: any NameResolver, ports: any PortProber, clock: any Clock<Duration>,
    now: @escaping WallClock,
    uptime: @escaping @Sendable () -> Duration,
    log: Logger, textServer: any TextServer, pattern: @escaping @Sendable (String) -> (any TextPattern)?
  ) {
    self.environment = environment
    self.transport = transport
    self.files = files
    self.launcher = launcher
    self.system = system
    self.resolver = resolver
    self.ports = ports
    self.clock = clock
    self.now = now
    self.uptime = uptime
    self.log = log
    self.textServer = textServer
    self.pattern = pattern
  }
}
