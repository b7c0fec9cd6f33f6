internal import AWS
internal import Base
internal import Bootstrap
internal import Decisions
internal import Host

/// The real context for a command, and a planner in it.
struct CommandDependencies: Sendable {
  let console: Console
  /// This program's log as a file, where it is forwarded.
  let ownLog: OwnLog?
  let context: RuntimeContext
  let planner: Planner
  let metadata: MetadataClient
  let credentials: CredentialCache

  init(options: Options, environment: [String: String], files: LocalFileStore) {
    let format = options.logFormat == .json ? Console.Format.json : .text
    console = Console(format: format, environment: environment)
    let ownLog =
      options.settings.forwards("bootstrap") && !options.isDryRun
      ? OwnLog(path: Settings.ownLogPath, format: format, console: console) : nil
    self.ownLog = ownLog
    let log: Logger
    if let ownLog {
      log = Logger(level: options.logLevel, sink: TwoSinks(console, ownLog))
    } else {
      log = Logger(level: options.logLevel, sink: console)
    }
    let clock = ContinuousClock()
    let transport = CurlTransport(caBundle: CurlTransport.findCABundle(environment: environment))
    context = RuntimeContext(
      environment: environment, transport: transport, files: files,
      launcher: PosixProcessLauncher(environment: environment),
      system: LocalSystem(environment: environment), resolver: AresResolver(), ports: SocketProber(), clock: clock, now: Machine.now,
      uptime: Machine.uptime, log: log,
      textServer: LocalTextServer(), pattern: { PosixPattern($0) })
    metadata = MetadataClient(
      environment: environment, allowsVersion1: options.allowsIMDSv1, transport: transport, clock: clock, log: log)
    credentials = CredentialCache(
      providers: [
        EnvironmentCredentials(environment: environment),
        ProfileCredentials(profiles: SharedConfiguration(environment: environment, files: files)),
        ContainerCredentials(environment: environment, transport: transport, files: files),
        InstanceRoleCredentials(metadata: metadata),
      ], now: Machine.now)
    planner = Planner(settings: options.settings, context: context, metadata: metadata, credentials: credentials)
  }
}
