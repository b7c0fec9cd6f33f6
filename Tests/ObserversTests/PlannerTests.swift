import AWS
import Base
import Consul
import TestSupport
import Testing

@testable import Artifacts
@testable import Decisions
@testable import Model
@testable import Observers

/// From metadata to a plan.
@Suite(.timeLimit(.minutes(5))) struct PlannerTests {
  private var flow = Flow(environment: ["PATH": "/usr/bin", "AWS_MAX_ATTEMPTS": "1"])

  private func plan(_ flow: Flow, _ mode: Planner.Mode) async throws -> Plan {
    try await flow.planner.plan(at: try await flow.planner.locate(), mode)
  }

  private func servers(of plan: Plan) -> Int? {
    if case .newCluster(let expect, _) = plan.decision { return expect }
    return nil
  }

  // MARK: Locate

  @Test func `an instance is located by its metadata and its Consul`() async throws {
    let instance = try await flow.planner.locate()
    #expect(instance.identity.instanceID == "i-2" && instance.identity.groupName == nil)
    #expect(instance.consulPath == "/usr/bin/consul" && instance.binary.version == ConsulVersion(1, 8, 7))
    #expect(instance.client.region == "eu-west-1")
    #expect(flow.lines == [#"info this is i-2 address="10.0.1.10" zone="eu-west-1a""#])
    #expect(flow.aws.calls.isEmpty)
  }

  @Test(arguments: [
    (["AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-west-2"], "us-east-1"),
    (["AWS_REGION": "", "AWS_DEFAULT_REGION": "us-west-2"], "us-west-2"), (["AWS_REGION": ""], "eu-west-1"),
  ])
  func `the region is that of the environment, else that of the instance`(
    _ environment: [String: String], _ region: String
  ) async throws {
    #expect(try await Flow(environment: environment).planner.locate().client.region == region)
  }

  @Test func `without metadata, or without Consul, it is an error`() async {
    flow.context.files.delete("/usr/bin/consul")
    let flow = flow
    #expect(await failure { _ = try await flow.planner.locate() }?.message == "Consul is not installed")
    flow.context.transport.silence(FakeMetadata.base)
    #expect(await failure { _ = try await flow.planner.locate() }?.status == .noMetadata)
  }

  // MARK: Modes

  @Test func `a run plans a new cluster and changes nothing`() async throws {
    let plan = try await plan(flow, .run)
    #expect(
      plan.decision
        == .newCluster(
          expect: 3,
          evidence: [
            "10.0.1.9 (i-1): no agent runs", "10.0.2.100 (i-3): no agent runs",
          ]))
    #expect(plan.identity.groupName == "web" && plan.peers == [address("10.0.1.9"), address("10.0.2.100")])
    #expect(plan.warnings == [] && plan.obstacle == nil)
    #expect(flow.context.files.changes.isEmpty && flow.elapsed == .zero)
    #expect(flow.context.launcher.commands == ["/usr/bin/consul version"])
  }

  /// Servers of a group are configured alike: a port that a file of the image sets is that of every peer.
  @Test func `peers are asked at the port that another file sets`() async throws {
    flow.context.files.put("/etc/consul.d/z.hcl", "ports { http = 8501 }")
    for host in ["127.0.0.1", "10.0.1.10", "10.0.2.100"] {
      flow.context.transport.fail("http://\(host):8501/", .refused)
    }
    _ = FakeConsulAgent(flow.context, at: "10.0.1.9:8501") { state in
      state.leader = "10.0.1.9:8300"
      state.peers = ["10.0.1.9:8300"]
    }
    let plan = try await plan(flow, .run)
    guard case .join = plan.decision else {
      Issue.record("\(plan.decision)")
      return
    }
    #expect(plan.requirements?.agentAddress == "127.0.0.1:8501")
  }

  /// The sidecar runs beside an agent: a wait of ten minutes would hide everything else that it does.
  @Test(arguments: [Planner.Mode.dryRun, .stay])
  func `a dry run and the sidecar observe an incomplete group once`(_ mode: Planner.Mode) async throws {
    flow.aws.setGroups([FakeGroup("web", desired: 5)])
    let plan = try await plan(flow, mode)
    #expect(
      plan.decision
        == .wait(
          .groupIncomplete,
          evidence: [
            "10.0.1.9 (i-1): no agent runs", "10.0.2.100 (i-3): no agent runs",
          ]))
    #expect(flow.elapsed == .zero && flow.aws.calls("DescribeInstances").count == 1)
  }

  @Test func `a run waits for an incomplete group`() async {
    var flow = flow
    flow.settings.waitTimeout = .seconds(30)
    flow.aws.setGroups([FakeGroup("web", desired: 5)])
    let failed = await failure { [flow] in _ = try await plan(flow, .run) }
    #expect(failed?.message == "the group was not complete after 30 s: 3 of 5 servers" && flow.elapsed == .seconds(30))
  }

  @Test func `a missing gossip key is created by a run, shown by a dry run, refused by the sidecar`() async throws {
    var flow = flow
    flow.settings.gossipKey = .ssm(name: "/gossip")
    flow.settings.createsGossipKey = true
    let dry = try await plan(flow, .dryRun)
    #expect(dry.warnings == ["ssm:/gossip does not exist yet; a run creates it"])
    #expect(dry.configuration.document["encrypt"] == "" && flow.aws.parameter("/gossip") == nil)
    let failed = await failure { [flow] in _ = try await plan(flow, .stay) }
    #expect(failed?.message == "there is no parameter /gossip, which should contain the gossip key")
    let run = try await plan(flow, .run)
    #expect(run.configuration.document["encrypt"]?.string == flow.aws.parameter("/gossip"))
    #expect(run.warnings == [])
  }

  @Test func `a changed gossip key is a warning`() async throws {
    var flow = flow
    flow.settings.gossipKey = .ssm(name: "/gossip")
    flow.aws.setParameter("/gossip", gossipKey)
    flow.context.files.put("/etc/consul.d/00-consul-bootstrap.json", #"{"encrypt": "\#(otherKey)"}"#)
    #expect(
      try await plan(flow, .dryRun).warnings == [
        "ssm:/gossip has changed since this agent was configured; install the new key everywhere with consul keyring "
          + "-install, then -use: an agent keeps the keys of its keyring"
      ])
  }

  @Test func `interfaces that EC2 must describe are described once`() async throws {
    var flow = flow
    flow.settings.bind = .interface("eth0")
    flow.context.files.put("/sys/class/net/eth0/address", "02:00:00:00:00:01\n")
    #expect(try await plan(flow, .dryRun).configuration.document["bind_addr"] == "10.0.1.10")
    let macs = "/latest/meta-data/network/interfaces/macs/"
    flow.metadata.set(macs, "02:00:00:00:00:01/\n02:00:00:00:00:02/")
    flow.metadata.set(macs + "02:00:00:00:00:02/device-number", "1")
    flow.aws.refuse("DescribeInstances", .accessDenied)
    let failed = await failure { [flow] in _ = try await plan(flow, .dryRun) }
    #expect(failed?.message == "cannot describe the network interfaces of this instance: access denied")
  }

  // MARK: Jitter

  @Test func `a client delays its first call by up to 10 s`() async throws {
    let delays = try await (0..<8).asyncMap { _ in
      var flow = Flow()
      flow.settings.role = .client
      flow.settings.membership = .groups(["web"])
      _ = try await plan(flow, .run)
      #expect(flow.lines.contains { $0.hasPrefix("info delaying the first AWS call, to spread the calls of a fleet") })
      return flow.elapsed
    }
    #expect(delays.allSatisfy { $0 >= .zero && $0 <= .seconds(10) } && Set(delays).count > 1)
    #expect(delays.contains { $0 > .milliseconds(500) })
  }

  @Test func `--start-jitter bounds the delay of servers, too`() async throws {
    var flow = flow
    flow.settings.startJitter = .milliseconds(1)
    _ = try await plan(flow, .run)
    #expect(flow.elapsed <= .milliseconds(1))
    #expect(flow.lines.contains { $0.hasPrefix("info delaying the first AWS call") })
  }

  @Test func `servers, dry runs and the sidecar do not delay`() async throws {
    _ = try await plan(flow, .run)
    var client = flow
    client.settings.role = .client
    client.settings.membership = .groups(["web"])
    _ = try await plan(client, .dryRun)
    _ = try await plan(client, .stay)
    #expect(flow.elapsed == .zero && !flow.lines.contains { $0.contains("delaying") })
  }

  // MARK: Secrets that come late

  @Test func `secrets that AWS cannot read now are retried`() async throws {
    var flow = flow
    flow.settings.gossipKey = .ssm(name: "/gossip")
    flow.aws.setParameter("/gossip", gossipKey)
    flow.aws.refuse("GetParameter", .internalFailure, times: 3)
    let plan = try await plan(flow, .run)
    #expect(plan.configuration.document["encrypt"]?.string == gossipKey)
    #expect(flow.elapsed >= .milliseconds(3500) && flow.elapsed <= .seconds(7))
    let line =
      #"warning cannot read the secrets yet; retrying reason="SSM GetParameter answered InternalFailure (HTTP 500)""#
    #expect(flow.lines.dropFirst() == [line])
  }

  @Test func `secrets that stay away end the run at --wait-timeout`() async {
    var flow = flow
    flow.settings.gossipKey = .ssm(name: "/gossip")
    flow.settings.waitTimeout = .seconds(20)
    flow.aws.fail("GetParameter", .unreachable)
    let failed = await failure { [flow] in _ = try await plan(flow, .run) }
    #expect(failed?.message == "cannot read the secrets: no answer" && flow.elapsed == .seconds(20))
    #expect(flow.aws.calls("DescribeInstances").isEmpty)
  }

  @Test(arguments: [Planner.Mode.dryRun, .stay])
  func `a dry run and the sidecar do not retry`(_ mode: Planner.Mode) async {
    var flow = flow
    flow.settings.gossipKey = .ssm(name: "/gossip")
    flow.aws.fail("GetParameter", .unreachable)
    let failed = await failure { [flow] in _ = try await plan(flow, mode) }
    #expect(failed?.message == "cannot read the secrets: no answer" && flow.elapsed == .zero)
  }

  // MARK: The servers, for the sidecar

  @Test func `readiness is one observation of the servers`() async throws {
    let instance = try await flow.planner.locate()
    let readiness = try await flow.planner.readiness(at: instance)
    #expect(readiness.members.map(\.instanceID) == ["i-1", "i-2", "i-3"] && readiness.isComplete)
    #expect(flow.context.streams.requests.isEmpty && flow.elapsed == .zero)
  }

  @Test func `readiness fails as a run does, without a retry`() async throws {
    let flow = flow
    let instance = try await flow.planner.locate()
    flow.aws.refuse("DescribeInstances", .throttled)
    let failed = await failure { _ = try await flow.planner.readiness(at: instance) }
    #expect(failed?.message == "cannot describe Auto Scaling group web: throttled")
    #expect(flow.elapsed == .zero)
  }
}

extension Range where Bound == Int {
  fileprivate func asyncMap<Element>(_ transform: (Int) async throws -> Element) async rethrows -> [Element] {
    var list: [Element] = []
    for number in self { list.append(try await transform(number)) }
    return list
  }
}
