import Base
import Execution
import Model
import TestSupport
import Testing

/// AWS's own log agents: one reads its configuration at a restart of its unit, the other by a command.
@Suite(.timeLimit(.minutes(5))) struct LogAgentStepTests {
  private let test = TestContext()
  private var launcher: FakeLauncher { test.launcher }
  private static let path = "/etc/awslogs/config/consul-bootstrap.conf"
  private static let control = Command("/opt/aws/bin/amazon-cloudwatch-agent-ctl", ["-a", "append-config"])

  private func step(command: Command? = nil, text: String = "[consul]\n") -> Step {
    let agent = LogAgentConfiguration.Agent(
      name: "awslogs", path: Self.path, units: ["awslogsd.service", "awslogs.service"], command: command)
    return .setUpLogAgent(LogAgentConfiguration(agent: agent, files: [], text: text))
  }

  /// Only the second of the units exists.
  private func install() {
    launcher.run("/bin/systemctl")
    launcher.run("/bin/systemctl", ["cat", "awslogsd.service"], end: .exited(1))
  }

  private func installControl() {
    test.files.put(Self.control.program, "program", mode: 0o755)
    launcher.run(Self.control.program)
  }

  @Test func `the unit that exists is enabled and restarted with a new configuration`() async throws {
    install()
    #expect(try await test.perform(step()) == .done)
    #expect(test.files.text(Self.path) == "[consul]\n")
    #expect(
      launcher.commands == [
        "/bin/systemctl cat awslogsd.service", "/bin/systemctl cat awslogs.service",
        "/bin/systemctl enable awslogs.service", "/bin/systemctl restart awslogs.service",
      ])
  }

  @Test func `an unchanged configuration only starts the unit`() async throws {
    install()
    try await test.perform(step())
    #expect(try await test.perform(step()) == .alreadyDone)
    #expect(launcher.commands.last == "/bin/systemctl start awslogs.service")
  }

  @Test func `a command makes the agent read a new configuration, once`() async throws {
    install()
    installControl()
    #expect(try await test.perform(step(command: Self.control)) == .done)
    #expect(
      launcher.commands == [
        "/bin/systemctl cat awslogsd.service", "/bin/systemctl cat awslogs.service",
        "/opt/aws/bin/amazon-cloudwatch-agent-ctl -a append-config", "/bin/systemctl enable awslogs.service",
        "/bin/systemctl start awslogs.service",
      ])
    #expect(try await test.perform(step(command: Self.control)) == .alreadyDone)
    #expect(launcher.commands.count { $0.hasPrefix(Self.control.program) } == 1)
  }

  @Test func `an agent without a unit is not installed, and nothing is written`() async throws {
    launcher.run("/bin/systemctl", ["cat"], end: .exited(1))
    #expect(
      try await test.failure(of: step())
        == Failure(
          .agentNotStarted, "awslogs is not installed",
          details: ["there is no unit awslogsd.service or awslogs.service"],
          hint: "install it in the image, or omit --log-agent: consul-bootstrap then forwards the logs itself"))
    #expect(test.files.changes.isEmpty)
  }

  @Test func `an agent without its program is not installed, and nothing is written`() async throws {
    install()
    #expect(
      try await test.failure(of: step(command: Self.control))
        == Failure(
          .agentNotStarted, "awslogs is not installed",
          details: ["there is no program /opt/aws/bin/amazon-cloudwatch-agent-ctl"],
          hint: "install it in the image, or omit --log-agent: consul-bootstrap then forwards the logs itself"))
    #expect(test.files.changes.isEmpty)
  }

  /// A second run found the file as it should be and never made the agent read it.
  @Test func `a configuration that the agent does not read is undone, so that a second run tries again`() async throws {
    install()
    installControl()
    launcher.run(Self.control.program, end: .exited(1), output: "invalid configuration\n", times: 1)
    #expect(
      try await test.failure(of: step(command: Self.control))
        == Failure(
          .agentNotStarted, "`/opt/aws/bin/amazon-cloudwatch-agent-ctl -a append-config` failed: exit status 1",
          details: ["invalid configuration"]))
    #expect(!test.files.exists(Self.path))
    #expect(try await test.perform(step(command: Self.control)) == .done)
    #expect(test.files.text(Self.path) == "[consul]\n")
  }

  @Test func `a failed restart restores the configuration before it`() async throws {
    install()
    try await test.perform(step())
    launcher.run("/bin/systemctl", ["restart"], end: .exited(1), times: 1)
    let failure = try await test.failure(of: step(text: "[consul]\n[syslog]\n"))
    #expect(failure?.message == "`/bin/systemctl restart awslogs.service` failed: exit status 1")
    #expect(test.files.text(Self.path) == "[consul]\n")
    #expect(try await test.perform(step(text: "[consul]\n[syslog]\n")) == .done)
    #expect(launcher.commands.last == "/bin/systemctl restart awslogs.service")
  }

  @Test func `an undo that fails is reported beside the failure`() async throws {
    install()
    launcher.run("/bin/systemctl", ["restart"], end: .exited(1), times: 1)
    test.files.fail(.removeFile, Self.path, errno: 30)
    #expect(try await test.failure(of: step())?.message.hasPrefix("`/bin/systemctl restart") == true)
    #expect(
      test.sink.lines.last == #"warning cannot undo the change of /etc/awslogs/config/consul-bootstrap.conf "#
        + #"reason="remove /etc/awslogs/config/consul-bootstrap.conf: Read-only file system""#)
  }
}
