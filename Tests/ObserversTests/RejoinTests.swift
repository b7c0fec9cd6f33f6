import AWS
import Base
import Consul
import TestSupport
import Testing

@testable import Artifacts
@testable import Decisions
@testable import Model
@testable import Observers

/// A reboot while AWS is away: an instance that has joined before starts with what it has.
@Suite(.timeLimit(.minutes(5))) struct RejoinTests {
  private var flow = Flow(environment: ["PATH": "/usr/bin", "AWS_MAX_ATTEMPTS": "1"])
  private static let path = "/etc/consul.d/00-consul-bootstrap.json"

  init() {
    flow.context.files.put("/opt/consul/raft/snapshots/2-5-1/meta.json", "{}")
    flow.context.files.put("/var/lib/consul-bootstrap/instance.json", #"{"instance_id": "i-2"}"#)
    flow.context.files.put(
      Self.path,
      #"{"retry_join": ["10.0.1.9", "10.0.2.100"], "retry_join_wan": ["10.9.0.1"], "encrypt": "\#(gossipKey)", "#
        + #""acl": {"tokens": {"agent": "token-1"}}}"#)
  }

  private func plan(_ flow: Flow, _ mode: Planner.Mode = .run) async throws -> Plan {
    try await flow.planner.plan(at: try await flow.planner.locate(), mode)
  }

  private static let evidence = [
    "/opt/consul/raft/snapshots/2-5-1 contains raft state", "no other server knows a leader",
  ]

  @Test func `with AWS a server rejoins without a wait, whatever its group`() async throws {
    flow.aws.setGroups([FakeGroup("web", desired: 9)])
    let plan = try await plan(flow)
    #expect(plan.decision == .rejoin(evidence: Self.evidence) && flow.elapsed == .zero)
    #expect(plan.peers == [address("10.0.1.9"), address("10.0.2.100")] && plan.warnings == [])
    #expect(plan.configuration.document["bootstrap_expect"] == nil)
  }

  /// The servers of the configuration on disk say the same as those that AWS lists.
  @Test func `without AWS the servers of the present configuration are asked`() async throws {
    flow.context.transport.silence("https://")
    flow.agent("10.0.1.9", leader: "10.0.1.9:8300", peers: ["10.0.1.9:8300", "10.0.2.100:8300"])
    let plan = try await plan(flow)
    #expect(plan.decision.name == "join" && plan.peers.contains(address("10.0.1.9")))
    #expect(plan.steps.prepare.contains { if case .rename("/opt/consul/raft", _, _) = $0 { true } else { false } })
  }

  @Test func `without AWS it keeps peers and secrets of the present configuration`() async throws {
    var flow = flow
    flow.settings.layout = .datacenterPerAZ
    flow.settings.gossipKey = .ssm(name: "/gossip")
    flow.settings.agentToken = .secretsManager(id: "token", key: nil)
    flow.settings.aclDefaultPolicy = "deny"
    flow.settings.tls.ca = .ssm(name: "/ca")
    flow.settings.tls.cert = .file(path: "/etc/cert.pem")
    flow.context.transport.silence("https://")
    let plan = try await plan(flow)
    #expect(plan.decision == .rejoin(evidence: Self.evidence) && plan.readiness == nil)
    #expect(plan.peers == [address("10.0.1.9"), address("10.0.2.100")] && plan.wanPeers == [address("10.9.0.1")])
    let document = plan.configuration.document
    #expect(document["encrypt"]?.string == gossipKey && document["acl"]?["tokens"]?["agent"] == "token-1")
    #expect(document["ca_file"] == "/etc/consul.d/tls/ca.pem" && document["cert_file"] == "/etc/cert.pem")
    #expect(
      plan.warnings == ["AWS could not be reached; rejoining with the configuration and data on this machine"])
    // At most 15 s, plus the one call that was in progress.
    #expect(flow.elapsed >= .seconds(15) && flow.elapsed <= .seconds(18))
    #expect(
      flow.lines.last
        == "warning cannot discover the group; rejoining with the configuration and data on this machine "
        + #"reason="cannot read the secrets: no answer   SSM GetParameter got no answer: "#
        + #"https://ssm.eu-west-1.amazonaws.com: no connection in time   hint: check the route to AWS: a NAT gateway "#
        + #"or a VPC endpoint for ssm, the security groups, DNS""#)
  }

  @Test func `neither missing credentials nor a refusal keeps a server from rejoining`() async throws {
    flow.metadata.set("/latest/meta-data/iam/security-credentials/", nil)
    #expect(try await plan(flow).readiness == nil)
    let denied = Flow(environment: flow.context.environment)
    for (path, text) in [
      ("/opt/consul/raft/snapshots/2-5-1/meta.json", "{}"),
      ("/var/lib/consul-bootstrap/instance.json", #"{"instance_id": "i-2"}"#), (Self.path, "{}"),
    ] { denied.context.files.put(path, text) }
    denied.aws.refuse("DescribeAutoScalingInstances", .accessDenied)
    let plan = try await plan(denied)
    #expect(plan.readiness == nil && plan.peers == [] && denied.elapsed == .zero)
  }

  /// It may have been detached from its group: that must not stop it.
  @Test func `an instance that left its group rejoins at once`() async throws {
    flow.aws.change("i-2") { $0.group = nil }
    #expect(try await plan(flow).readiness == nil)
    #expect(flow.elapsed == .zero)
  }

  /// Guards against an agent that silently gossips in plain text: the option is new, and AWS is away.
  @Test(arguments: ["gossip key", "agent's token"])
  func `a secret that the present configuration does not have stops the rejoin`(_ missing: String) async {
    var flow = flow
    flow.settings.gossipKey = .ssm(name: "/gossip")
    flow.settings.agentToken = .ssm(name: "/token")
    flow.settings.aclDefaultPolicy = "deny"
    flow.context.files.put(
      Self.path,
      missing == "gossip key"
        ? #"{"acl": {"tokens": {"agent": "token-1"}}}"# : #"{"encrypt": "\#(gossipKey)"}"#)
    flow.aws.refuse("GetParameter", .accessDenied)
    let failed = await failure { [flow] in _ = try await plan(flow) }
    #expect(
      failed
        == Failure(
          .awsFailed, "cannot read the gossip key, ssm:/gossip: access denied",
          details: [
            "SSM GetParameter answered AccessDenied (HTTP 403): not authorized",
            "\(Self.path) does not contain the \(missing)",
          ], hint: "allow ssm:GetParameter for role web-node"))
  }

  /// A rotated secret that could be read must not be replaced by the present one.
  @Test func `secrets that AWS returned are used although the group cannot be discovered`() async throws {
    var flow = flow
    flow.settings.gossipKey = .ssm(name: "/gossip")
    flow.aws.setParameter("/gossip", otherKey)
    flow.aws.refuse("DescribeInstances", .accessDenied)
    let plan = try await plan(flow)
    #expect(plan.readiness == nil && plan.configuration.document["encrypt"]?.string == otherKey)
  }

  @Test func `a secret of the wrong form is an error, AWS or not`() async {
    var flow = flow
    flow.settings.gossipKey = .ssm(name: "/gossip")
    flow.aws.setParameter("/gossip", "wrong")
    let failed = await failure { [flow] in _ = try await plan(flow) }
    #expect(failed?.message == "ssm:/gossip is not a gossip key")
  }

  @Test func `raft state of another instance does not rejoin`() async {
    var flow = flow
    flow.settings.waitTimeout = .seconds(5)
    flow.context.files.put("/var/lib/consul-bootstrap/instance.json", #"{"instance_id": "i-old"}"#)
    flow.aws.fail("DescribeInstances", .unreachable)
    let failed = await failure { [flow] in _ = try await plan(flow) }
    #expect(failed?.message == "cannot describe Auto Scaling group web: no answer")
    #expect(flow.elapsed == .seconds(5))
  }

  @Test func `a client rejoins the servers that its configuration lists`() async throws {
    var flow = flow
    flow.settings.role = .client
    flow.settings.membership = .groups(["web"])
    flow.settings.startJitter = .milliseconds(1)
    flow.aws.fail("DescribeAutoScalingGroups", .unreachable)
    let plan = try await plan(flow)
    #expect(
      plan.decision == .rejoin(evidence: ["AWS cannot be reached; the agent's configuration lists servers"]))
    #expect(plan.peers == [address("10.0.1.9"), address("10.0.2.100")])
    #expect(flow.elapsed >= .seconds(15) && flow.elapsed <= .seconds(16))
  }

  @Test func `a client whose group has no server now rejoins, too`() async throws {
    var flow = flow
    flow.settings.role = .client
    flow.settings.membership = .groups(["web"])
    flow.settings.startJitter = .milliseconds(1)
    flow.aws.setInstances([])
    #expect(try await plan(flow).readiness == nil)
  }

  @Test func `a client without known servers waits as at its first boot`() async {
    var flow = flow
    flow.settings.role = .client
    flow.settings.membership = .groups(["web"])
    flow.settings.startJitter = .milliseconds(1)
    flow.settings.waitTimeout = .seconds(40)
    flow.context.files.put(Self.path, #"{"retry_join": []}"#)
    flow.aws.setInstances([])
    let failed = await failure { [flow] in _ = try await plan(flow) }
    #expect(failed?.message == "no server was running in 40 s")
  }

  @Test func `a dry run and the sidecar rejoin without AWS, too`() async throws {
    flow.aws.fail("DescribeInstances", .unreachable)
    for mode in [Planner.Mode.dryRun, .stay] {
      let plan = try await plan(flow, mode)
      #expect(plan.decision.name == "rejoin" && plan.readiness == nil)
    }
    #expect(flow.elapsed == .zero)
  }
}
