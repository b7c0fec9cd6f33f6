internal import AWS
internal import Base
internal import Host
internal import Model
internal import Observers

/// The composition root: fills every seam with the real one.
enum Composition {
  static func dependencies(
    options: Options, environment: [String: String], files: LocalFileStore, signals: Signals
  ) -> CommandDependencies {
    let format = options.logFormat == .json ? Console.Format.json : .text
    let console = Console(format: format, environment: environment)
    let forwardsOwnLog = options.settings.forwards(.bootstrap) && !options.isDryRun
    let ownLog = forwardsOwnLog ? OwnLog(path: Settings.ownLogPath, format: format, console: console) : nil
    let log =
      ownLog.map { Logger(level: options.logLevel, sink: TeeSink(console, $0)) }
      ?? Logger(level: options.logLevel, sink: console)
    let clock = ContinuousClock()
    let transport = CurlTransport(caBundle: CurlTransport.findCABundle(environment: environment))
    let context = RuntimeContext(
      environment: environment, transport: transport, files: files,
      launcher: PosixProcessLauncher(environment: environment), system: LocalSystem(environment: environment),
      resolver: AresResolver(),
      ports: SocketProber(), streams: SocketTransport(), clock: clock, now: Machine.now, uptime: Machine.uptime,
      log: log, textServer: LocalTextServer(), pattern: { PosixPattern($0) })
    let metadata = MetadataClient(
      environment: environment, allowsVersion1: options.allowsIMDSv1, transport: transport, clock: clock, log: log)
    let credentials = CredentialCache(
      providers: [
        EnvironmentCredentials(environment: environment),
        ProfileCredentials(profiles: SharedConfiguration(environment: environment, files: files)),
        ContainerCredentials(environment: environment, transport: transport, files: files),
        InstanceRoleCredentials(metadata: metadata),
      ], now: Machine.now)
    return CommandDependencies(
      context: context,
      planner: Planner(settings: options.settings, context: context, metadata: metadata, credentials: credentials),
      metadata: metadata, credentials: credentials, output: Terminal.output(environment), errorOutput: console,
      ownLog: ownLog, locks: FileLocks(), signals: signals, terminate: { Machine.exit($0) },
      version: Machine.programVersion)
  }
}
