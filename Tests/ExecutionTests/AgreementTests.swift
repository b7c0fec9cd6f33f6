import Base
import Execution
import Model
import TestSupport
import Testing

/// Servers that were started with different values of `bootstrap_expect` never elect a leader: each looks again.
@Suite(.timeLimit(.minutes(5))) struct AgreementTests {
  private let test = TestContext()
  private let agent: FakeConsulAgent

  init() {
    agent = FakeConsulAgent(test)
    agent.setCluster([("a", "10.0.1.10"), ("b", "10.0.1.11")])
    agent.set { state in
      (state.leader, state.peers) = (nil, [])
      state.members = [.init("a", "10.0.1.10", expect: 3), .init("b", "10.0.1.11", expect: 5)]
    }
  }

  private func requirements(
    _ expect: Int?, at address: String = "10.0.1.10", timeout: Duration = .seconds(20)
  ) -> HealthRequirements {
    HealthRequirements(
      agentAddress: "127.0.0.1:8500", raftAddress: "\(address):8300", servers: 2, bootstrapExpect: expect, wan: nil,
      token: nil, runner: .systemd, timeout: timeout)
  }

  private func verify(
    _ expect: Int?, at address: String = "10.0.1.10", timeout: Duration = .seconds(20),
    agreement: HealthCheck.Agreement? = nil
  ) async -> Failure? {
    let requirements = requirements(expect, at: address, timeout: timeout)
    do {
      _ = try await HealthCheck(requirements, context: test.context, agreement: agreement).verify(agent: FixedMonitor())
      return nil
    } catch {
      return error as? Failure
    }
  }

  @Test func `a server that is given another number looks no further once it has a leader`() async {
    let times = Watched<[Duration]>([])
    let failure = await verify(3) { [test, agent, times] _ in
      times.update { $0.append(test.clock.uptime()) }
      agent.set { state in
        (state.leader, state.members[0].expect) = ("10.0.1.10:8300", 5)
      }
      return .changed(requirements(5))
    }
    #expect(failure == nil && times.value.count == 1)
    #expect((times.value.first ?? .zero) >= .seconds(2) && test.clock.uptime() < .seconds(3))
    #expect(
      test.sink.progress.map(\.message).contains("the servers disagree: bootstrap_expect is 3 here, but b has 5"))
  }

  @Test func `one whose number is right waits for the others, and looks every two seconds`() async {
    let looks = Watched(0)
    let failure = await verify(3) { _ in
      looks.update { $0 += 1 }
      return .unchanged()
    }
    #expect(looks.value >= 8 && looks.value <= 10, "\(looks.value)")
    #expect(
      failure?.message == "the Consul agent is not healthy after 20 s: the agent knows no leader; "
        + "bootstrap_expect is 3 here, but b has 5")
  }

  @Test func `the new requirements count`() async {
    let failure = await verify(3) { [agent] _ in
      agent.set { $0.leader = "10.0.1.10:8300" }
      return .changed(
        HealthRequirements(
          agentAddress: "127.0.0.1:8500", raftAddress: "10.0.1.10:8300", servers: 3, bootstrapExpect: 3, wan: nil,
          token: nil, runner: .systemd, timeout: .seconds(20)))
    }
    #expect(failure?.message.hasSuffix("2 of 3 servers are in the raft configuration") == true)
  }

  @Test func `a look that fails is repeated`() async {
    let looks = Watched(0)
    let failure = await verify(3) { [agent] _ in
      let count = looks.update { count in
        count += 1
        return count
      }
      if count == 1 { throw Failure(.awsFailed, "cannot describe the group") }
      agent.set { $0.leader = "10.0.1.10:8300" }
      return .unchanged()
    }
    #expect(failure == nil && looks.value == 2)
    #expect(test.sink.lines.contains { $0.hasPrefix("warning cannot look again at the servers") })
  }

  @Test(arguments: [
    // Members that are gone, clients and servers that join have no say.
    FakeConsulAgent.Member("b", "10.0.1.11", status: 4, expect: 5), .init("b", "10.0.1.11", isServer: false, expect: 5),
    .init("b", "10.0.1.11"), .init("b", "10.0.1.11", expect: 3),
  ])
  func `without a disagreement the founders are looked at every 15 s`(_ other: FakeConsulAgent.Member) async {
    agent.set { $0.members = [.init("a", "10.0.1.10", expect: 3), other] }
    let times = Watched<[Duration]>([])
    let failure = await verify(3, timeout: .seconds(50)) { [test, times] reason in
      // At the timeout they may turn out to wait for a recovery.
      guard reason != .timedOut else { return .unchanged() }
      #expect(reason == .someAreMissing)
      times.update { $0.append(test.clock.uptime()) }
      return .unchanged(waitsFor: ["i-c (10.0.1.12) runs no agent"])
    }
    // The test clock may run ahead of a look on a loaded machine.
    #expect((2...3).contains(times.value.count), "\(times.value)")
    #expect((times.value.first ?? .zero) >= .seconds(15), "\(times.value)")
    #expect(
      failure?.message == "the Consul agent is not healthy after 50 s: the agent knows no leader; "
        + "i-c (10.0.1.12) runs no agent")
    #expect(failure?.hint?.hasPrefix("repair the servers that the error names, or terminate them") == true)
  }

  @Test func `a founder that starts again with fewer servers is healthy in the same run`() async {
    agent.set { $0.members = [.init("a", "10.0.1.10", expect: 3), .init("b", "10.0.1.11", expect: 3)] }
    let failure = await verify(3, timeout: .seconds(50)) { [agent] _ in
      agent.set { ($0.leader, $0.members[0].expect, $0.members[1].expect) = ("10.0.1.10:8300", 2, 2) }
      return .changed(requirements(2))
    }
    #expect(failure == nil && test.clock.uptime() < .seconds(20))
  }

  /// An agent compares the numbers only when a server joins: two that restart together may both miss the other's.
  @Test(arguments: [("10.0.1.10", [5, 10]), ("10.0.1.11", [10])])
  func `when all are there and none bootstraps, one after the other starts again`(_ own: String, _ at: [Int]) async {
    agent.set { state in
      state.members = [.init("b", "10.0.1.11", expect: 2), .init("a", "10.0.1.10", expect: 2)]
      state.members.append(.init("client", "10.0.1.9", isServer: false))
    }
    let times = Watched<[Duration]>([])
    let failure = await verify(2, at: own) { [test, agent, times] reason in
      #expect(reason == .allAreThere)
      let count = times.update { times in
        times.append(test.clock.uptime())
        return times.count
      }
      if count == at.count { agent.set { $0.leader = "10.0.1.10:8300" } }
      return .unchanged()
    }
    #expect(failure == nil && times.value.count == at.count)
    for (time, seconds) in zip(times.value, at) {
      #expect(time >= .seconds(seconds) && time < .seconds(seconds + 8), "\(times.value)")
    }
  }

  @Test(arguments: [
    [FakeConsulAgent.Member("a", "10.0.1.10", expect: 2)], [.init("b", "10.0.1.11", expect: 2)],
    [.init("a", "10.0.1.10", expect: 2), .init("b", "10.0.1.11", status: 4, expect: 2)],
    [.init("a", "10.0.1.10", expect: 2), .init("b", "10.0.1.11", isServer: false)],
  ])
  func `while a server is missing none starts again`(_ members: [FakeConsulAgent.Member]) async {
    agent.set { $0.members = members }
    let failure = await verify(2) { reason in
      #expect(reason == .someAreMissing || reason == .timedOut)
      return .unchanged()
    }
    #expect(failure?.message == "the Consul agent is not healthy after 20 s: the agent knows no leader")
  }

  private func looks(_ requirements: HealthRequirements) async -> [Duration] {
    let times = Watched<[Duration]>([])
    do {
      _ = try await HealthCheck(requirements, context: test.context) { [test, times] reason in
        guard reason != .timedOut else { return .unchanged() }
        times.update { $0.append(test.clock.uptime()) }
        return .unchanged()
      }.verify(agent: FixedMonitor())
      Issue.record("healthy")
    } catch {}
    return times.value
  }

  /// It waited up to a minute, for the leader's reconciliation.
  @Test func `a server that joins and is not added looks at the leader, at growing intervals`() async {
    let times = await looks(requirements(nil))
    #expect(times.count == 3)
    for (time, expected) in zip(times, [2, 6, 14]) {
      #expect(time >= .seconds(expected) && time < .seconds(expected + 2), "\(times)")
    }
  }

  @Test func `a server with raft peers, and a client, do not`() async {
    agent.set { $0.peers = ["10.0.1.10:8300"] }
    #expect(await looks(requirements(nil)).isEmpty)
    agent.set { $0.peers = [] }
    let client = HealthRequirements(
      agentAddress: "127.0.0.1:8500", raftAddress: nil, servers: 0, wan: nil, token: nil, runner: .systemd,
      timeout: .seconds(20))
    #expect(await looks(client).isEmpty)
  }
}
