import Base
import Execution
import Model
import TestSupport
import Testing

/// Steps that start, stop and reload services.
@Suite(.timeLimit(.minutes(5))) struct ServiceStepTests {
  private let test = TestContext()
  private var launcher: FakeLauncher { test.launcher }
  private static let systemctl = "/bin/systemctl"

  private func systemctl(_ arguments: String...) -> Command { Command(Self.systemctl, arguments) }

  // MARK: Commands

  @Test func `a command runs each time, for at most 90 seconds`() async throws {
    launcher.run(Self.systemctl)
    let step = Step.run(systemctl("daemon-reload"))
    #expect(try await test.perform(step) == .done)
    #expect(try await test.perform(.stopAgent(systemctl("stop", "consul.service"))) == .done)
    #expect(
      launcher.launches == [
        .init(kind: .run, command: systemctl("daemon-reload"), timeout: .seconds(90)),
        .init(kind: .run, command: systemctl("stop", "consul.service"), timeout: .seconds(90)),
      ])
  }

  @Test(arguments: [
    (
      Command("/bin/systemctl", ["start", "consul.service"]),
      "run `systemctl status consul.service` and `journalctl -u consul.service`"
    ),
    (
      Command("/bin/systemctl", ["enable", "consul-bootstrap.service"]),
      "run `systemctl status consul-bootstrap.service` and `journalctl -u consul-bootstrap.service`"
    ),
    (Command("/bin/systemctl", ["daemon-reload"]), nil),
    (Command("/usr/bin/docker", ["start", "consul"]), "run `docker logs consul`"),
    (Command("/usr/sbin/useradd", ["--system", "consul"]), nil),
  ])
  func `a command that fails is named with its end, its last lines and where to look`(
    _ command: Command, _ hint: String?
  ) async throws {
    launcher.run(command.program, end: .exited(5), output: (1...12).map { "line \($0)\n" }.joined())
    #expect(
      try await test.failure(of: .run(command))
        == Failure(
          .agentNotStarted, "`\(command.text)` failed: exit status 5", details: (3...12).map { "line \($0)" },
          hint: hint))
  }

  @Test func `a command that hangs is killed and named`() async throws {
    launcher.run(Self.systemctl, after: .seconds(600))
    #expect(
      try await test.failure(of: .run(systemctl("start", "consul.service")))
        == Failure(
          .agentNotStarted, "`/bin/systemctl start consul.service` failed: ended by signal 9",
          details: ["killed after 90 s"],
          hint: "run `systemctl status consul.service` and `journalctl -u consul.service`"))
    #expect(test.clock.uptime() == .seconds(90))
  }

  @Test func `a command that cannot be run is named with the cause`() async throws {
    launcher.fail(Self.systemctl)
    #expect(
      try await test.failure(of: .run(systemctl("daemon-reload")))
        == Failure(
          .agentNotStarted, "cannot run `/bin/systemctl daemon-reload`",
          details: ["execute /bin/systemctl: No such file or directory"],
          hint: "check that /bin/systemctl is a program for this machine, and its permissions"))
  }

  // MARK: Reload

  @Test func `a reload by command runs it`() async throws {
    launcher.run(Self.systemctl)
    let step = Step.reloadAgent(.command(systemctl("reload", "consul.service")), restartKeys: ["datacenter"])
    #expect(try await test.perform(step) == .done)
    #expect(launcher.commands == ["/bin/systemctl reload consul.service"])
    #expect(test.sink.lines == ["info reload the running agent (datacenter at its next restart)"])
  }

  private let apiReload = Step.reloadAgent(
    .api(agentAddress: "127.0.0.1:8500", token: Secret("agent")), restartKeys: [])

  /// After any `docker kill`, SIGHUP included, Docker 20.10 does not restart the container after a crash.
  @Test func `a reload by the API sends the agent's token`() async throws {
    let agent = FakeConsulAgent(test) { $0.requiredToken = "agent" }
    #expect(try await test.perform(apiReload) == .done)
    #expect(agent.reloads == 1)
    #expect(test.transport.requests.map(\.method) == ["PUT"])
  }

  private let joinStep = Step.joinServers(
    ["10.0.1.11", "10.0.1.12", "10.0.1.13"].map { IPv4Address($0)! }, agentAddress: "127.0.0.1:8500", token: nil)

  /// The file alone changes nothing for an agent that runs.
  @Test func `a running agent is joined to the servers that it does not know as alive`() async throws {
    let agent = FakeConsulAgent(test) { state in
      state.members = [.init("a", "10.0.1.11"), .init("b", "10.0.1.12", status: 4)]
      state.refusals["/v1/agent/join/10.0.1.13"] = (500, "no route")
    }
    #expect(try await test.perform(joinStep) == .done)
    #expect(Set(agent.joins) == ["10.0.1.12"])
    #expect(
      test.sink.lines == [
        #"warning cannot join the agent to 10.0.1.13 reason="HTTP 500: no route""#,
        "info join the running agent to 10.0.1.11, 10.0.1.12, 10.0.1.13, where it does not know them",
      ])
  }

  @Test func `an agent that knows all servers is left alone, and one that does not answer ends no run`() async throws {
    let agent = FakeConsulAgent(test) { state in
      state.members = [.init("a", "10.0.1.11"), .init("b", "10.0.1.12"), .init("c", "10.0.1.13")]
    }
    #expect(try await test.perform(joinStep) == .alreadyDone)
    agent.set { $0.failure = .refused }
    #expect(try await test.perform(joinStep) == .alreadyDone)
    #expect(agent.joins.isEmpty && test.sink.records(.warning).count == 3)
  }

  @Test func `the hint for a reload that ACLs refuse names the missing rule`() async throws {
    let agent = FakeConsulAgent(test) { $0.requiredToken = "another" }
    #expect(
      try await test.failure(of: apiReload)
        == Failure(
          .agentNotStarted, "cannot reload the running agent", details: ["HTTP 403: Permission denied"],
          hint: "give the agent's token agent:write on its node"))
    #expect(agent.reloads == 0)
  }

  /// The hint about ACLs would mislead where no agent answers.
  @Test func `a reload that gets no answer has a hint about the agent, not about ACLs`() async throws {
    _ = FakeConsulAgent(test) { $0.failure = .refused }
    #expect(
      try await test.failure(of: apiReload)
        == Failure(
          .agentNotStarted, "cannot reload the running agent", details: ["connection refused"],
          hint: "check the agent's log, and reload the agent with consul reload"))
  }

  // MARK: The sidecar

  private let sidecar = Step.runSidecar(
    SidecarUnit(
      text: "\(SystemdUnit.header)\n[Unit]\n", optionsPath: "/var/lib/consul-bootstrap/options.json", options: "{}"))

  private func prepareSidecar() {
    launcher.run(Self.systemctl)
    test.files.makeDirectory("/etc/systemd/system")
    test.files.makeDirectory("/var/lib/consul-bootstrap")
  }

  @Test func `the sidecar's unit is enabled and restarted when it is new`() async throws {
    prepareSidecar()
    #expect(try await test.perform(sidecar) == .done)
    #expect(
      test.files.changes == [
        .write("/var/lib/consul-bootstrap/options.json", mode: 0o640, owner: nil),
        .write(SidecarUnit.path, mode: 0o644, owner: nil),
      ])
    #expect(
      launcher.commands == [
        "/bin/systemctl daemon-reload", "/bin/systemctl enable consul-bootstrap.service",
        "/bin/systemctl restart consul-bootstrap.service",
      ])
  }

  /// Its configuration file may have changed; a restart would interrupt the log forwarding of an unchanged one.
  @Test func `an unchanged sidecar is reloaded, or started if it does not run`() async throws {
    prepareSidecar()
    try await test.perform(sidecar)
    #expect(try await test.perform(sidecar) == .alreadyDone)
    #expect(
      launcher.commands.suffix(2) == [
        "/bin/systemctl enable consul-bootstrap.service",
        "/bin/systemctl reload-or-restart consul-bootstrap.service",
      ])
  }

  @Test func `a sidecar with other options is restarted without a reload of systemd`() async throws {
    prepareSidecar()
    try await test.perform(sidecar)
    test.files.put("/var/lib/consul-bootstrap/options.json", #"{"expect": 3}"#, mode: 0o640)
    #expect(try await test.perform(sidecar) == .done)
    #expect(
      launcher.commands.suffix(2) == [
        "/bin/systemctl enable consul-bootstrap.service", "/bin/systemctl restart consul-bootstrap.service",
      ])
  }

  @Test func `a sidecar that does not start is named, and a second run starts it`() async throws {
    prepareSidecar()
    launcher.run(Self.systemctl, ["restart"], end: .exited(1), output: "Job failed.\n", times: 1)
    #expect(
      try await test.failure(of: sidecar)
        == Failure(
          .agentNotStarted, "`/bin/systemctl restart consul-bootstrap.service` failed: exit status 1",
          details: ["Job failed."],
          hint: "run `systemctl status consul-bootstrap.service` and `journalctl -u consul-bootstrap.service`"))
    #expect(try await test.perform(sidecar) == .alreadyDone)
    #expect(launcher.commands.last == "/bin/systemctl reload-or-restart consul-bootstrap.service")
  }
}
