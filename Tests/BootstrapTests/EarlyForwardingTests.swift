import AWS
import Base
import Model
import TestSupport
import Testing

import Bootstrap

/// Until a sidecar forwards the logs, the run does: a boot that fails must have its log in CloudWatch.
@Suite(.timeLimit(.minutes(5))) struct EarlyForwardingTests {
  private static let group = "/consul/dc1", stream = "i-0aaa/bootstrap"
  private static let ownLog = "/var/log/consul-bootstrap.log"

  private func fixture(_ start: Settings.Start = .systemd, _ source: LogSource = .bootstrap) -> BootstrapFixture {
    var fixture = BootstrapFixture(start)
    fixture.settings.logs = [Settings.LogRequest(source: source)]
    fixture.test.files.put(Self.ownLog, "2026-01-01T00:00:00.000Z info first line\n")
    return fixture
  }

  private func messages(_ fixture: BootstrapFixture) -> [String] {
    fixture.aws.messages(group: Self.group, stream: Self.stream)
  }

  @Test func `a boot that fails has sent its log before it ends`() async throws {
    let fixture = fixture()
    // Of the draft, and of the configuration itself.
    fixture.test.launcher.onRun("/usr/bin/consul", ["validate"]) { _, _ in
      fixture.test.files.grow(Self.ownLog, by: "2026-01-01T00:00:01.000Z error last line\n")
      return CommandResult(end: .exited(1), output: "")
    }
    #expect(try await fixture.failure()?.message == "Consul rejects the configuration")
    #expect(messages(fixture).map { $0.suffix(9) } == ["irst line", "last line", "last line"])
    #expect(fixture.calls.value == ["final error Consul rejects the configuration", "forwarding ended"])
  }

  /// Two forwarders of one log would send it twice: the lock is free before the sidecar starts.
  @Test func `the log is handed over once, before the sidecar starts`() async throws {
    let fixture = fixture()
    fixture.test.launcher.onRun("/bin/systemctl", ["restart", "consul-bootstrap.service"]) { _, _ in
      fixture.calls.update { $0.append("sidecar started") }
      return CommandResult(end: .exited(0), output: "")
    }
    try await fixture.start()
    #expect(fixture.calls.value == ["forwarding ended", "sidecar started", "verified 1"])
    #expect(messages(fixture).map { $0.suffix(10) } == ["first line"])
  }

  /// An outage of CloudWatch must not hold a healthy boot: the sidecar sends the rest.
  @Test func `a hand-over waits for CloudWatch no longer than two seconds`() async throws {
    let fixture = fixture()
    fixture.aws.fail("PutLogEvents", .timedOut(whileConnecting: false))
    try await fixture.start()
    #expect(fixture.calls.value == ["forwarding ended", "verified 1"])
    let elapsed = fixture.test.clock.uptime()
    #expect(elapsed >= .seconds(2) && elapsed < .seconds(3), "\(elapsed)")
  }

  @Test func `a run without a sidecar waits for CloudWatch as long as a flush may take`() async throws {
    var fixture = fixture(.none)
    fixture.settings.flushTimeout = .seconds(6)
    fixture.aws.fail("PutLogEvents", .timedOut(whileConnecting: false))
    try await fixture.start()
    let elapsed = fixture.test.clock.uptime()
    #expect(elapsed >= .seconds(6) && elapsed < .seconds(7), "\(elapsed)")
  }

  /// A flush in the cancelled task itself could not sleep: it would spin until its timeout.
  @Test func `a cancelled run sends its log, too`() async throws {
    let fixture = fixture()
    let gate = Gate()
    fixture.test.launcher.onRun("/usr/bin/consul", ["validate"]) { _, _ in
      try await gate.pass()
      return CommandResult(end: .exited(0), output: "")
    }
    let task = Task { try await fixture.start() }
    try await gate.arrivals()
    fixture.test.files.grow(Self.ownLog, by: "2026-01-01T00:00:01.000Z warning ended by signal 15\n")
    task.cancel()
    await #expect(throws: CancellationError.self) { _ = try await task.value }
    #expect(messages(fixture).last?.hasSuffix("ended by signal 15") == true)
    #expect(fixture.calls.value == ["forwarding ended"])
  }

  @Test func `a run beside a sidecar forwards nothing`() async throws {
    var fixture = fixture()
    fixture.forwards = false
    try await fixture.start()
    #expect(fixture.calls.value == ["verified 1"] && fixture.aws.logStreams.isEmpty)
  }

  /// Under supervise this process forwards to its end, which includes the agent's last words.
  @Test func `under supervise the agent's output is sent to its last line, and the lock is kept`() async throws {
    let fixture = fixture(.supervise, .consul)
    fixture.supervise { process in
      process.write("==> Starting Consul agent...")
      process.on(15) { process in
        process.write("==> Leaving")
        process.finish(.exited(0))
      }
    }
    let task = Task { try await fixture.start() }
    let process = try await fixture.test.launcher.process()
    try await fixture.calls.wait { $0.contains("verified 1") ? () : nil }
    process.write("agent: synced")
    process.write("agent: last line")
    process.finish(.exited(0))
    #expect(try await task.value.agentEnd == .exited(0))
    #expect(
      fixture.aws.messages(group: Self.group, stream: "i-0aaa/consul") == [
        "==> Starting Consul agent...", "agent: synced", "agent: last line",
      ])
    #expect(fixture.calls.value == ["supervisor started", "verified 1"])
  }

  @Test func `an agent that ends much later has its last line sent, too`() async throws {
    let fixture = fixture(.supervise, .consul)
    fixture.supervise { $0.write("==> Starting Consul agent...") }
    let task = Task { try await fixture.start() }
    let process = try await fixture.test.launcher.process()
    try await fixture.calls.wait { $0.contains("verified 1") ? () : nil }
    try await fixture.test.clock.sleep(for: .seconds(10))
    process.write("agent: synced")
    let stream = "i-0aaa/consul"
    _ = try await fixture.aws.messages(group: Self.group, stream: stream, count: 2)
    process.write("agent: last line")
    process.finish(.exited(0))
    #expect(try await task.value.agentEnd == .exited(0))
    #expect(fixture.aws.messages(group: Self.group, stream: stream).last == "agent: last line")
  }

  @Test func `under supervise a failed boot has sent the agent's output`() async throws {
    var fixture = fixture(.supervise, .consul)
    fixture.settings.verifyTimeout = .seconds(60)
    fixture.supervise { [agent = fixture.agent] process in
      agent.set { $0.failure = .refused }
      process.write("==> Error: the disk is on fire")
      process.finish(.exited(1))
    }
    #expect(try await fixture.failure()?.status == .agentNotStarted)
    #expect(
      fixture.aws.messages(group: Self.group, stream: "i-0aaa/consul")
        == Array(repeating: "==> Error: the disk is on fire", count: 3))
  }
}
