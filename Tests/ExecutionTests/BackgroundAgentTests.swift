import Base
import Model
import TestSupport
import Testing

@testable import Execution

/// What systemd and Docker know about an agent that does not come up.
@Suite(.timeLimit(.minutes(5))) struct BackgroundAgentTests {
  private let test = TestContext()
  private var unit: BackgroundAgent { BackgroundAgent(runner: .systemd, context: test.context) }
  private var container: BackgroundAgent {
    BackgroundAgent(runner: .docker(client: "/usr/bin/docker"), context: test.context)
  }

  @Test(arguments: [
    ("NRestarts=0\nActiveState=active\nResult=success\n", nil),
    ("NRestarts=2\nActiveState=activating\nResult=exit-code\n", nil),
    ("NRestarts=3\nActiveState=activating\nResult=exit-code\n", "systemd has restarted consul.service 3 times"),
    ("NRestarts=0\nActiveState=failed\nResult=exit-code\n", "consul.service has failed (result: exit-code)"),
    ("ActiveState=failed\n", "consul.service has failed (result: unknown)"),
    ("NRestarts=many\nActiveState=active\n", nil), ("", nil), ("=\n=x\nNRestarts\n", nil),
  ])
  func `a unit that failed or was restarted three times will not come up`(_ output: String, _ reason: String?)
    async throws
  {
    test.launcher.run("/bin/systemctl", output: output)
    #expect(await unit.crashReason() == reason)
    #expect(
      test.launcher.launches == [
        .init(
          kind: .run,
          command: Command("/bin/systemctl", ["show", "--property=NRestarts,ActiveState,Result", "consul.service"]),
          timeout: .seconds(5))
      ])
  }

  @Test(arguments: [
    ("0 running 0\n", nil), ("2 restarting 1\n", nil),
    ("3 restarting 1\n", "Docker has restarted container consul 3 times"),
    ("0 exited 126\n", "container consul exited with status 126"), ("0 created 0\n", nil), ("", nil), ("x y z\n", nil),
    ("3\n", nil),
  ])
  func `a container that exited or was restarted three times will not come up`(_ output: String, _ reason: String?)
    async throws
  {
    test.launcher.run("/usr/bin/docker", output: output)
    #expect(await container.crashReason() == reason)
    #expect(
      test.launcher.commands == [
        "/usr/bin/docker container inspect --format '{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}' consul"
      ])
  }

  /// The check polls on: what cannot be known is no reason to give up.
  @Test func `a tool that fails or is missing is no reason, and is logged`() async throws {
    test.launcher.run("/bin/systemctl", end: .exited(1), output: "Failed to connect to bus\n")
    test.launcher.fail("/usr/bin/docker")
    #expect(await unit.crashReason() == nil)
    #expect(await container.crashReason() == nil)
    #expect(
      test.sink.lines == [
        #"debug cannot read the state of the agent reason="`/bin/systemctl show "#
          + #"--property=NRestarts,ActiveState,Result consul.service`: exit status 1: Failed to connect to bus""#,
        #"debug cannot read the state of the agent reason="execute /usr/bin/docker: No such file or directory""#,
      ])
  }

  @Test func `the last lines are those of the journal or of the container`() async throws {
    test.launcher.run("/bin/journalctl", output: "one\n\ntwo\n")
    test.launcher.run("/usr/bin/docker", output: "three\r\nfour")
    #expect(await unit.lastLines() == ["one", "two"])
    #expect(await container.lastLines() == ["three", "four"])
    #expect(
      test.launcher.commands == [
        "/bin/journalctl --unit=consul.service --lines=60 --no-pager --output=cat",
        "/usr/bin/docker logs --tail 60 consul",
      ])
  }

  /// An error without the agent's lines must not look as if the agent had been silent.
  @Test func `a log that cannot be read is named in place of the lines`() async throws {
    test.launcher.fail("/bin/journalctl")
    test.launcher.run("/usr/bin/docker", after: .seconds(60))
    #expect(
      await unit.lastLines() == ["cannot read the agent's log: execute /bin/journalctl: No such file or directory"])
    #expect(await container.lastLines() == ["killed after 5.0 s"])
    #expect(test.clock.uptime() == .seconds(5))
  }

  @Test func `a cancelled check does not read anything`() async throws {
    test.launcher.run("/bin/systemctl", output: "ActiveState=failed\n")
    let task = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      return await unit.crashReason()
    }
    #expect(await task.value == nil && test.sink.all.isEmpty)
  }
}
