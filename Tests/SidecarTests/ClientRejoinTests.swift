import Base
import Model
import TestSupport
import Testing

@testable import Sidecar

@Suite(.timeLimit(.minutes(5))) struct ClientRejoinTests {
  private let sidecar: SidecarFixture

  init() {
    var sidecar = SidecarFixture()
    sidecar.settings.role = .client
    sidecar.settings.membership = .groups(["consul"])
    sidecar.aws.setGroups([FakeGroup("consul", desired: 2)])
    sidecar.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10"),
      FakeInstance("i-s1", ip: "10.0.1.1", group: "consul"), FakeInstance("i-s2", ip: "10.0.1.2", group: "consul"),
    ])
    sidecar.agent.set {
      $0.members = [.init("own", "10.0.1.10", isServer: false), .init("old", "10.0.1.200", status: 4)]
    }
    sidecar.context.files.put(
      SidecarFixture.configuration, #"{"bind_addr": "10.0.1.10", "retry_join": ["10.0.1.200"]}"#)
    self.sidecar = sidecar
  }

  private var retryJoin: JSONValue? {
    sidecar.context.files.text(SidecarFixture.configuration).flatMap { try? JSONValue(parsing: $0)["retry_join"] }
  }

  private var startsWithoutServer: String {
    #"warning the agent knows no living server; joining it again servers=["10.0.1.1","10.0.1.2"]"#
  }

  /// Consul itself never finds servers that have replaced all the old ones (consul#5516).
  @Test func `a client whose servers have all been replaced joins the new ones, and its configuration names them`()
    async throws
  {
    try await sidecar.whileStaying { _ in
      try await sidecar.context.sink.record(containing: "once Consul has validated it")
      sidecar.agent.set { $0.members.append(.init("new", "10.0.1.1")) }
      let calls = sidecar.aws.calls.count
      try await sidecar.polls(4)
      try await sidecar.context.clock.settle()
      #expect(sidecar.aws.calls.count == calls)
    }
    #expect(sidecar.agent.joins == ["10.0.1.1", "10.0.1.2"])
    #expect(retryJoin == ["10.0.1.1", "10.0.1.2"])
    #expect(
      sidecar.log == [
        startsWithoutServer, "info joined the servers again count=2",
        SidecarFixture.hasWritten,
      ])
  }

  @Test func `one server that cannot be joined does not matter while another can`() async throws {
    sidecar.agent.set { $0.refusals["/v1/agent/join/10.0.1.1"] = (500, "no route") }
    try await sidecar.whileStaying { _ in
      try await sidecar.context.sink.record(containing: "once Consul has validated it")
    }
    #expect(sidecar.agent.joins == ["10.0.1.2"])
    #expect(retryJoin == ["10.0.1.1", "10.0.1.2"])
    #expect(
      sidecar.log == [
        startsWithoutServer, #"warning cannot join 10.0.1.1 reason="HTTP 500: no route""#,
        "info joined the servers again count=1",
        SidecarFixture.hasWritten,
      ])
  }

  /// The old configuration is worth more than one that names servers that nothing has reached.
  @Test func `a client that reaches no server keeps its configuration and retries`() async throws {
    sidecar.agent.set {
      for address in ["10.0.1.1", "10.0.1.2"] { $0.refusals["/v1/agent/join/\(address)"] = (500, "no route") }
    }
    try await sidecar.whileStaying { _ in
      try await sidecar.polls(3)
      try await sidecar.context.clock.settle()
    }
    #expect(retryJoin == ["10.0.1.200"] && sidecar.changes.isEmpty)
    #expect(sidecar.agent.joins.isEmpty)
    #expect(
      sidecar.log == [
        startsWithoutServer, #"warning cannot join 10.0.1.1 reason="HTTP 500: no route""#,
        #"warning cannot join 10.0.1.2 reason="HTTP 500: no route""#,
      ])
  }

  /// A second poll sees living servers: the configuration that could not be written kept the old ones for good.
  @Test func `a configuration that cannot be written is written at a later poll`() async throws {
    sidecar.context.files.fail(.write, SidecarFixture.configuration, errno: 28, times: 1)
    try await sidecar.whileStaying { _ in
      _ = try await sidecar.agent.joined(2)
      sidecar.agent.set { $0.members.append(.init("new", "10.0.1.1")) }
      try await sidecar.context.sink.record(containing: "once Consul has validated it")
      try await sidecar.polls(5)
      try await sidecar.context.clock.settle()
    }
    #expect(retryJoin == ["10.0.1.1", "10.0.1.2"] && sidecar.agent.joins.count == 2)
    #expect(sidecar.log(.warning).count == 2 && sidecar.log.last == SidecarFixture.hasWritten)
  }

  @Test func `while AWS is away nothing changes, and the client joins once AWS answers`() async throws {
    sidecar.aws.fail("DescribeAutoScalingGroups", .timedOut(whileConnecting: true), times: 5)
    try await sidecar.whileStaying { _ in
      try await sidecar.context.sink.record(containing: "once Consul has validated it")
    }
    let warning =
      #"warning the sidecar cannot keep the agent joined to servers; retrying reason="cannot describe Auto Scaling "#
      + "group consul: no answer; AutoScaling DescribeAutoScalingGroups got no answer: "
      + "https://autoscaling.eu-west-1.amazonaws.com: no connection in time after 5 attempts; hint: check the route "
      + #"to AWS: a NAT gateway or a VPC endpoint for autoscaling, the security groups, DNS""#
    #expect(
      sidecar.log == [
        warning, startsWithoutServer, "info joined the servers again count=2",
        SidecarFixture.hasWritten,
      ])
  }

  @Test func `a client with a living server asks AWS for nothing`() async throws {
    sidecar.agent.set { $0.members.append(.init("new", "10.0.1.1")) }
    try await sidecar.whileStaying { _ in try await sidecar.polls(12) }
    #expect(sidecar.aws.calls.isEmpty && sidecar.agent.joins.isEmpty && sidecar.log.isEmpty)
  }

  /// Where ACLs hide the members, every server looks gone: the client joined at every poll.
  @Test func `members that ACLs hide are reported once, and nothing is joined`() async throws {
    sidecar.agent.set { $0.requiredToken = "secret" }
    try await sidecar.whileStaying { _ in
      try await sidecar.polls(3)
      try await sidecar.context.clock.settle()
    }
    #expect(sidecar.aws.calls.isEmpty)
    #expect(
      sidecar.log == [
        "warning the agent's ACLs hide the members of the LAN pool: the sidecar cannot keep the agent joined "
          + #"hint="set --agent-token to a token with node:read and agent:write""#
      ])
  }

  /// The token of the configuration opens what ACLs protect.
  @Test func `the agent's token is sent with each request`() async throws {
    sidecar.context.files.put(
      SidecarFixture.configuration, #"{"bind_addr": "10.0.1.10", "acl": {"tokens": {"agent": "secret"}}}"#)
    sidecar.agent.set { $0.requiredToken = "secret" }
    try await sidecar.whileStaying { _ in _ = try await sidecar.agent.joined(2) }
  }
}
