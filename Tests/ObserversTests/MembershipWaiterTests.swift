import AWS
import Base
import Consul
import TestSupport
import Testing

@testable import Decisions
@testable import Model
@testable import Observers

/// The wait for a complete group: `--wait-timeout`, and what ends it earlier.
@Suite(.timeLimit(.minutes(5))) struct GroupWaitTests {
  private var flow = Flow()

  @Test func `a complete group needs no wait, and every other member's agent is queried`() async throws {
    let seen = try await flow.wait()
    #expect(seen.group?.instances.map(\.instanceID) == ["i-1", "i-2", "i-3"])
    let refused = PeerAnswer.refused
    #expect(seen.peers == [address("10.0.1.9"): refused, address("10.0.2.100"): refused])
    #expect(!seen.leaderWaitIsOver && flow.elapsed == .zero && flow.log.all.isEmpty)
  }

  @Test func `a member that appears later ends the wait`() async throws {
    flow.aws.change("i-3") { $0.isInEC2 = false }
    let flow = flow
    async let seen = flow.wait()
    let progress = try await flow.log.record(containing: "waiting for the group")
    #expect(progress.message == "waiting for the group: 2 of 3 servers; missing i-3 (not known to EC2 yet)")
    #expect(progress.attributes == ["eligible": 2, "expected": 3, "elapsed": "0.0 s"])
    flow.aws.change("i-3") { $0.isInEC2 = true }
    #expect(try await seen.peers.count == 2)
    #expect(flow.elapsed > .zero && flow.elapsed <= .seconds(1))
  }

  /// The last pause ends with the timeout, not after it.
  @Test func `a group that does not fill ends at --wait-timeout and names what is missing`() async {
    var flow = flow
    flow.settings.waitTimeout = .seconds(90)
    flow.aws.setGroups([FakeGroup("web", desired: 5)])
    flow.aws.change("i-3") { $0.lifecycle = "Standby" }
    let failed = await failure { [flow] in _ = try await flow.wait() }
    #expect(
      failed
        == Failure(
          .groupIncomplete, "the group was not complete after 90 s: 2 of 5 servers",
          details: ["missing: i-3 (lifecycle state Standby), 2 not launched yet"],
          hint: "check the activities of the group (aws autoscaling describe-scaling-activities), "
            + "lower --expect, or raise --wait-timeout"))
    #expect(flow.elapsed == .seconds(90))
    // Backoff up to 5 s: at least every 5 s, and not every 10 ms near the end.
    let calls = flow.aws.calls("DescribeInstances").count
    #expect(calls > 18 && calls < 50, "\(calls) calls")
  }

  /// The time of a query counts, too: no poll begins after the timeout.
  @Test func `silent peers do not prolong the wait`() async {
    // The pauses are random: one run may end in time by luck.
    for _ in 0..<10 {
      var flow = Flow()
      flow.settings.waitTimeout = .seconds(20)
      flow.aws.setGroups([FakeGroup("web", desired: 5)])
      for ip in Flow.peers { flow.context.silenceAgent(at: ip) }
      let failed = await failure { [flow] in _ = try await flow.wait() }
      #expect(failed?.message.hasSuffix(": 3 of 5 servers") == true)
      #expect(flow.elapsed >= .seconds(20) && flow.elapsed <= .seconds(21))
    }
  }

  @Test func `without this instance the group is not complete`() async {
    var flow = flow
    flow.settings.waitTimeout = .seconds(10)
    flow.aws.setInstances([
      FakeInstance("i-1", ip: "10.0.1.9"), FakeInstance("i-3", ip: "10.0.2.100"),
      FakeInstance("i-4", ip: "10.0.1.4"),
    ])
    flow.context.refuseAgent(at: "10.0.1.4")
    let failed = await failure { [flow] in _ = try await flow.wait() }
    #expect(failed?.message == "the group was not complete after 10 s: 3 of 3 servers")
    #expect(failed?.details == ["missing: i-2 (this instance is not listed)"])
  }

  @Test func `a known leader ends the wait for an incomplete group`() async throws {
    flow.aws.setGroups([FakeGroup("web", desired: 9)])
    flow.agent("10.0.1.9", leader: "10.0.1.9:8300", peers: ["10.0.1.9:8300"])
    let seen = try await flow.wait()
    #expect(
      seen.peers[address("10.0.1.9")]
        == .status(
          ClusterStatus(leader: "10.0.1.9:8300", peers: ["10.0.1.9:8300"], lastLog: LogPosition(term: 0, index: 0))))
    #expect(flow.elapsed == .zero)
  }

  @Test func `a dry run observes once, whatever is missing`() async throws {
    flow.aws.setGroups([FakeGroup("web", desired: 9)])
    let seen = try await flow.wait(waits: false)
    #expect(seen.group?.desiredCapacity == 9 && seen.peers.count == 2)
    #expect(flow.elapsed == .zero && flow.log.all.isEmpty)
  }

  @Test func `a cancelled wait ends at once`() async throws {
    flow.aws.setGroups([FakeGroup("web", desired: 9)])
    let flow = flow
    let task = Task { try await flow.wait() }
    try await flow.log.record(containing: "waiting for the group")
    task.cancel()
    await #expect(throws: CancellationError.self) { _ = try await task.value }
  }
}

