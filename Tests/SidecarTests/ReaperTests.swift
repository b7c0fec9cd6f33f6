import Base
import Model
import TestSupport
import Testing

@testable import Sidecar

/// The leader, 10.0.1.10, with servers 10.0.1.11 and 10.0.1.12 and client 10.0.1.20; s12 or c20 fails.
@Suite(.timeLimit(.minutes(5))) struct ReaperTests {
  var fixture = SidecarFixture()

  init() {
    fixture.settings.reapsDeadMembers = true
    fixture.settings.membership = .groups(["web"])
    fixture.settings.sidecarInterval = .seconds(3600)
    fixture.agent.setCluster([("own", "10.0.1.10"), ("s11", "10.0.1.11"), ("s12", "10.0.1.12")])
    fixture.agent.set {
      $0.members.append(.init("c20", "10.0.1.20", isServer: false))
      $0.catalog = ["own": "i-0aaa", "s11": "i-0bbb", "s12": "i-0ccc", "c20": "i-0ddd"]
    }
    fixture.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10"), FakeInstance("i-0bbb", ip: "10.0.1.11"),
      FakeInstance("i-0ccc", ip: "10.0.1.12"), FakeInstance("i-0ddd", ip: "10.0.1.20", group: nil),
    ])
    fixture.context.ports.set("10.0.1.12", .tcp, port: 8301, to: .silent)
    fixture.context.ports.set("10.0.1.20", .tcp, port: 8301, to: .refused)
  }

  /// Gossip knows it as failed.
  func fail(_ node: String) {
    fixture.agent.set { state in
      for index in state.members.indices where state.members[index].name == node { state.members[index].status = 4 }
    }
  }

  /// Auto Scaling forgets it at once.
  func terminate(_ instance: String) {
    fixture.aws.change(instance) { ($0.state, $0.group) = ("terminated", nil) }
  }

  func whileLeading(_ body: () async throws -> Void) async throws {
    let sidecar = fixture.sidecar(), instance = try await fixture.instance()
    // The other parts of the sidecar have tests of their own, and each takes the test clock's time.
    let task = Task {
      async let reports: Void = sidecar.keepReporting()
      await sidecar.watchDeadMembers(at: instance)
      await reports
    }
    defer { task.cancel() }
    try await body()
  }

  func time(_ seconds: Int) async throws { try await fixture.context.clock.sleep(for: .seconds(seconds)) }

  /// Calls of EC2 about suspects: other parts of the sidecar list the group.
  private var proofCalls: Int {
    fixture.aws.calls("DescribeInstances").count { $0.parameters["Filter.1.Name"] == "instance-id" }
  }

  private var log: [String] { fixture.log }

  // MARK: removal

  @Test func `a server that is terminated is out of raft, then out of the members`() async throws {
    try await whileLeading {
      try await time(60)
      fail("s12")
      terminate("i-0ccc")
      _ = try await fixture.agent.removed(2)
    }
    #expect(fixture.agent.removals == ["raft s12", "prune s12"])
    #expect(fixture.context.clock.uptime() <= .seconds(60 + 50))
    #expect(
      log == [
        #"info removed a dead server from the raft configuration node="s12" instance="i-0ccc" "#
          + #"evidence="i-0ccc is terminated by two answers that report i-0aaa as running, failed for 31 s, "#
          + #"not served by Auto Scaling, and its gossip port does not answer""#
      ])
  }

  /// One that waits takes the lock and lets it go each second; one may hold it when this server looks.
  @Test(arguments: ["holds the lock", "takes the lock again and again", "leaves not"])
  func `a server that waits to leave has the proof of a dead one sooner`(_ kind: String) async throws {
    try await whileLeading {
      fail("s12")
      fixture.aws.change("i-0ccc") { $0.state = "shutting-down" }
      try await time(60)
      let start = fixture.context.clock.uptime()
      terminate("i-0ccc")
      if kind == "holds the lock" { fixture.agent.set { $0.leaveLock = ("other", "i-0bbb") } }
      while fixture.agent.removals.isEmpty {
        if kind == "takes the lock again and again" { fixture.agent.set { $0.leaveIndex += 1 } }
        try await time(1)
      }
      let seconds = fixture.context.clock.uptime() - start
      #expect(kind == "leaves not" ? seconds >= .seconds(15) : seconds <= .seconds(12), "\(seconds)")
    }
  }

  /// A departure may wait for days.
  @Test func `a wait of hours does not ask EC2 more often`() async throws {
    fail("s12")
    fixture.aws.change("i-0ccc") { $0.state = "stopped" }
    fixture.agent.set { $0.leaveLock = ("other", "i-0bbb") }
    try await whileLeading { try await time(3600) }
    #expect(proofCalls <= 60 && fixture.agent.removals.isEmpty)
  }

  @Test func `a client that is terminated is out of the members`() async throws {
    try await whileLeading {
      fail("c20")
      terminate("i-0ddd")
      _ = try await fixture.agent.removed()
      try await time(120)
    }
    #expect(fixture.agent.removals == ["prune c20"])
    let line = #"info removed a dead member from the catalog node="c20" instance="i-0ddd" evidence="i-0ddd is term"#
    #expect(log.count == 1 && log[0].hasPrefix(line))
  }

  /// The cluster is quiet nearly always.
  @Test func `without a failed member no call to AWS is made`() async throws {
    try await whileLeading { try await time(900) }
    #expect(proofCalls == 0 && fixture.agent.removals.isEmpty && log.isEmpty)
  }

  @Test func `two dead servers are removed in two looks with a proof each`() async throws {
    fixture.agent.set { state in
      for number in [13, 14] {
        state.members.append(.init("s\(number)", "10.0.1.\(number)"))
        state.servers.append(.init("s\(number)", "10.0.1.\(number):8300"))
        state.catalog["s\(number)"] = "i-0\(number)"
      }
    }
    fixture.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10"), FakeInstance("i-0ccc", ip: "10.0.1.12", group: nil, state: "terminated"),
      FakeInstance("i-013", ip: "10.0.1.13", group: nil, state: "terminated"),
    ])
    fixture.context.ports.set("10.0.1.13", .tcp, port: 8301, to: .silent)
    try await whileLeading {
      fail("s12")
      fail("s13")
      _ = try await fixture.agent.removed(2)
      let first = fixture.context.clock.uptime(), asked = proofCalls
      _ = try await fixture.agent.removed(4)
      #expect(fixture.context.clock.uptime() - first >= .seconds(15))
      #expect(proofCalls > asked)
    }
    #expect(Set(fixture.agent.removals) == ["raft s12", "prune s12", "raft s13", "prune s13"])
  }

  /// It would keep its place in front of the others for ever.
  @Test func `a server that may run does not keep another one from its removal`() async throws {
    fixture.agent.set { state in
      state.members += [.init("s13", "10.0.1.13"), .init("s14", "10.0.1.14")]
      state.servers += [.init("s13", "10.0.1.13:8300"), .init("s14", "10.0.1.14:8300")]
      state.catalog["s13"] = "i-013"
    }
    fixture.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10"), FakeInstance("i-0ccc", ip: "10.0.1.12", group: nil, state: "terminated"),
      FakeInstance("i-013", ip: "10.0.1.13", group: nil, state: "terminated"),
    ])
    fixture.context.ports.set("10.0.1.12", .tcp, port: 8301, to: .open)
    fixture.context.ports.set("10.0.1.13", .tcp, port: 8301, to: .silent)
    try await whileLeading {
      fail("s12")
      try await time(20)
      fail("s13")
      _ = try await fixture.agent.removed(2)
    }
    #expect(fixture.agent.removals == ["raft s13", "prune s13"])
  }

  /// Autopilot needs gossip to remove it.
  @Test func `a raft peer that gossip does not know is removed from raft only`() async throws {
    terminate("i-0ccc")
    fixture.agent.set { $0.members.removeAll { $0.name == "s12" } }
    try await whileLeading {
      _ = try await fixture.agent.removed()
      try await time(60)
    }
    #expect(fixture.agent.removals == ["raft s12"])
  }

  @Test func `the rest is removed where one removal fails, which is logged once`() async throws {
    fixture.agent.set { state in
      state.members.append(.init("c19", "10.0.1.19", isServer: false))
      state.catalog["c19"] = "i-0eee"
      state.refusals["/v1/agent/force-leave/c19"] = (500, "agent: No node found with name 'c19'")
    }
    fixture.context.ports.set("10.0.1.19", .tcp, port: 8301, to: .refused)
    fixture.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10"), FakeInstance("i-0ddd", ip: "10.0.1.20", group: nil, state: "terminated"),
      FakeInstance("i-0eee", ip: "10.0.1.19", group: nil, state: "terminated"),
    ])
    try await whileLeading {
      fail("c19")
      fail("c20")
      _ = try await fixture.agent.removed()
      try await time(300)
    }
    #expect(fixture.agent.removals == ["prune c20"])
    #expect(
      fixture.log(.warning) == [
        "warning the sidecar cannot remove dead members; retrying reason=\"cannot remove c19; "
          + "HTTP 500: agent: No node found with name 'c19'\""
      ])
  }

  // MARK: what keeps a member

  /// Every lie that `aws.py` can tell, and every doubt: a member that may run is never removed.
  enum Doubt: String, CaseIterable, Sendable {
    case running, shuttingDown, stopped, forgotten, emptyAnswer, otherRegion, unreachable, denied
    case portOpen, addressReused, sameInstance, groupListsIt, groupUnknown, groupDenied, noInstance, otherNode
    case oneSighting, gossipFlaps
  }

  @Test(arguments: Doubt.allCases)
  func `a member that may run stays`(_ doubt: Doubt) async throws {
    let aws = fixture.aws, agent = fixture.agent
    fail("s12")
    terminate("i-0ccc")
    switch doubt {
    case .running: aws.change("i-0ccc") { $0.state = "running" }
    case .shuttingDown: aws.change("i-0ccc") { $0.state = "shutting-down" }
    case .stopped: aws.change("i-0ccc") { $0.state = "stopped" }
    case .forgotten: aws.change("i-0ccc") { $0.isInEC2 = false }
    case .emptyAnswer: for id in ["i-0aaa", "i-0ccc"] { aws.change(id) { $0.isInEC2 = false } }
    case .otherRegion: aws.change("i-0aaa") { $0.isInEC2 = false }
    case .unreachable: aws.fail("DescribeInstances", .refused)
    case .denied: aws.refuse("DescribeInstances", .accessDenied)
    case .portOpen: fixture.context.ports.set("10.0.1.12", .tcp, port: 8301, to: .open)
    case .addressReused: agent.set { $0.members.append(.init("new", "10.0.1.12")) }
    case .sameInstance:
      agent.set {
        $0.members.append(.init("new", "10.0.1.30"))
        $0.catalog["new"] = "i-0ccc"
      }
    case .groupListsIt: aws.change("i-0ccc") { $0.group = "web" }
    case .groupUnknown: aws.setGroups([])
    case .groupDenied: aws.refuse("DescribeAutoScalingGroups", .accessDenied)
    case .noInstance: agent.set { $0.catalog["s12"] = "" }
    case .otherNode:
      agent.set {
        $0.catalog["s12"] = nil
        $0.catalog["other"] = "i-0ccc"
      }
    case .oneSighting, .gossipFlaps: break
    }
    try await whileLeading {
      switch doubt {
      case .oneSighting:
        while proofCalls == 0 { try await time(1) }
        aws.change("i-0ccc") { $0.state = "running" }
      case .gossipFlaps:
        for _ in 0..<30 {
          try await time(20)
          agent.set { $0.members[2].status = 1 }
          try await time(10)
          fail("s12")
        }
        return
      default: break
      }
      try await time(600)
    }
    #expect(agent.removals.isEmpty)
  }

  @Test func `a follower neither calls AWS nor removes`() async throws {
    fail("s12")
    terminate("i-0ccc")
    fixture.agent.set { $0.leader = "10.0.1.11:8300" }
    try await whileLeading { try await time(600) }
    #expect(fixture.agent.removals.isEmpty && proofCalls == 0)
  }

  @Test func `a leader that is none any more after the proof removes nothing`() async throws {
    fail("s12")
    terminate("i-0ccc")
    try await whileLeading {
      while proofCalls < 2 { try await time(1) }
      fixture.agent.set { $0.leader = "10.0.1.11:8300" }
      try await time(300)
    }
    #expect(fixture.agent.removals.isEmpty)
  }

  @Test func `--reap false removes nothing`() async throws {
    var fixture = fixture
    fixture.settings.reapsDeadMembers = false
    fail("s12")
    terminate("i-0ccc")
    try await fixture.whileStaying { _ in try await time(600) }
    #expect(fixture.agent.removals.isEmpty)
  }

  /// A stopped instance may stay so for months.
  @Test func `an instance that stays stopped costs a call in five minutes, and one line in the log`() async throws {
    fail("s12")
    fixture.aws.change("i-0ccc") { $0.state = "stopped" }
    try await whileLeading {
      try await time(900)
      let asked = proofCalls
      try await time(900)
      #expect(proofCalls - asked <= 3)
    }
    #expect(
      log == [
        #"info a failed member is not proven dead, and stays node="s12" instance="i-0ccc" "#
          + #"reason="EC2 reports i-0ccc as stopped""#
      ])
  }

  @Test func `without AWS nothing is removed, which the report says with its beginning`() async throws {
    fail("s12")
    terminate("i-0ccc")
    fixture.aws.refuse("DescribeInstances", .accessDenied)
    try await whileLeading {
      try await time(900)
      let report = fixture.context.files.text(fixture.settings.sidecarReportPath) ?? ""
      #expect(report.contains("the sidecar cannot remove dead members: cannot ask EC2 about failed members"))
      #expect(report.contains("ec2:DescribeInstances") && report.contains("(since 20"))
      #expect(fixture.log(.warning).count == 1)
      fixture.aws.recover("DescribeInstances")
      _ = try await fixture.agent.removed(2)
      try await time(60)
      #expect(fixture.context.files.text(fixture.settings.sidecarReportPath)?.contains("dead members") == false)
    }
  }

  @Test(arguments: [
    ("/v1/agent/self", "agent:read"), ("/v1/agent/members", "node:read"), ("/v1/catalog/nodes", "node:read"),
    ("/v1/operator/raft/configuration", "operator:read"), ("/v1/operator/raft/peer", "operator:write"),
    ("/v1/agent/force-leave/s12", "operator:write"),
  ])
  func `a rule that ACLs lack is named, once`(_ path: String, _ rule: String) async throws {
    fail("s12")
    terminate("i-0ccc")
    fixture.agent.set { $0.refusals[path] = (403, "Permission denied") }
    try await whileLeading { try await time(300) }
    let warnings = fixture.log(.warning).filter { $0.contains("dead members") }
    #expect(
      warnings == [
        "warning the sidecar cannot remove dead members; retrying reason=\"the agent's ACLs forbid it; "
          + "hint: set --agent-token to a token with \(rule)\""
      ])
  }
}
