import Base
import Execution
import Model
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(5))) struct SupervisedAgentTests {
  private let test = TestContext()
  private let started = Watched<[ObjectIdentifier]>([])
  private let step = Step.superviseAgent(
    Command("/usr/bin/consul", ["agent"]), owner: .consul, mayBindLowPorts: false)

  private func executor(output: (any OutputSink)? = nil) -> StepExecutor {
    StepExecutor(context: test.context, agentOutput: output) { [started] supervisor in
      started.update { $0.append(ObjectIdentifier(supervisor)) }
    }
  }

  @Test func `the agent starts once, with the output that it was given`() async throws {
    test.launcher.start("/usr/bin/consul") { $0.on(15, finish: .exited(0)) }
    let sink = TextSink(), executor = executor(output: sink)
    #expect(executor.supervisedAgent.supervisor == nil)
    #expect(try await executor.perform(step) == .done)
    let supervisor = try #require(executor.supervisedAgent.supervisor)
    #expect(try await executor.perform(step) == .alreadyDone)
    #expect(executor.supervisedAgent.supervisor === supervisor)
    #expect(started.value == [ObjectIdentifier(supervisor)])
    let process = try await test.launcher.process()
    process.write("agent: started")
    await executor.supervisedAgent.stop()
    #expect(sink.text == "agent: started\n")
    #expect(
      test.launcher.launches == [
        .init(kind: .start, command: Command("/usr/bin/consul", ["agent"]), owner: .consul, mayBindLowPorts: false)
      ])
  }

  @Test func `the end is that of the agent, for every caller`() async throws {
    test.launcher.start("/usr/bin/consul")
    let executor = executor()
    try await executor.perform(step)
    async let first = executor.supervisedAgent.end(), second = executor.supervisedAgent.end()
    try await test.launcher.process().finish(.exited(0))
    #expect(try await first == .exited(0))
    #expect(try await second == .exited(0))
  }

  @Test func `a stop waits until the agent has left`() async throws {
    test.launcher.start("/usr/bin/consul") { process in
      process.on(15) { process in
        Task { [clock = test.clock] in
          try await clock.sleep(for: .seconds(7))
          process.finish(.exited(0))
        }
      }
    }
    let executor = executor()
    try await executor.perform(step)
    let process = try await test.launcher.process()
    await executor.supervisedAgent.stop()
    #expect(process.hasEnded && test.clock.uptime() == .seconds(7))
    #expect(try await executor.supervisedAgent.end() == .exited(0))
    await executor.supervisedAgent.stop()
    #expect(process.signals == [15])
  }

  @Test func `before the start there is nothing to stop and no end`() async throws {
    let executor = executor()
    await executor.supervisedAgent.stop()
    #expect(try await executor.supervisedAgent.end() == nil)
    #expect(test.launcher.launches.isEmpty && started.value.isEmpty)
  }

  @Test func `a cancelled wait for the end stops the agent`() async throws {
    test.launcher.start("/usr/bin/consul") { $0.on(15, finish: .exited(0)) }
    let executor = executor()
    try await executor.perform(step)
    let process = try await test.launcher.process()
    let task = Task { try await executor.supervisedAgent.end() }
    try await test.clock.settle()
    task.cancel()
    #expect(try await task.value == .exited(0))
    #expect(process.signals == [15])
  }

  @Test func `a start that fails is thrown to the waiter and logged by a stop`() async throws {
    test.launcher.fail("/usr/bin/consul", reason: "Permission denied")
    let executor = executor()
    try await executor.perform(step)
    let failure = Failure(
      .agentNotStarted, "cannot start the Consul agent", details: ["execute /usr/bin/consul: Permission denied"],
      hint: "check the Consul binary and its permissions")
    await #expect(throws: failure) { try await executor.supervisedAgent.end() }
    await executor.supervisedAgent.stop()
    #expect(
      test.sink.lines.last == #"debug the agent to stop did not start reason="cannot start the Consul agent; "#
        + #"execute /usr/bin/consul: Permission denied; hint: check the Consul binary and its permissions""#)
  }
}