/// AWS failures during the wait.
@Suite(.timeLimit(.minutes(5))) struct GroupWaitFailureTests {
  private var flow = Flow()

  @Test func `a failure that is retryable is retried, with its reason`() async throws {
    flow.aws.refuse("DescribeInstances", .throttled, times: 2)
    _ = try await flow.wait()
    let reason = #"reason="EC2 DescribeInstances answered Throttling (HTTP 400, request request-1): Rate exceeded""#
    // Each reason once.
    #expect(flow.lines == ["warning cannot describe Auto Scaling group web yet; retrying " + reason])
    #expect(flow.log.progress.count == 1)
    #expect(flow.elapsed > .seconds(1) && flow.elapsed < .seconds(4))
  }

  @Test
  func `a permission that stays missing ends the wait after a minute and a half, with the IAM action and the role`()
    async
  {
    flow.aws.refuse("DescribeInstances", .accessDenied)
    let flow = flow
    let failed = await failure { _ = try await flow.wait() }
    #expect(
      failed
        == Failure(
          .awsFailed, "cannot describe Auto Scaling group web: access denied",
          details: [
            "EC2 DescribeInstances answered AccessDenied (HTTP 403, request request-1): not authorized"
          ], hint: "allow ec2:DescribeInstances for role web-node"))
    #expect(flow.elapsed == .seconds(85))
  }

  @Test func `AWS that stays away ends the wait at --wait-timeout`() async {
    var flow = flow
    flow.settings.waitTimeout = .seconds(60)
    flow.aws.fail("DescribeAutoScalingGroups", .unreachable)
    let failed = await failure { [flow] in _ = try await flow.wait() }
    #expect(failed?.status == .awsFailed)
    #expect(failed?.message == "cannot describe Auto Scaling group web: no answer")
    #expect(flow.elapsed == .seconds(60))
  }

  /// A call that hangs until its own timeout counts as time waited.
  @Test func `the time of the failed call counts`() async {
    var flow = flow
    flow.settings.waitTimeout = .seconds(5)
    flow.context.transport.silence("https://autoscaling.eu-west-1.amazonaws.com/")
    let failed = await failure { [flow] in _ = try await flow.wait() }
    #expect(failed?.message == "cannot describe Auto Scaling group web: no answer")
    // Two connect timeouts of 3 s, with a pause between them.
    #expect(flow.elapsed > .seconds(6) && flow.elapsed <= .seconds(8))
  }

  @Test func `a dry run does not retry`() async {
    flow.aws.fail("DescribeInstances", .unreachable)
    let flow = flow
    let failed = await failure { _ = try await flow.wait(waits: false) }
    #expect(failed?.message == "cannot describe Auto Scaling group web: no answer")
    #expect(flow.aws.calls("DescribeInstances").count == 1 && flow.elapsed == .zero)
  }

  @Test func `a failure names what was described: groups or tags`() async {
    var flow = flow
    flow.aws.refuse("DescribeInstances", .accessDenied)
    flow.settings.membership = .groups(["web", "api"])
    flow.aws.setGroups([FakeGroup("web", desired: 3), FakeGroup("api", desired: 3)])
    let groups = await failure { [flow] in _ = try await flow.wait() }
    #expect(groups?.message == "cannot describe Auto Scaling groups web, api: access denied")
    flow.settings.membership = .tags([.init(key: "role", value: "consul"), .init(key: "env", value: "prod")])
    let tags = await failure { [flow] in _ = try await flow.wait() }
    #expect(tags?.message == "cannot describe the instances tagged role=consul, env=prod: access denied")
  }
}

