import AWS
import Base
import Consul
import TestSupport
import Testing

@testable import Decisions
@testable import Model
@testable import Observers

/// The wait for an election, `--leader-wait`: peers with raft state but no leader.
@Suite(.timeLimit(.minutes(5))) struct ElectionWaitTests {
  private var flow = Flow()

  /// Guards against a second cluster beside a survivor.
  @Test func `survivors without a leader are joined after --leader-wait, never bootstrapped over`() async throws {
    flow.agent("10.0.1.9", peers: ["10.0.1.9:8300", "10.0.1.8:8300"])
    let seen = try await flow.wait()
    #expect(seen.leaderWaitIsOver && flow.elapsed == .seconds(40))
    let readiness = Readiness(try #require(seen.group), identity: seen.identity, settings: flow.settings)
    #expect(
      ClusterDecision(seen, readiness, keepsData: false, flow.settings)
        == .joinWithoutLeader(
          survivors: [address("10.0.1.9")],
          evidence: [
            "10.0.1.9 (i-1): no leader, 2 raft peers", "10.0.2.100 (i-3): no agent runs",
          ]))
    let message = "servers have raft state but no leader; an election may be in progress"
    #expect(Set(flow.log.progress.map(\.message)) == [message])
  }

  @Test func `a leader that is elected meanwhile is joined`() async throws {
    let agent = flow.agent("10.0.1.9", peers: ["10.0.1.9:8300"])
    let flow = flow
    async let seen = flow.wait()
    try await flow.log.record(containing: "election", number: 3)
    agent.set { $0.leader = "10.0.1.9:8300" }
    let observation = try await seen
    #expect(!observation.leaderWaitIsOver)
    // At most a second between two polls.
    #expect(flow.elapsed < .seconds(5))
  }

  @Test func `an election is polled every second`() async throws {
    flow.agent("10.0.1.9", peers: ["10.0.1.9:8300"])
    _ = try await flow.wait()
    let polls = flow.context.streams.requests.filter { $0.address == address("10.0.1.9") }.count
    #expect(polls > 40 && polls < 85, "\(polls) polls")
  }

  /// A peer that answers again restarts the wait: only an uninterrupted time without a leader is an outage.
  @Test func `the wait restarts when the survivors were unreachable meanwhile`() async throws {
    flow.aws.setGroups([FakeGroup("web", desired: 5)])
    let agent = flow.agent("10.0.1.9", peers: ["10.0.1.9:8300"])
    let flow = flow
    async let seen = flow.wait()
    try await flow.log.record(containing: "election", number: 5)
    agent.set { $0.failure = .refused }
    try await flow.log.record(containing: "waiting for the group")
    let interrupted = flow.elapsed
    agent.set { $0.failure = nil }
    #expect(try await seen.leaderWaitIsOver)
    #expect(flow.elapsed >= interrupted + .seconds(40))
  }

  /// Guards against "was not complete: 3 of 3 servers".
  @Test func `a --wait-timeout below --leader-wait ends with the missing leader as the reason`() async {
    var flow = flow
    flow.settings.waitTimeout = .seconds(20)
    flow.agent("10.0.1.9", peers: ["10.0.1.9:8300"])
    let failed = await failure { [flow] in _ = try await flow.wait() }
    var expected = Failure(
      .groupIncomplete, "no leader was elected in 20 s",
      details: ["10.0.1.9 (i-1): no leader, 1 raft peer", "10.0.2.100 (i-3): no agent runs"],
      hint: "raise --wait-timeout above --leader-wait (40 s): after that this server joins without a leader")
    expected.needsRepair = true
    #expect(failed == expected)
    #expect(flow.elapsed == .seconds(20))
  }

  @Test func `a dry run shows the wait`() async throws {
    flow.agent("10.0.1.9", peers: ["10.0.1.9:8300"])
    let seen = try await flow.wait(waits: false)
    #expect(!seen.leaderWaitIsOver && flow.elapsed == .zero)
  }
}

/// The wait of a new datacenter for the other zones' servers, `--wan-wait`.
@Suite(.timeLimit(.minutes(5))) struct OtherZonesWaitTests {
  private var flow = Flow()

  init() {
    flow.settings.layout = .datacenterPerAZ
    flow.aws.setGroups([FakeGroup("web", desired: 4, zones: ["eu-west-1a", "eu-west-1b"])])
  }

  @Test func `a new datacenter goes on without them after --wan-wait`() async throws {
    let seen = try await flow.wait()
    #expect(flow.elapsed == .seconds(60) && seen.group?.instances.count == 3)
    #expect(
      flow.log.progress.first?.message
        == "the servers of this zone are complete; waiting up to 60 s for other zones: 1 of 2 in eu-west-1b")
    #expect(flow.log.progress.first?.attributes == ["elapsed": "0.0 s"])
  }

  @Test func `other zones that are complete need no wait`() async throws {
    flow.aws.setInstances(Flow.three + [FakeInstance("i-4", ip: "10.0.2.4", zone: "eu-west-1b")])
    _ = try await flow.wait()
    #expect(flow.elapsed == .zero)
    // The other datacenter's servers are not asked whether they have this one's cluster.
    #expect(flow.context.streams.requests.allSatisfy { $0.address < address("10.0.2.0") })
  }

  @Test func `a group of one zone waits for another zone to appear`() async throws {
    flow.aws.setGroups([FakeGroup("web", desired: 2)])
    flow.aws.setInstances(Array(Flow.three.prefix(2)))
    _ = try await flow.wait()
    #expect(flow.elapsed == .seconds(60))
    #expect(
      flow.log.progress.first?.message
        == "the servers of this zone are complete; waiting up to 60 s for other zones: none discovered yet")
  }

  /// The other zone may be the one that has just been lost.
  @Test func `a server that joins an existing datacenter never waits for another zone`() async throws {
    flow.agent("10.0.1.9", leader: "10.0.1.9:8300", peers: ["10.0.1.9:8300"])
    _ = try await flow.wait()
    #expect(flow.elapsed == .zero)
  }

  /// Guards against a poll every 10 ms between the two timeouts: 3,000 calls of AWS in 30 s.
  @Test func `a --wan-wait beyond --wait-timeout does not poll without a pause`() async throws {
    var flow = flow
    flow.settings.waitTimeout = .seconds(30)
    _ = try await flow.wait()
    #expect(flow.elapsed == .seconds(60))
    let calls = flow.aws.calls("DescribeInstances").count
    #expect(calls > 12 && calls < 40, "\(calls) calls")
  }

  @Test func `an incomplete own zone waits for --wait-timeout and does not mention the others`() async {
    var flow = flow
    flow.settings.waitTimeout = .seconds(20)
    flow.aws.change("i-1") { $0.state = "shutting-down" }
    let failed = await failure { [flow] in _ = try await flow.wait() }
    #expect(failed?.message == "the group was not complete after 20 s: 1 of 2 servers")
    #expect(failed?.details == ["missing: i-1 (instance state shutting-down)"])
  }
}
