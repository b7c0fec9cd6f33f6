import Base
import Execution
import Model
import TestSupport
import Testing

/// When the check polls, and what ends it besides health.
@Suite(.timeLimit(.minutes(5))) struct HealthCheckFlowTests {
  private let test = TestContext()
  private let agent: FakeConsulAgent

  init() {
    agent = FakeConsulAgent(test)
    agent.setCluster([("a", "10.0.1.10")])
  }

  private func check(raftAddress: String? = "10.0.1.10:8300", timeout: Duration) -> HealthCheck {
    let requirements = HealthRequirements(
      agentAddress: "127.0.0.1:8500", raftAddress: raftAddress, servers: 1, wan: nil, token: nil, runner: .systemd,
      timeout: timeout)
    return HealthCheck(requirements, context: test.context)
  }

  /// The time of each poll of an agent that never has a leader.
  private func polls(raftAddress: String?, timeout: Duration) async -> [Duration] {
    agent.set { $0.leader = nil }
    let times = Watched<[Duration]>([])
    test.transport.on("http://127.0.0.1:8500/v1/status/leader") { [clock = test.clock] _ in
      times.update { $0.append(clock.uptime()) }
      return nil
    }
    await #expect(throws: Failure.self) {
      try await check(raftAddress: raftAddress, timeout: timeout).verify(agent: FixedMonitor())
    }
    return times.value
  }

  /// A tuned election takes little more than a second: a boot must not lose time between two polls.
  @Test func `a server is polled eagerly for five seconds, then twice to four times a second`() async throws {
    let times = await polls(raftAddress: "10.0.1.10:8300", timeout: .seconds(7))
    let pauses = zip(times, times.dropFirst()).map { (start: $0, length: $1 - $0) }
    let eager = pauses.dropFirst().filter { $0.start < .seconds(5) }
    let later = pauses.filter { $0.start >= .seconds(5) }.dropLast()
    #expect((Duration.milliseconds(10)...(.milliseconds(20))).contains(try #require(pauses.first).length))
    #expect(eager.count > 120 && eager.allSatisfy { (.milliseconds(20)...(.milliseconds(40))).contains($0.length) })
    #expect(later.count > 2 && later.allSatisfy { (.milliseconds(250)...(.milliseconds(500))).contains($0.length) })
    #expect(times.last == .seconds(7))
  }

  /// A client's poll is a request to a server: a fleet that boots at once must not overload it.
  @Test func `a client is polled with a backoff up to two seconds`() async throws {
    let times = await polls(raftAddress: nil, timeout: .seconds(9))
    let pauses = zip(times, times.dropFirst()).map { $1 - $0 }.dropLast()
    let bounds: [Int64] = [300, 600, 1200, 2000]
    #expect(pauses.count > 4)
    for (index, pause) in pauses.enumerated() {
      let bound = Duration.milliseconds(bounds[min(index, bounds.count - 1)])
      #expect((bound / 2...bound).contains(pause), "pause \(index): \(pause)")
    }
    #expect(times.last == .seconds(9))
  }

  @Test func `a crash before the first answer ends the wait with status 15 and the agent's errors`() async throws {
    agent.set { $0.failure = .refused }
    let lines = ["[ERR] agent: the disk is on fire"] + (1...12).map { "banner \($0)" }
    await #expect(
      throws: Failure(
        .agentNotStarted, "the Consul agent does not start: it crashed 3 times (last: exit status 1)",
        details: ["[ERR] agent: the disk is on fire"] + lines.suffix(10),
        hint: "fix what the agent's output above reports, and run consul-bootstrap again")
    ) {
      try await check(timeout: .seconds(300)).verify(
        agent: FixedMonitor(reason: "it crashed 3 times (last: exit status 1)", lines: lines))
    }
    #expect(test.clock.uptime() == .zero)
  }

  /// Before the fix of a cluster an agent may crash and come back: once it has answered, only the timeout decides.
  @Test func `a crash after the first answer does not end the wait`() async throws {
    agent.set { $0.leader = nil }
    async let health = check(timeout: .seconds(60)).verify(agent: FixedMonitor(reason: "it crashed 3 times"))
    try await test.sink.record(containing: "no leader")
    agent.set { $0.failure = .refused }
    try await test.sink.record(containing: "connection refused")
    agent.set { state in
      state.failure = nil
      state.leader = "10.0.1.10:8300"
    }
    #expect(try await health.servers == 1)
  }

  @Test func `a cancelled check ends at once, between two polls`() async throws {
    agent.set { $0.failure = .refused }
    let task = Task { try await check(timeout: .seconds(300)).verify(agent: FixedMonitor()) }
    try await test.sink.record(containing: "connection refused", number: 3)
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(test.clock.uptime() < .seconds(1))
  }

  @Test func `a cancelled check ends at once, in the middle of a request`() async throws {
    let gate = test.transport.hold("http://127.0.0.1:8500/v1/operator/raft/configuration")
    let task = Task { try await check(timeout: .seconds(300)).verify(agent: FixedMonitor()) }
    try await gate.arrivals()
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(test.clock.uptime() == .zero)
  }
}
