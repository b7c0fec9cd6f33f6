import Model
import Base
import Execution
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(5))) struct SupervisorTests {
  private let test = TestContext()
  private let command = Command("/usr/bin/consul", ["agent", "-config-dir=/etc/consul.d"])
  private let supervisor: Supervisor

  init() {
    supervisor = Supervisor(command, owner: .consul, mayBindLowPorts: true, copy: nil, context: test.context)
  }

  /// - Parameter prepare: gets the number of the start, from 1, and the process before the flow does.
  private func agents(_ prepare: @escaping @Sendable (Int, FakeProcess) -> Void) {
    let starts = Watched(0)
    test.launcher.start("/usr/bin/consul") { process in
      let number = starts.update { count in
        count += 1
        return count
      }
      prepare(number, process)
    }
  }

  /// How each process ended, and the wait for the next.
  private var crashes: [String] {
    test.sink.records(.error).map { record in
      "\(record.message): \(record.attributes["end"]?.string ?? ""), \(record.attributes["in"]?.string ?? "")"
    }
  }

  @Test func `the agent starts as its user, with the ports and the copy that it was given`() async throws {
    let copy = TextSink()
    agents { _, process in
      process.write("==> Starting Consul agent...")
      process.finish(.exited(0))
    }
    let supervisor = Supervisor(command, owner: .consul, mayBindLowPorts: true, copy: copy, context: test.context)
    #expect(try await supervisor.run() == .exited(0))
    #expect(
      test.launcher.launches == [
        .init(kind: .start, command: command, owner: .consul, mayBindLowPorts: true, timeout: nil)
      ])
    #expect(copy.text == "==> Starting Consul agent...\n")
  }

  @Test func `a clean leave ends the agent for good`() async throws {
    agents { _, process in process.finish(.exited(0)) }
    #expect(try await supervisor.run() == .exited(0))
    #expect(test.launcher.launches.count == 1)
    #expect(test.sink.lines.last == #"info the agent ended end="exit status 0""#)
  }

  /// Its data is that of a server that the others have removed: it would come back, and then die with its machine.
  @Test func `an agent that has left is not started again, even if it is killed before it ends`() async throws {
    let started = Watched<FakeProcess?>(nil)
    agents { _, process in started.update { $0 = process } }
    let task = Task { [supervisor] in try await supervisor.run() }
    let process = try await started.wait { $0 }
    await supervisor.left()
    process.finish(.signalled(9))
    #expect(try await task.value == .exited(0))
    #expect(test.launcher.launches.count == 1 && crashes.isEmpty)
  }

  @Test func `a leave ends the wait between a crash and the next start`() async throws {
    agents { _, process in process.finish(.exited(3)) }
    let task = Task { [supervisor] in try await supervisor.run() }
    try await test.sink.record(containing: "crashed", number: 5)
    let crash = test.clock.uptime()
    await supervisor.left()
    #expect(try await task.value == .exited(0))
    #expect(test.clock.uptime() == crash && test.launcher.launches.count == 5)
  }

  @Test func `a restart on request is no crash, and comes at once`() async throws {
    agents { number, process in
      if number == 1 { process.on(9, finish: .signalled(9)) } else { process.finish(.exited(0)) }
    }
    async let end = supervisor.run()
    try await test.sink.record(containing: "the agent is running")
    await supervisor.restart()
    #expect(try await end == .exited(0))
    #expect(test.launcher.launches.count == 2 && test.clock.uptime() == .zero && crashes.isEmpty)
    #expect(await supervisor.crashReason() == nil)
  }

  @Test func `work before a restart is waited for, and a signal to stop in it ends the agent for good`() async throws {
    agents { number, process in
      if number < 3 { process.on(9, finish: .signalled(9)) } else { process.finish(.exited(0)) }
    }
    let task = Task { [supervisor] in try await supervisor.run() }
    _ = try await test.launcher.process(1)
    await supervisor.restart { [test] in _ = try? await test.clock.sleep(for: .seconds(3)) }
    _ = try await test.launcher.process(2)
    #expect(test.clock.uptime() == .seconds(3))
    await supervisor.restart { [supervisor] in await supervisor.signal(15) }
    #expect(try await task.value == .signalled(15))
    #expect(test.launcher.launches.count == 2 && crashes.isEmpty)
  }

  @Test func `a crash is followed by a restart after 1, 2, 4, 8, 16 and then 30 seconds`() async throws {
    agents { number, process in process.finish(number == 8 ? .exited(0) : number == 2 ? .signalled(9) : .exited(1)) }
    #expect(try await supervisor.run() == .exited(0))
    let waits = ["1.0 s", "2.0 s", "4.0 s", "8.0 s", "16 s", "30 s", "30 s"]
    let expected = waits.enumerated().map { index, wait in
      "the agent crashed; restarting it: " + (index == 1 ? "ended by signal 9" : "exit status 1") + ", " + wait
    }
    #expect(crashes == expected)
    #expect(test.clock.uptime() == .seconds(91))
  }

  /// What `status` knows of a supervised agent.
  @Test func `it reports crashes in a row, and none once the agent has run for a minute`() async throws {
    agents { number, process in if number < 3 { process.finish(.exited(1)) } }
    async let end = supervisor.run()
    try await test.sink.record(containing: "the agent is running", number: 3)
    let early = await supervisor.report()
    #expect(early.crashes == 2 && early.lastCrash == "exit status 1" && early.pid != nil)
    try await test.clock.sleep(for: .seconds(60))
    #expect(await supervisor.report().crashes == 0)
    await supervisor.signal(15)
    try await test.launcher.process(3).finish(.exited(0))
    _ = try await end
  }

  /// A year of service must not make the next crash cost half a minute.
  @Test func `a run of 60 seconds resets the backoff, one of 59 does not`() async throws {
    agents { _, _ in }
    let task = Task { [supervisor] in try await supervisor.run() }
    for (number, life) in [0, 0, 59, 60, 0, 0].enumerated() {
      let process = try await test.launcher.process(number + 1)
      try await test.clock.sleep(for: .seconds(life))
      process.finish(.exited(1))
    }
    try await test.launcher.process(7).finish(.exited(0))
    #expect(try await task.value == .exited(0))
    #expect(
      test.sink.records(.error).map { $0.attributes["in"] } == ["1.0 s", "2.0 s", "4.0 s", "1.0 s", "2.0 s", "4.0 s"])
  }

  @Test(arguments: [Int32(15), 2])
  func `a signal to stop is forwarded, and the agent is not restarted after it`(_ number: Int32) async throws {
    agents { _, process in process.on(number, finish: .exited(1)) }
    let task = Task { [supervisor] in try await supervisor.run() }
    let process = try await test.launcher.process()
    await supervisor.signal(number)
    #expect(try await task.value == .exited(1))
    #expect(process.signals == [number])
    #expect(test.launcher.launches.count == 1 && crashes.isEmpty)
  }

  @Test func `SIGHUP is forwarded, and a crash after it is still followed by a restart`() async throws {
    agents { number, process in if number == 2 { process.finish(.exited(0)) } }
    let task = Task { [supervisor] in try await supervisor.run() }
    let process = try await test.launcher.process()
    await supervisor.signal(1)
    #expect(process.signals == [1] && !process.hasEnded)
    process.finish(.exited(1))
    #expect(try await task.value == .exited(0))
    #expect(test.launcher.launches.count == 2)
  }

  /// The user's SIGTERM must not take up to 30 seconds.
  @Test func `a signal to stop ends the wait between a crash and the next start`() async throws {
    agents { _, process in process.finish(.exited(3)) }
    let task = Task { [supervisor] in try await supervisor.run() }
    try await test.sink.record(containing: "crashed", number: 5)
    let crash = test.clock.uptime()
    await supervisor.signal(15)
    #expect(try await task.value == .exited(3))
    #expect(test.clock.uptime() == crash && test.launcher.launches.count == 5)
  }

  @Test func `SIGHUP does not end the wait between a crash and the next start`() async throws {
    agents { number, process in process.finish(.exited(number == 1 ? 3 : 0)) }
    let task = Task { [supervisor] in try await supervisor.run() }
    try await test.sink.record(containing: "crashed")
    await supervisor.signal(1)
    #expect(try await task.value == .exited(0))
    #expect(test.clock.uptime() == .seconds(1))
  }

  /// An agent that is started only to be stopped leaves a data directory behind.
  @Test func `an agent that is stopped before its start is not started`() async throws {
    await supervisor.signal(2)
    #expect(try await supervisor.run() == .signalled(2))
    #expect(test.launcher.launches.isEmpty)
  }

  @Test func `a cancelled supervisor does not start its agent`() async throws {
    let task = Task { [supervisor] in
      withUnsafeCurrentTask { $0?.cancel() }
      return try await supervisor.run()
    }
    #expect(try await task.value == .signalled(15))
    #expect(test.launcher.launches.isEmpty)
  }

  private func cannotStart(_ reason: String) -> Failure {
    Failure(
      .agentNotStarted, "cannot start the Consul agent", details: ["execute /usr/bin/consul: \(reason)"],
      hint: "check the Consul binary and its permissions")
  }

  @Test func `an agent that cannot be started is a failure with the cause`() async throws {
    test.launcher.fail("/usr/bin/consul", reason: "Permission denied")
    await #expect(throws: cannotStart("Permission denied")) { try await supervisor.run() }
  }

  @Test func `an agent that cannot be started again after a crash is a failure with the cause`() async throws {
    test.launcher.fail("/usr/bin/consul", reason: "Exec format error")
    test.launcher.start("/usr/bin/consul", times: 1) { $0.finish(.exited(1)) }
    await #expect(throws: cannotStart("Exec format error")) { try await supervisor.run() }
    #expect(test.clock.uptime() == .seconds(1))
  }

  @Test func `cancellation stops the agent and waits for its leave`() async throws {
    agents { _, process in
      process.on(15) { process in
        Task { [clock = test.clock] in
          try await clock.sleep(for: .seconds(59))
          process.finish(.exited(0))
        }
      }
    }
    let task = Task { [supervisor] in try await supervisor.run() }
    let process = try await test.launcher.process()
    task.cancel()
    #expect(try await task.value == .exited(0))
    #expect(process.signals == [15] && test.clock.uptime() == .seconds(59))
  }

  /// As long as the systemd unit gives it; then a hanging agent must not hold the run.
  @Test func `an agent that ignores SIGTERM is killed 60 seconds after cancellation`() async throws {
    agents { _, _ in }
    let task = Task { [supervisor] in try await supervisor.run() }
    let process = try await test.launcher.process()
    task.cancel()
    #expect(try await task.value == .signalled(9))
    #expect(process.signals == [15, 9] && test.clock.uptime() == .seconds(60))
    #expect(test.launcher.launches.count == 1)
  }

  /// The run waited for ever for an agent in uninterruptible sleep, on a network file system that is gone for example.
  @Test func `an agent that does not end within 10 seconds after SIGKILL is reported with its pid, and left`()
    async throws
  {
    agents { _, process in process.becomeUninterruptible() }
    let task = Task { [supervisor] in try await supervisor.run() }
    let process = try await test.launcher.process()
    task.cancel()
    #expect(try await task.value == .signalled(9))
    #expect(process.signals == [15, 9] && test.clock.uptime() == .seconds(70))
    #expect(!test.sink.lines.contains { $0.contains("the agent ended") })
    #expect(
      test.sink.records(.error).map(\.description) == [
        "error the agent did not end after SIGKILL pid=\(process.pid) hint=\"check its state with ps -o stat,wchan -p "
          + "\(process.pid): in state D it waits for a disk or a network file system\""
      ])
    #expect(test.launcher.launches.count == 1)
  }

  @Test func `an agent that SIGKILL ends late is not reported`() async throws {
    agents { _, process in process.becomeUninterruptible() }
    let task = Task { [supervisor] in try await supervisor.run() }
    let process = try await test.launcher.process()
    task.cancel()
    try await process.signal(9)
    try await test.clock.sleep(for: .seconds(9))
    process.finish(.signalled(9))
    #expect(try await task.value == .signalled(9))
    #expect(test.clock.uptime() == .seconds(69) && test.sink.records(.error).isEmpty)
  }

  @Test func `cancellation ends the wait between a crash and the next start`() async throws {
    agents { _, process in process.finish(.exited(3)) }
    let task = Task { [supervisor] in try await supervisor.run() }
    try await test.sink.record(containing: "crashed")
    task.cancel()
    #expect(try await task.value == .exited(3))
    #expect(test.clock.uptime() == .zero && test.launcher.launches.count == 1)
  }

  /// The process before may hold the reason of its end, which the next start's banner would cover.
  @Test func `the last lines are those of the previous and of the current process`() async throws {
    agents { number, process in
      process.write("start \(number)")
      if number < 3 { process.finish(.exited(1)) } else { process.on(15, finish: .exited(0)) }
    }
    #expect(await supervisor.lastLines() == [])
    let task = Task { [supervisor] in try await supervisor.run() }
    _ = try await test.launcher.process(3)
    #expect(await supervisor.lastLines() == ["start 2", "start 3"])
    await supervisor.signal(15)
    _ = try await task.value
    #expect(await supervisor.lastLines() == ["start 3"])
  }

  @Test func `three crashes are a reason, two are not`() async throws {
    agents { number, process in process.finish(number == 3 ? .signalled(11) : .exited(1)) }
    let task = Task { [supervisor] in try await supervisor.run() }
    try await test.sink.record(containing: "crashed", number: 2)
    #expect(await supervisor.crashReason() == nil)
    try await test.sink.record(containing: "crashed", number: 3)
    #expect(await supervisor.crashReason() == "it crashed 3 times (last: ended by signal 11)")
    await supervisor.signal(15)
    _ = try await task.value
  }
}
