import Base
import Execution
import Model
import TestSupport
import Testing

/// A health check whose cluster has servers with data and no leader.
@Suite(.timeLimit(.minutes(5))) struct RecoveryWaitTests {
  private let test = TestContext()
  private let agent: FakeConsulAgent

  init() {
    agent = FakeConsulAgent(test)
    agent.set { state in (state.leader, state.peers) = (nil, []) }
  }

  private func requirements(_ raftAddress: String?) -> HealthRequirements {
    HealthRequirements(
      agentAddress: "127.0.0.1:8500", raftAddress: raftAddress, servers: 1, wan: nil, token: nil, runner: .systemd,
      timeout: .seconds(20))
  }

  private func verify(
    _ raftAddress: String? = "10.0.1.10:8300", agreement: HealthCheck.Agreement? = nil,
    limit: HealthCheck.RecoveryLimit? = nil
  ) async -> Failure? {
    do {
      _ = try await HealthCheck(
        requirements(raftAddress), context: test.context, agreement: agreement, recoveryLimit: limit
      ).verify(agent: FixedMonitor())
      return nil
    } catch {
      return error as? Failure
    }
  }

  @Test(arguments: [([], false), (["10.0.1.11:8300"], true)])
  func `a client learns it from its own agent, which the servers answer`(_ peers: [String], _ waits: Bool) async {
    agent.set { $0.peers = peers }
    let failure = await verify(nil)
    #expect(failure?.needsRepair == waits && test.clock.uptime() == .seconds(20))
    #expect(
      failure?.message == "the Consul agent is not healthy after 20 s: the agent knows no leader"
        + (waits ? "; the servers have raft data and no leader" : ""))
  }

  @Test func `the limit is asked each minute, and ends the wait`() async {
    let times = Watched<[Duration]>([])
    let failure = await verify(
      agreement: { $0 == .timedOut ? .waitsForRecovery(["10.0.1.11 has raft data and no leader"]) : .unchanged() },
      limit: { [test, times] in
        times.update { $0.append(test.clock.uptime()) }
        return .seconds(170) - test.clock.uptime()
      })
    #expect(failure?.needsRepair == true)
    #expect(times.value == [20, 80, 140, 170].map { .seconds($0) }, "\(times.value)")
  }

  @Test func `a look that fails leaves what was known`() async {
    let looks = Watched(0)
    let failure = await verify(
      agreement: { [looks] reason in
        guard reason == .timedOut else { return .unchanged() }
        let count = looks.update { count in
          count += 1
          return count
        }
        if count == 2 { throw Failure(.awsFailed, "cannot describe the group") }
        return count == 1 ? .waitsForRecovery(["10.0.1.11 has raft data and no leader"]) : .unchanged()
      }, limit: { .seconds(600) })
    // A third look found a leader elsewhere: this server is at fault.
    #expect(looks.value == 3 && failure?.needsRepair == false && test.clock.uptime() == .seconds(140))
  }

  @Test func `with a leader the timeout begins again`() async {
    let failure = await verify(
      agreement: { [agent] reason in
        guard reason == .timedOut else { return .unchanged() }
        // The next poll finds a leader, which does not add this server.
        agent.set { ($0.leader, $0.peers) = ("10.0.1.11:8300", ["10.0.1.11:8300"]) }
        return .waitsForRecovery(["10.0.1.11 has raft data and no leader"])
      }, limit: { .seconds(600) })
    #expect(failure?.needsRepair == false)
    #expect(test.clock.uptime() > .seconds(40) && test.clock.uptime() < .seconds(42))
    #expect(failure?.message.contains("is not a raft voter") == true)
    #expect(test.sink.lines.contains { $0.hasPrefix("info the cluster has a leader again") })
  }
}
