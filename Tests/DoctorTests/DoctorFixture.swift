import AWS
import Base
import Consul
import Model
import Observers
import TestSupport
import Testing

@testable import Doctor

/// An instance on which every check passes: the one member of group `web`, which desires one. Tests break it.
struct DoctorFixture {
  let context = TestContext()
  let metadata: FakeMetadata
  let aws: FakeAWS
  var settings = Settings()
  var environment: [String: String] = [:]
  var allowsIMDSv1 = false

  static let consul = "/usr/local/bin/consul"
  static let noRecord =
    "note record: no --cluster-record: a loss of all servers, and servers that AWS no longer lists, cannot be told "
    + "from a first boot; hint: name a record with --cluster-record ssm:PATH"
  static let unitIsMissing = "ActiveState=inactive\nLoadState=not-found\nResult=success\n"

  init() {
    metadata = FakeMetadata(context)
    metadata.setRole(expiration: context.clock.wall() + .seconds(3600))
    aws = FakeAWS(context)
    aws.setGroups([FakeGroup(desired: 1)])
    aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10")])
    context.files.put(Self.consul, "binary", mode: 0o755)
    context.files.put("/etc/resolv.conf", "nameserver 10.0.0.2\n")
    context.files.makeDirectory("/etc/consul.d")
    context.files.makeDirectory("/opt")
    context.files.makeDirectory("/var/lib")
    context.launcher.run(Self.consul, ["version"], output: "Consul v1.20.1\n")
    context.launcher.run(Self.consul, ["validate"])
    context.launcher.run("/bin/systemctl", ["show"], output: Self.unitIsMissing)
    context.system.setOwner("consul", 100)
    context.system.setFreeSpace(bytes: 50 << 30)
    context.ports.allowListening()
    context.resolver.answer("ec2.eu-west-1.amazonaws.com", ["52.1.1.1"])
    context.transport.fail("http://127.0.0.1:8500/", .refused)
    context.transport.fail("http://10.0.1.", .refused)
    context.streams.fail("10.0.1.", .refused)
  }

  /// Every finding, in order.
  func run() async throws -> [Finding] {
    let runtime = context.context
    let metadata = MetadataClient(
      environment: environment, allowsVersion1: allowsIMDSv1, transport: runtime.transport, clock: runtime.clock,
      log: runtime.log)
    let credentials = CredentialCache(providers: [InstanceRoleCredentials(metadata: metadata)], now: runtime.now)
    let planner = Planner(settings: settings, context: runtime, metadata: metadata, credentials: credentials)
    let findings = Watched<[Finding]>([])
    try await Doctor(
      settings: settings, context: runtime, planner: planner, metadata: metadata, credentials: credentials
    ) { finding in
      findings.update { $0.append(finding) }
    }.run()
    return findings.value
  }

  /// Every finding that is not `ok`, as `lines` shows it.
  func findings() async throws -> [String] { lines(try await run().filter { $0.severity != .ok }) }

  /// Findings of one subject.
  func findings(_ subject: String) async throws -> [String] {
    lines(try await run().filter { $0.subject == subject })
  }
}

/// `problem disk: the message; hint: the hint`.
func lines(_ findings: [Finding]) -> [String] {
  findings.map { finding in
    "\(finding.severity.rawValue) \(finding.subject): \(finding.message)"
      + (finding.hint.map { "; hint: \($0)" } ?? "")
  }
}