/// How many servers are expected: what cannot be known is refused at once, with a reason.
@Suite(.timeLimit(.minutes(5))) struct ExpectationTests {
  private var flow = Flow()

  /// Guards against a new cluster that expects 0 servers, which Consul takes for no bootstrap at all.
  @Test func `a desired capacity of 0 is refused`() async {
    flow.aws.setGroups([FakeGroup("web", desired: 0)])
    let flow = flow
    let failed = await failure { _ = try await flow.wait() }
    #expect(
      failed
        == Failure(
          .usage, "the expected number of servers is 0",
          details: ["the desired capacity of Auto Scaling group web is 0"],
          hint: "raise the desired capacity, set --expect N, or correct --group"))
    #expect(flow.elapsed == .zero)
  }

  @Test func `a desired capacity that AWS does not give is refused`() async {
    flow.aws.setGroups([FakeGroup("web", desired: nil)])
    let flow = flow
    let failed = await failure { _ = try await flow.wait() }
    #expect(failed?.status == .awsFailed)
    #expect(failed?.message == "cannot describe Auto Scaling group web: malformed answer")
  }

  @Test func `tags have no desired capacity`() async {
    var flow = flow
    flow.settings.membership = .tags([.init(key: "aws:autoscaling:groupName", value: "web")])
    let failed = await failure { [flow] in _ = try await flow.wait() }
    #expect(
      failed
        == Failure(
          .usage, "the expected number of servers is not known", details: ["tags have no desired capacity"],
          hint: "set --expect N"))
  }

  @Test func `--expect replaces the desired capacity`() async throws {
    var flow = flow
    flow.aws.setGroups([FakeGroup("web", desired: 0)])
    flow.settings.expect = 3
    #expect(try await flow.wait().group?.instances.count == 3)
  }

  @Test func `a desired capacity that does not divide by the zones is refused in the layout of one per zone`() async {
    var flow = flow
    flow.settings.layout = .datacenterPerAZ
    flow.aws.setGroups([FakeGroup("web", desired: 3, zones: ["eu-west-1b", "eu-west-1a"])])
    let failed = await failure { [flow] in _ = try await flow.wait() }
    #expect(
      failed
        == Failure(
          .usage, "the expected number of servers in eu-west-1a cannot be derived from Auto Scaling group web",
          details: ["its desired capacity of 3 is not a multiple of its 2 zones (eu-west-1a, eu-west-1b)"],
          hint: "set --expect N, the number of servers in each zone, or change the desired capacity"))
    #expect(flow.elapsed == .zero)
  }

  /// A server with raft state starts whatever its group desires now.
  @Test func `a rejoining server does not need an expectation`() async throws {
    flow.aws.setGroups([FakeGroup("web", desired: 0)])
    var machine = flow.machine
    machine.dataDirectory = .init(
      content: .init(snapshotNamesThisAddress: true), raftState: .present(evidence: "raft.db"), isMount: false)
    let seen = try await flow.waiter.wait(flow.observation(machine), waits: true, rejoins: true)
    #expect(seen.group?.instances.count == 3 && flow.elapsed == .zero)
  }

  @Test func `a client needs no expectation`() async throws {
    var flow = flow
    flow.settings.role = .client
    flow.settings.membership = .groups(["web"])
    flow.aws.setGroups([FakeGroup("web", desired: 0)])
    #expect(try await flow.wait().group?.instances.count == 3)
  }
}

/// The wait of a client for its first server.
@Suite(.timeLimit(.minutes(5))) struct ClientWaitTests {
  private var flow = Flow()

  init() {
    flow.settings.role = .client
    flow.settings.membership = .groups(["web"])
  }

  @Test func `one eligible server is enough, and none is queried`() async throws {
    flow.aws.setInstances([FakeInstance("i-1", ip: "10.0.1.9")])
    let seen = try await flow.wait()
    #expect(seen.peers.isEmpty && flow.elapsed == .zero)
    #expect(flow.context.streams.requests.isEmpty)
  }

  @Test func `a client waits for a server up to --wait-timeout`() async {
    var flow = flow
    flow.settings.waitTimeout = .seconds(30)
    flow.aws.setInstances([FakeInstance("i-1", ip: "10.0.1.9", state: "stopped")])
    let failed = await failure { [flow] in _ = try await flow.wait() }
    #expect(
      failed
        == Failure(
          .groupIncomplete, "no server was running in 30 s",
          details: ["not eligible: i-1 (instance state stopped)"],
          hint: "check Auto Scaling group web, or raise --wait-timeout"))
    #expect(flow.elapsed == .seconds(30))
    #expect(
      flow.log.progress.first?.message
        == "waiting for a server: none runs; i-1 (instance state stopped)")
  }

  @Test func `in the layout of one datacenter per zone the server is one of the client's zone`() async {
    var flow = flow
    flow.settings.layout = .datacenterPerAZ
    flow.settings.waitTimeout = .seconds(5)
    flow.aws.setInstances([FakeInstance("i-3", ip: "10.0.2.100", zone: "eu-west-1b")])
    let failed = await failure { [flow] in _ = try await flow.wait() }
    #expect(failed?.message == "no server was running in 5.0 s" && failed?.details == [])
  }

  @Test func `a rejoining client waits 15 s for a server`() async {
    flow.aws.setInstances([])
    let flow = flow
    let failed = await failure { _ = try await flow.wait(rejoins: true) }
    #expect(failed?.message == "no server was running in 15 s" && flow.elapsed == .seconds(15))
  }
}

