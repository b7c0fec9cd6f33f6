import AWS
import Base
import Consul
import LogForwarding
import Model
import Observers
import TestSupport
import Testing

@testable import Sidecar

/// A sidecar beside a healthy agent on instance i-0aaa, 10.0.1.10, in eu-west-1a, with fakes of everything around it.
/// The agent's data belongs to the instance. Peers refuse connections.
struct SidecarFixture: Sendable {
  let context: TestContext
  let metadata: FakeMetadata
  let aws: FakeAWS
  let agent: FakeConsulAgent
  var settings = Settings()

  static let consul = "/usr/local/bin/consul"
  static let configuration = "/etc/consul.d/00-consul-bootstrap.json"
  static let hasWritten =
    "info write /etc/consul.d/00-consul-bootstrap.json (mode 640, owner consul) once Consul has validated it"
  static let members = "http://127.0.0.1:8500/v1/agent/members"

  /// - Parameter logLevel: of the records that are kept.
  init(logLevel: LogLevel = .info) {
    context = TestContext(logLevel: logLevel)
    metadata = FakeMetadata(context)
    aws = FakeAWS(context)
    context.transport.fail("http://10.0.", .refused)
    context.streams.fail("10.0.", .refused)
    // This server's own: its agent has ended where it does not answer.
    context.ports.set("10.0.1.10", .tcp, port: 8300, to: .refused)
    agent = FakeConsulAgent(context)
    agent.setCluster([("own", "10.0.1.10")])
    aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10")])
    aws.setGroups([FakeGroup(desired: 1)])
    context.files.put(Self.consul, "binary", mode: 0o755)
    context.files.put("/opt/consul/node-id", "11111111-2222-3333-4444-555555555555")
    context.files.put("/var/lib/consul-bootstrap/instance.json", #"{"instance_id": "i-0aaa"}"#)
    context.files.put(
      "/var/lib/consul-bootstrap/cluster.json", #"{"cluster": "11111111-2222-4333-8444-555555555555", "epoch": 1}"#)
    context.files.makeDirectory("/etc/consul.d")
    context.launcher.run(Self.consul, ["version"], output: "Consul v1.20.1\n")
    context.launcher.run(Self.consul, ["validate"])
    context.system.setOwner("consul", 100)
    // It reads the members, too.
    settings.reapsDeadMembers = false
  }

  var planner: Planner {
    let runtime = context.context
    let metadata = MetadataClient(
      environment: [:], allowsVersion1: false, transport: runtime.transport, clock: runtime.clock, log: runtime.log)
    struct Fixed: CredentialProvider {
      func credentials() -> Credentials? {
        Credentials(
          accessKeyID: "AKIDEXAMPLE", secretAccessKey: Secret("example-secret"), source: "the test", roleName: "web")
      }
    }
    return Planner(
      settings: settings, context: runtime, metadata: metadata,
      credentials: CredentialCache(providers: [Fixed()], now: runtime.now))
  }

  func sidecar() -> Sidecar { Sidecar(settings: settings, context: context.context, planner: planner, spool: nil) }

  func instance() async throws -> LocatedInstance { try await planner.locate() }

  /// Runs `stay` beside the body, then cancels it and waits for its end.
  func whileStaying(_ body: (Sidecar) async throws -> Void) async throws {
    let sidecar = sidecar(), instance = try await instance()
    let task = Task { await sidecar.stay(at: instance) }
    do {
      try await body(sidecar)
    } catch {
      task.cancel()
      throw error
    }
    task.cancel()
    await task.value
  }

  /// Runs the sidecar until it is ready and everything it does at its start is done, then cancels it.
  /// - Returns: the time that it took.
  @discardableResult
  func runUntilReady() async throws -> Duration {
    let sidecar = sidecar(), ready = Watched(false), start = context.clock.uptime()
    let task = Task { try await sidecar.run { ready.update { $0 = true } } }
    try await ready.wait { $0 ? () : nil }
    let time = context.clock.uptime() - start
    task.cancel()
    _ = await task.result
    return time
  }

  /// Waits for so many reads of the agent's members: those of the polls before are handled.
  func polls(_ count: Int) async throws { try await context.transport.request(to: Self.members, number: count) }

  /// Messages of the log without what locating and validating log.
  var log: [String] { context.sink.lines.filter { !$0.hasPrefix("info this is i-0aaa") } }

  /// What has been changed besides the sidecar's own report.
  var changes: [FakeFiles.Change] {
    context.files.changes.filter { $0 != .write(settings.sidecarReportPath, mode: 0o644, owner: nil) }
  }

  /// Lines of the log from this level on.
  func log(_ level: LogLevel) -> [String] { context.sink.records(level).map(\.description) }
}

extension Settings {
  /// A server of zone a beside one of zone b.
  static var datacenterPerZone: Settings {
    var settings = Settings()
    settings.layout = .datacenterPerAZ
    settings.membership = .groups(["consul-a", "consul-b"])
    return settings
  }
}
