import Base
import Model
import TestSupport
import Testing

@testable import Execution

@Suite(.timeLimit(.minutes(5))) struct StepExecutorTests {
  private let test = TestContext()

  private func verify(_ runner: AgentRunner) -> Step {
    .verify(
      HealthRequirements(
        agentAddress: "127.0.0.1:8500", raftAddress: "10.0.1.10:8300", servers: 1, wan: nil, token: nil,
        runner: runner, timeout: .seconds(60)))
  }

  @Test func `a verification gives the health`() async throws {
    FakeConsulAgent(test).setCluster([("a", "10.0.1.10")])
    #expect(
      try await test.perform(verify(.systemd))
        == .healthy(Health(agentAnswers: true, leader: "10.0.1.10:8300", isVoter: true, servers: 1)))
  }

  @Test func `a unit that failed is the reason of a failed verification`() async throws {
    _ = FakeConsulAgent(test) { $0.failure = .refused }
    test.launcher.run("/bin/systemctl", output: "NRestarts=0\nActiveState=failed\nResult=exit-code\n")
    test.launcher.run("/bin/journalctl", output: "bind: address already in use\n")
    #expect(
      try await test.failure(of: verify(.systemd))
        == Failure(
          .agentNotStarted, "the Consul agent does not start: consul.service has failed (result: exit-code)",
          details: ["bind: address already in use"],
          hint: "fix what the agent's output above reports, and run consul-bootstrap again"))
  }

  @Test func `a supervised agent's crashes are the reason of a failed verification`() async throws {
    _ = FakeConsulAgent(test) { $0.failure = .refused }
    test.launcher.start("/usr/bin/consul") { process in
      process.write("==> Error: the disk is on fire")
      process.finish(.exited(1))
    }
    let executor = StepExecutor(context: test.context)
    try await executor.perform(
      .superviseAgent(Command("/usr/bin/consul", ["agent"]), owner: nil, mayBindLowPorts: false))
    let failure = await #expect(throws: Failure.self) { try await executor.perform(verify(.supervisor)) }
    await executor.supervisedAgent.stop()
    #expect(failure?.message == "the Consul agent does not start: it crashed 3 times (last: exit status 1)")
    #expect(failure?.details.last == "==> Error: the disk is on fire")
    #expect(test.clock.uptime() >= .seconds(3) && test.clock.uptime() < .seconds(4))
  }

  @Test func `a cancelled run performs no further step`() async throws {
    let task = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      return try await test.perform(.createDirectory("/opt/consul", mode: 0o750, owner: nil))
    }
    await #expect(throws: CancellationError.self) { _ = try await task.value }
    #expect(test.files.changes.isEmpty && test.sink.all.isEmpty)
  }
}
