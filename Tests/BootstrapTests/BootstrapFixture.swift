import AWS
import Base
import Bootstrap
import Execution
import Model
import Observers
import Sidecar
import TestSupport
import Testing

/// An instance `i-0aaa` that is the only member of its group, with Consul in its image and a launch hook that waits.
struct BootstrapFixture: Sendable {
  let test = TestContext(environment: ["PATH": "/usr/bin"])
  let aws: FakeAWS
  let metadata: FakeMetadata
  /// No agent answers until it is started.
  let agent: FakeConsulAgent
  /// The callbacks of the run, in order: `verified SERVERS`, `forwarding ended`, `final error MESSAGE`,
  /// `supervisor started`.
  let calls = Watched<[String]>([])
  var settings = Settings()
  var forwards = true

  init(_ start: Settings.Start) {
    aws = FakeAWS(test)
    aws.setGroups([FakeGroup("web", desired: 1, hooks: ["launching"])])
    aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10", lifecycle: "Pending:Wait")])
    metadata = FakeMetadata(test)
    agent = FakeConsulAgent(test) { state in
      (state.failure, state.nodeName) = (.refused, "i-0aaa")
    }
    _ = FakeConsulAgent(test, at: "10.0.1.10:8500") { $0.failure = .refused }
    test.system.setOwner("consul", 100)
    for path in ["/etc/systemd/system", "/var/lib/consul-bootstrap", "/opt", "/var/log"] {
      test.files.makeDirectory(path)
    }
    test.files.put("/usr/bin/consul", "program", mode: 0o755)
    test.launcher.run("/usr/bin/consul", ["version"], output: "Consul v1.8.7\n")
    test.launcher.run("/usr/bin/consul", ["validate"])
    test.launcher.run("/bin/systemctl")
    test.launcher.run("/bin/journalctl")
    test.launcher.onRun("/bin/systemctl", ["start", "consul.service"]) { [self] _, _ in
      startAgent()
      return CommandResult(end: .exited(0), output: "")
    }
    settings.start = start
    settings.expect = 1
    settings.lifecycleHook = "launching"
    settings.verifyTimeout = .seconds(2)
  }

  /// The agent answers, leads and votes.
  func startAgent() {
    agent.setCluster([("i-0aaa", "10.0.1.10")])
    agent.set { state in
      state.nodeName = "i-0aaa"
      state.health = ["id-i-0aaa": true]
      state.failure = nil
    }
  }

  /// What is left of the run on this machine: Consul validates the draft of a configuration in a staged file.
  var changes: [FakeFiles.Change] {
    #expect(!test.files.exists(Self.staged))
    return test.files.changes.filter {
      $0 != .write(Self.staged, mode: 0o600, owner: nil) && $0 != .removeFile(Self.staged)
    }
  }

  private static let staged = "/var/lib/consul-bootstrap/staged.json"

  /// The supervised agent starts, and ends by SIGTERM with status 0.
  /// - Parameter prepare: gets the process before the run does.
  func supervise(_ prepare: @escaping @Sendable (FakeProcess) -> Void = { _ in }) {
    test.launcher.start("/usr/bin/consul", ["agent"]) { process in
      process.on(15, finish: .exited(0))
      startAgent()
      prepare(process)
    }
  }

  var run: BootstrapRun {
    run(supervisorStarted: { [calls] _, _ in calls.update { $0.append("supervisor started") } })
  }

  func run(supervisorStarted: @escaping @Sendable (Supervisor, Sidecar) -> Void) -> BootstrapRun {
    let credentials = CredentialCache(providers: [FixedCredentials()], now: test.clock.wall)
    let client = MetadataClient(
      environment: test.environment, allowsVersion1: false, transport: test.transport, clock: test.clock, log: test.log)
    let planner = Planner(settings: settings, context: test.context, metadata: client, credentials: credentials)
    let forwardingEnded: @Sendable () -> Void = { [calls] in calls.update { $0.append("forwarding ended") } }
    return BootstrapRun(
      settings: settings, context: test.context, planner: planner, forwardingEnded: forwards ? forwardingEnded : nil,
      finalError: { [calls] failure in calls.update { $0.append("final error \(failure.message)") } },
      supervisorStarted: supervisorStarted)
  }

  @discardableResult
  func start() async throws -> BootstrapRun.Outcome {
    try await run.run { [calls] outcome in
      calls.update { $0.append("verified \(outcome.health.map { String($0.servers) } ?? "without an agent")") }
    }
  }

  /// The failure of a run; nil if it succeeds.
  func failure() async throws -> Failure? {
    do {
      try await start()
      return nil
    } catch let failure as Failure {
      return failure
    }
  }

  private struct FixedCredentials: CredentialProvider {
    func credentials() -> Credentials? {
      Credentials(
        accessKeyID: "AKIDEXAMPLE", secretAccessKey: Secret("secret"), source: "the test", roleName: "web-node")
    }
  }
}
