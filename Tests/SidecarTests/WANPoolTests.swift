import Base
import Model
import TestSupport
import Testing

@testable import Sidecar

@Suite(.timeLimit(.minutes(5))) struct WANPoolTests {
  private let sidecar: SidecarFixture

  /// This server in one zone, and so many in another, from 10.0.2.9 on.
  private static func setZones(_ aws: FakeAWS, others: Int) {
    aws.setGroups([
      FakeGroup("consul-a", desired: 1, zones: ["eu-west-1a"]),
      FakeGroup("consul-b", desired: others, zones: ["eu-west-1b"]),
    ])
    let servers = (1...others).map {
      FakeInstance("i-b\($0)", ip: "10.0.2.\(8 + $0)", zone: "eu-west-1b", group: "consul-b")
    }
    aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10", group: "consul-a")] + servers)
  }

  init() {
    var sidecar = SidecarFixture()
    sidecar.settings = .datacenterPerZone
    Self.setZones(sidecar.aws, others: 2)
    sidecar.agent.set {
      $0.wanMembers = [.init("own.a", "10.0.1.10")]
      // The look at this server's own cluster ends here: its calls are not counted.
      $0.refusals["/v1/status/leader"] = (500, "busy")
    }
    self.sidecar = sidecar
  }

  private func setPool(_ addresses: [String]) {
    sidecar.agent.set { $0.wanMembers = addresses.map { .init($0, $0) } }
  }

  private func refuseJoin(of address: String) {
    sidecar.agent.set { $0.refusals["/v1/agent/join/\(address)"] = (500, "no route") }
  }

  private var groupCalls: Int { sidecar.aws.calls("DescribeAutoScalingGroups").count }

  /// A complete pool must not cost two AWS calls every 30 s on every server.
  @Test func `missing servers are joined once; a complete pool is logged once and calls AWS every tenth poll`()
    async throws
  {
    try await sidecar.whileStaying { _ in
      #expect(try await sidecar.agent.joined(2) == ["wan 10.0.2.9", "wan 10.0.2.10"])
      setPool(["10.0.1.10", "10.0.2.9", "10.0.2.10"])
      try await sidecar.polls(20)
      try await sidecar.context.clock.settle()
      #expect(groupCalls == 2)
      try await sidecar.polls(21)
      try await sidecar.context.clock.settle()
      #expect(groupCalls == 3)
    }
    #expect(sidecar.agent.joins.count == 2)
    #expect(
      sidecar.log == [
        #"info joined a server of another zone over the WAN address="10.0.2.9""#,
        #"info joined a server of another zone over the WAN address="10.0.2.10""#,
        "info the WAN pool is complete others=2",
      ])
  }

  @Test func `one server that cannot be joined does not keep the others out, and is retried at every poll`()
    async throws
  {
    refuseJoin(of: "10.0.2.9")
    try await sidecar.whileStaying { _ in
      _ = try await sidecar.agent.joined(1)
      setPool(["10.0.1.10", "10.0.2.10"])
      try await sidecar.polls(5)
      try await sidecar.context.clock.settle()
      #expect(groupCalls == 5)
      #expect(sidecar.log == [#"info joined a server of another zone over the WAN address="10.0.2.10""#])
      #expect(
        Set(sidecar.context.sink.progress.map(\.description)) == [
          #"info cannot join 10.0.2.9 over the WAN yet reason="HTTP 500: no route""#
        ])
      sidecar.agent.set { $0.refusals = [:] }
      try await sidecar.context.sink.record(containing: "the WAN pool is complete")
    }
    #expect(sidecar.agent.joins == ["wan 10.0.2.10", "wan 10.0.2.9"])
  }

  /// A pool that stays incomplete was reported at every poll, or never.
  @Test func `a server that is lost is reported once, and its return once`() async throws {
    setPool(["10.0.1.10", "10.0.2.9", "10.0.2.10"])
    try await sidecar.whileStaying { _ in
      try await sidecar.polls(3)
      try await sidecar.context.clock.settle()
      setPool(["10.0.1.10", "10.0.2.9"])
      refuseJoin(of: "10.0.2.10")
      try await sidecar.polls(8)
      try await sidecar.context.clock.settle()
      setPool(["10.0.1.10", "10.0.2.9", "10.0.2.10"])
      try await sidecar.polls(12)
      try await sidecar.context.clock.settle()
    }
    #expect(
      sidecar.log == [
        "info the WAN pool is complete others=2",
        #"warning servers of other zones are missing from the WAN pool missing=["10.0.2.10"]"#,
        "info the WAN pool is complete others=2",
      ])
  }

  @Test func `a server that is listed as failed is joined again`() async throws {
    setPool(["10.0.1.10", "10.0.2.9"])
    sidecar.agent.set { $0.wanMembers.append(.init("b2", "10.0.2.10", status: 4)) }
    try await sidecar.whileStaying { _ in _ = try await sidecar.agent.joined(1) }
    #expect(sidecar.agent.joins == ["wan 10.0.2.10"])
  }

  /// "The pool is complete" was claimed while another zone had not launched its servers.
  @Test func `a pool without the servers that another zone expects is not complete`() async throws {
    sidecar.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10", group: "consul-a"),
      FakeInstance("i-b1", ip: "10.0.2.9", zone: "eu-west-1b", group: "consul-b"),
    ])
    setPool(["10.0.1.10", "10.0.2.9"])
    try await sidecar.whileStaying { _ in
      try await sidecar.polls(3)
      try await sidecar.context.clock.settle()
      #expect(groupCalls == 3)
    }
    #expect(sidecar.log == [])
  }

  @Test func `a poll that AWS refuses is logged, and the next one joins`() async throws {
    sidecar.aws.refuse("DescribeInstances", .accessDenied, times: 1)
    try await sidecar.whileStaying { _ in _ = try await sidecar.agent.joined(2) }
    #expect(
      sidecar.log.first
        == #"warning the sidecar cannot complete the WAN pool; retrying reason="cannot describe Auto Scaling "#
        + "groups consul-a, consul-b: access denied; EC2 DescribeInstances answered AccessDenied "
        + "(HTTP 403, request request-1): "
        + #"not authorized; hint: allow ec2:DescribeInstances for role web""#)
    #expect(sidecar.log.count == 4)
  }

  /// The group is read from AWS in the polls that read the secrets, too: a secret that cannot be read hid new servers
  /// of other zones for good.
  @Test func `a secret that AWS refuses keeps no new server of another zone out`() async throws {
    var sidecar = sidecar
    sidecar.settings.agentToken = .ssm(name: "/token")
    sidecar.aws.refuse("GetParameter", .accessDenied)
    setPool(["10.0.1.10", "10.0.2.9", "10.0.2.10"])
    try await sidecar.whileStaying { _ in
      try await sidecar.context.sink.record(containing: "the WAN pool is complete")
      Self.setZones(sidecar.aws, others: 3)
      #expect(try await sidecar.agent.joined(1) == ["wan 10.0.2.11"])
    }
    #expect(sidecar.aws.calls("GetParameter").count == 2)
  }

  /// An error that lasts filled the log with the same warning at each poll: AWS's request ID differs each time.
  @Test func `an error that lasts is reported once for each reason, and again after a success`() async throws {
    sidecar.aws.numberRequests()
    let reasons = {
      sidecar.log(.warning).map { line in
        ["access denied", "throttled"].first { line.contains(": \($0); ") } ?? line
      }
    }
    sidecar.aws.refuse("DescribeInstances", .accessDenied)
    try await sidecar.whileStaying { _ in
      try await sidecar.polls(5)
      try await sidecar.context.clock.settle()
      #expect(groupCalls == 5 && reasons() == ["access denied"])
      sidecar.aws.refuse("DescribeInstances", .throttled)
      try await sidecar.polls(8)
      try await sidecar.context.clock.settle()
      #expect(reasons() == ["access denied", "throttled"])
      sidecar.aws.recover("DescribeInstances")
      try await sidecar.context.sink.record(containing: "joined a server")
      sidecar.aws.refuse("DescribeInstances", .throttled)
      try await sidecar.polls(14)
      try await sidecar.context.clock.settle()
      #expect(reasons() == ["access denied", "throttled", "throttled"])
    }
  }

  /// Where ACLs hide the members, every server looks missing: the sidecar called AWS and joined all at every poll.
  @Test func `members that ACLs hide are reported once, and nothing is joined`() async throws {
    setPool([])
    try await sidecar.whileStaying { _ in
      try await sidecar.polls(3)
      try await sidecar.context.clock.settle()
      sidecar.agent.set { $0.requiredToken = "secret" }
      try await sidecar.polls(6)
      try await sidecar.context.clock.settle()
    }
    #expect(groupCalls == 0 && sidecar.agent.joins.isEmpty)
    #expect(
      sidecar.log == [
        "warning the agent's ACLs hide the members of the WAN pool: the sidecar cannot keep the agent joined "
          + #"hint="set --agent-token to a token with node:read and agent:write""#
      ])
  }

  /// An agent that restarts does not answer for a moment: no warning for that.
  @Test func `an agent that does not answer is polled again`() async throws {
    sidecar.agent.set { $0.failure = .refused }
    try await sidecar.whileStaying { _ in
      try await sidecar.polls(2)
      sidecar.agent.set { $0.failure = nil }
      _ = try await sidecar.agent.joined(2)
    }
    #expect(sidecar.log.count == 3)
  }
}
