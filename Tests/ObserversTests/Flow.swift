import AWS
import Base
import Consul
import TestSupport

@testable import Model
@testable import Observers

/// Two gossip keys.
let gossipKey = "q1Zf0q2g2o6mZ0v8m5bq0w3m3m5nq0x0q1Zf0q2g2o4="
let otherKey = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

func address(_ text: String) -> IPv4Address { IPv4Address(text)! }

/// Instance i-2 of Auto Scaling group web, whose servers are i-1, i-2 and i-3; every other agent refuses connections.
struct Flow {
  let context: TestContext
  let aws: FakeAWS
  let metadata: FakeMetadata
  var settings = Settings()

  static let peers = ["10.0.1.9", "10.0.2.100"]

  init(environment: [String: String] = ["PATH": "/usr/bin"]) {
    context = TestContext(environment: environment)
    aws = FakeAWS(context)
    metadata = FakeMetadata(context, instanceID: "i-2", ip: "10.0.1.10")
    metadata.setRole(expiration: context.clock.wall() + .seconds(86_400))
    aws.setGroups([FakeGroup("web", desired: 3)])
    aws.setInstances(Self.three)
    for host in ["127.0.0.1", "10.0.1.10"] { context.transport.fail("http://\(host):8500/", .refused) }
    for host in Self.peers { context.refuseAgent(at: host) }
    context.files.put("/usr/bin/consul", "", mode: 0o755)
    context.launcher.run("/usr/bin/consul", ["version"], output: "Consul v1.8.7+dfsg1\nProtocol 2\n")
    context.system.setOwner("consul", 8500)
  }

  /// Their addresses sort otherwise as text.
  static var three: [FakeInstance] {
    [
      FakeInstance("i-1", ip: "10.0.1.9"), FakeInstance("i-2", ip: "10.0.1.10"),
      FakeInstance("i-3", ip: "10.0.2.100", zone: "eu-west-1b"),
    ]
  }

  var identity: Identity {
    Identity(
      instanceID: "i-2", region: "eu-west-1", availabilityZone: "eu-west-1a", privateIP: address("10.0.1.10"),
      vpcID: "vpc-1", groupName: "web")
  }

  /// One attempt for each call, so that a test counts what the flow itself repeats.
  var client: AWSClient {
    var retries = RetrySettings()
    retries.maximumAttempts = 1
    return aws.client(retries: retries)
  }

  var waiter: MembershipWaiter { MembershipWaiter(settings: settings, context: context.context, client: client) }

  var metadataClient: MetadataClient {
    MetadataClient(
      environment: context.environment, allowsVersion1: false, transport: context.transport, clock: context.clock,
      log: context.log)
  }

  var planner: Planner {
    let metadata = metadataClient
    return Planner(
      settings: settings, context: context.context, metadata: metadata,
      credentials: CredentialCache(
        providers: [InstanceRoleCredentials(metadata: metadata)], now: context.clock.wall))
  }

  var machineObserver: MachineObserver { MachineObserver(settings: settings, context: context.context) }

  static let binary = MachineObserver.Binary(path: "/usr/bin/consul", version: ConsulVersion(1, 8, 7))

  /// This machine before its first boot: no data, no configuration.
  var machine: MachineObservation {
    MachineObservation(
      consulPath: "/usr/bin/consul", consulVersion: ConsulVersion(1, 8, 7), isBootedBySystemd: true,
      hostName: "ip-10-0-1-10", agentOwner: nil, dataDirectory: .init(content: nil, raftState: .none, isMount: false),
      recordedInstanceID: nil, configuration: .absent, unit: .absent, agentIsRunning: false,
      otherConfigurationFiles: [])
  }

  func observation(_ machine: MachineObservation? = nil) -> Observation {
    Observation(identity: identity, machine: machine ?? self.machine, group: nil, time: context.clock.wall())
  }

  func wait(waits: Bool = true, rejoins: Bool = false) async throws -> Observation {
    try await waiter.wait(observation(), waits: waits, rejoins: rejoins)
  }

  /// A peer whose agent answers.
  @discardableResult
  func agent(_ ip: String, leader: String? = nil, peers: [String] = []) -> FakeConsulAgent {
    FakeConsulAgent(context, at: "\(ip):8500") { state in
      state.leader = leader
      state.peers = peers
    }
  }

  var elapsed: Duration { context.clock.uptime() }
  var log: RecordingSink { context.sink }

  /// Level, message and attributes of what was logged; neither progress nor debugging.
  var lines: [String] { log.lines.filter { !$0.hasPrefix("debug") } }
}

/// The failure that a flow ends with; nil if it succeeds.
func failure(_ body: () async throws -> Void) async -> Failure? {
  do {
    try await body()
    return nil
  } catch {
    return error as? Failure ?? Failure(.usage, "not a failure: \(error)")
  }
}
