import Base
import Execution
import Model
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(5))) struct ContainerStepTests {
  private let test = TestContext()
  private var launcher: FakeLauncher { test.launcher }
  private static let docker = "/usr/bin/docker"
  private static let inspect =
    "/usr/bin/docker container inspect --format "
    + #"'{{.State.Running}} {{index .Config.Labels "consul-bootstrap"}}' consul"#
  private let step = Step.runContainer(
    DockerContainer(
      name: "consul", image: "hashicorp/consul:1.20", docker: docker,
      run: Command(docker, ["run", "--detach", "--name", "consul", "hashicorp/consul:1.20"]),
      fingerprint: "run --detach --name consul"))

  private func inspected(_ output: String) { launcher.run(Self.docker, ["container", "inspect"], output: output) }

  init() {
    launcher.run(Self.docker)
    launcher.run(
      Self.docker, ["container", "inspect"], end: .exited(1), output: "Error: No such container: consul\n")
  }

  @Test func `a container that does not exist is created`() async throws {
    #expect(try await test.perform(step) == .done)
    #expect(
      launcher.commands == [
        Self.inspect, "/usr/bin/docker run --detach --name consul hashicorp/consul:1.20",
      ])
  }

  @Test func `a container of the same command that runs is left alone`() async throws {
    inspected("true run --detach --name consul\n")
    #expect(try await test.perform(step) == .alreadyDone)
    #expect(launcher.commands == [Self.inspect])
  }

  @Test func `a container of the same command that is stopped is started`() async throws {
    inspected("false run --detach --name consul\n")
    #expect(try await test.perform(step) == .done)
    #expect(launcher.commands == [Self.inspect, "/usr/bin/docker start consul"])
  }

  @Test func `a container with other options is replaced, by a stop that lets the agent leave`() async throws {
    inspected("true run --detach --name consul --volume /opt/old:/opt/old\n")
    #expect(try await test.perform(step) == .done)
    #expect(
      launcher.commands == [
        Self.inspect, "/usr/bin/docker stop consul", "/usr/bin/docker rm consul",
        "/usr/bin/docker run --detach --name consul hashicorp/consul:1.20",
      ])
    #expect(
      test.sink.lines.first == "warning the options of container consul have changed; replacing the container")
  }

  @Test func `a container of another program is not touched`() async throws {
    inspected("true \n")
    #expect(
      try await test.failure(of: step)
        == Failure(
          .agentNotStarted, "another program created container consul",
          details: ["the container has no label consul-bootstrap"],
          hint: "remove it (docker rm -f consul) or rename it, and run consul-bootstrap again"))
    #expect(launcher.commands == [Self.inspect])
  }

  @Test func `a replacement that fails half-way is completed by a second run`() async throws {
    inspected("true run --detach\n")
    launcher.run(Self.docker, ["run"], end: .exited(125), output: "Unable to find image\n", times: 1)
    #expect(
      try await test.failure(of: step)
        == Failure(
          .agentNotStarted,
          "`/usr/bin/docker run --detach --name consul hashicorp/consul:1.20` failed: exit status 125",
          details: ["Unable to find image"],
          hint: "check --image, and that the Docker engine is running and can pull the image"))
    launcher.run(Self.docker, ["container", "inspect"], end: .exited(1), output: "Error: No such container\n")
    #expect(try await test.perform(step) == .done)
  }

  @Test func `an engine that is not there is named with the cause`() async throws {
    launcher.fail(Self.docker)
    #expect(
      try await test.failure(of: step)
        == Failure(
          .agentNotStarted, "cannot run container consul from hashicorp/consul:1.20",
          details: ["execute /usr/bin/docker: No such file or directory"],
          hint: "check that /usr/bin/docker is a program for this machine, and its permissions"))
  }

  @Test func `an engine that does not stop the container is named with a hint`() async throws {
    inspected("true run --detach\n")
    launcher.run(Self.docker, ["stop"], end: .exited(1), output: "Cannot connect to the Docker daemon\n")
    #expect(try await test.failure(of: step)?.hint == "check that the Docker engine is running")
  }
}