/// The group of this instance, where neither `--group` nor `--tag` names the servers.
@Suite(.timeLimit(.minutes(5))) struct OwnGroupTests {
  private var flow = Flow()

  private func ownGroup(_ flow: Flow, waits: Bool = true) async throws -> String? {
    try await flow.waiter.ownGroup(flow.identity, waits: waits)
  }

  @Test func `Auto Scaling names it`() async throws {
    #expect(try await ownGroup(flow) == "web")
    #expect(flow.elapsed == .zero)
  }

  @Test func `groups and tags need no call`() async throws {
    var flow = flow
    flow.settings.membership = .groups(["web"])
    #expect(try await ownGroup(flow) == nil)
    flow.settings.membership = .tags([.init(key: "a", value: "b")])
    #expect(try await ownGroup(flow) == nil)
    #expect(flow.aws.calls.isEmpty)
  }

  @Test func `an instance that Auto Scaling lists late is waited for`() async throws {
    flow.aws.change("i-2") { $0.group = nil }
    let flow = flow
    async let name = ownGroup(flow)
    try await flow.log.record(containing: "waiting for Auto Scaling", number: 3)
    flow.aws.change("i-2") { $0.group = "web" }
    #expect(try await name == "web")
    #expect(flow.elapsed == .seconds(6))
    #expect(flow.log.progress.map(\.message) == Array(repeating: "waiting for Auto Scaling to list i-2", count: 3))
  }

  @Test func `an instance in no group is an error at --wait-timeout`() async {
    flow.aws.change("i-2") { $0.group = nil }
    let flow = flow
    let failed = await failure { _ = try await ownGroup(flow) }
    #expect(
      failed
        == Failure(
          .groupIncomplete, "this instance belongs to no Auto Scaling group",
          details: ["DescribeAutoScalingInstances does not list i-2"],
          hint: "name the servers' group with --group, or discover the servers with --tag KEY=VALUE"))
    #expect(flow.elapsed >= .seconds(600) && flow.elapsed <= .seconds(602))
  }

  @Test func `a dry run does not wait for it`() async {
    flow.aws.change("i-2") { $0.group = nil }
    let flow = flow
    let failed = await failure { _ = try await ownGroup(flow, waits: false) }
    #expect(failed?.message == "this instance belongs to no Auto Scaling group" && flow.elapsed == .zero)
  }

  @Test func `a retryable failure is retried up to --wait-timeout`() async throws {
    var flow = flow
    flow.settings.waitTimeout = .seconds(60)
    flow.aws.fail("DescribeAutoScalingInstances", .unreachable)
    let failed = await failure { [flow] in _ = try await ownGroup(flow) }
    #expect(failed?.message == "cannot find the Auto Scaling group of i-2: no answer")
    #expect(flow.elapsed == .seconds(60))
    #expect(
      flow.lines.first
        == "warning cannot find the Auto Scaling group of this instance yet; retrying "
        + #"reason="AutoScaling DescribeAutoScalingInstances got no answer: "#
        + #"https://autoscaling.eu-west-1.amazonaws.com: host unreachable""#)
  }

  @Test func `a refusal may be of a new role: it is an error after a minute and a half`() async {
    flow.aws.refuse("DescribeAutoScalingInstances", .accessDenied)
    let flow = flow
    let failed = await failure { _ = try await ownGroup(flow) }
    #expect(failed?.hint == "allow autoscaling:DescribeAutoScalingInstances for role web-node")
    #expect(flow.elapsed == .seconds(85))
  }
}
