import Base
import Consul
import TestSupport
import Testing

@testable import Model
@testable import Observers

/// Which Consul runs, and how a person learns that there is none.
@Suite(.timeLimit(.minutes(5))) struct ConsulBinaryTests {
  private var flow = Flow()

  private func failed(_ flow: Flow) async -> Failure? {
    await failure { _ = try await flow.machineObserver.binary() }
  }

  @Test func `the first executable of PATH is used`() async throws {
    let flow = Flow(environment: ["PATH": "/opt/a:/opt/b:/usr/bin"])
    flow.context.files.put("/opt/a/consul", "", mode: 0o644)
    flow.context.files.put("/opt/b/consul", "", mode: 0o755)
    flow.context.launcher.run("/opt/b/consul", ["version"], output: "Consul v1.20.1\n")
    let binary = try await flow.machineObserver.binary()
    #expect(binary.path == "/opt/b/consul" && binary.version == ConsulVersion(1, 20, 1))
    #expect(flow.context.launcher.launches.map(\.timeout) == [.seconds(20)])
  }

  /// User-data may run without a PATH.
  @Test(arguments: [[:], ["PATH": ""], ["PATH": "/bin"]])
  func `the usual directories follow PATH`(_ environment: [String: String]) async throws {
    let flow = Flow(environment: environment)
    #expect(try await flow.machineObserver.binary().path == "/usr/bin/consul")
    flow.context.files.delete("/usr/bin/consul")
    flow.context.files.put("/opt/consul/bin/consul", "", mode: 0o755)
    flow.context.launcher.run("/opt/consul/bin/consul", ["version"], output: "Consul v1.8.7\n")
    #expect(try await flow.machineObserver.binary().path == "/opt/consul/bin/consul")
  }

  @Test func `a Consul that is not installed is an error with the directories`() async {
    flow.context.files.delete("/usr/bin/consul")
    flow.context.files.makeDirectory("/usr/local/bin/consul")
    #expect(
      await failed(flow)
        == Failure(
          .agentNotStarted, "Consul is not installed",
          details: ["no consul in /usr/bin, /usr/local/bin, /opt/consul/bin"],
          hint: "install Consul, or set its path with --consul"))
  }

  /// Guards against "not installed" where the directory cannot be examined.
  @Test func `a directory that cannot be examined is named`() async {
    flow.context.files.fail(.status, "/usr/bin/consul", errno: 13)
    #expect(
      await failed(flow)?.details == [
        "no consul in /usr/bin, /usr/local/bin, /opt/consul/bin", "check /usr/bin/consul: Permission denied",
      ])
  }

  @Test func `a Consul that is not executable is an error`() async {
    flow.context.files.put("/usr/bin/consul", "", mode: 0o644)
    #expect(
      await failed(flow)
        == Failure(
          .agentNotStarted, "/usr/bin/consul is not executable", hint: "run chmod +x /usr/bin/consul"))
  }

  @Test func `--consul is used as it is`() async throws {
    var flow = flow
    flow.settings.consulPath = "/srv/consul"
    #expect(
      await failed(flow)
        == Failure(
          .agentNotStarted, "there is no Consul at /srv/consul",
          hint: "install Consul, or correct --consul (CONSUL_BOOTSTRAP_CONSUL)"))
    flow.context.files.makeDirectory("/srv/consul")
    #expect(await failed(flow)?.message == "there is no Consul at /srv/consul")
    flow.context.files.delete("/srv/consul")
    flow.context.files.put("/srv/consul", "", mode: 0o644)
    #expect(await failed(flow)?.message == "/srv/consul is not executable")
    flow.context.files.put("/srv/consul", "", mode: 0o755)
    flow.context.launcher.run("/srv/consul", ["version"], output: "Consul v1.12.0\n")
    #expect(try await flow.machineObserver.binary().version == ConsulVersion(1, 12))
  }

  /// Guards against "there is no Consul" at a path that cannot be examined.
  @Test func `a --consul that cannot be examined is an error with the reason`() async {
    var flow = flow
    flow.settings.consulPath = "/srv/consul"
    flow.context.files.fail(.status, "/srv/consul", errno: 13)
    #expect(
      await failed(flow)
        == Failure(
          .agentNotStarted, "cannot examine /srv/consul", details: ["check /srv/consul: Permission denied"],
          hint: "check the permissions of its directories, or correct --consul (CONSUL_BOOTSTRAP_CONSUL)"))
  }

  @Test func `a version that cannot be determined is an error with the output`() async {
    flow.context.launcher.run(
      "/usr/bin/consul", ["version"], end: .exited(2), output: "a\nb\nc\nd\ne\nf\n")
    #expect(
      await failed(flow)
        == Failure(
          .agentNotStarted, "cannot determine the version of Consul: /usr/bin/consul does not print it",
          details: ["`/usr/bin/consul version`: exit status 2", "a", "b", "c", "d", "e"],
          hint: "set the path of the Consul binary with --consul"))
  }

  @Test func `a version command that hangs is killed after 20 s`() async {
    flow.context.launcher.run("/usr/bin/consul", ["version"], after: .seconds(3600))
    #expect(
      await failed(flow)?.details == ["`/usr/bin/consul version`: ended by signal 9", "killed after 20 s"])
    #expect(flow.elapsed == .seconds(20))
  }

  @Test func `a program for another machine cannot run`() async {
    flow.context.launcher.fail("/usr/bin/consul", reason: "Exec format error")
    #expect(
      await failed(flow)
        == Failure(
          .agentNotStarted, "cannot run /usr/bin/consul", details: ["execute /usr/bin/consul: Exec format error"],
          hint: "check that it is a program for this machine, or set another with --consul"))
  }
}

/// The Consul of an image.
@Suite(.timeLimit(.minutes(5))) struct ImageVersionTests {
  private var flow = Flow()

  init() {
    flow.settings.start = .docker
    flow.settings.image = "hashicorp/consul:1.20"
    flow.context.files.put("/usr/bin/docker", "", mode: 0o755)
  }

  private func failed(_ flow: Flow) async -> Failure? {
    await failure { _ = try await flow.machineObserver.binary() }
  }

  /// The first use of an image pulls it: that may take minutes.
  @Test func `the image prints its version`() async throws {
    flow.context.launcher.run("/usr/bin/docker", ["run"], output: "Unable to find image locally\nConsul v1.20.1\n")
    let binary = try await flow.machineObserver.binary()
    #expect(binary.path == "/usr/bin/docker" && binary.version == ConsulVersion(1, 20, 1))
    #expect(
      flow.context.launcher.commands
        == ["/usr/bin/docker run --rm --network none --entrypoint consul hashicorp/consul:1.20 version"])
    #expect(flow.context.launcher.launches.map(\.timeout) == [.seconds(300)])
  }

  @Test func `an image that prints none is an error`() async {
    flow.context.launcher.run("/usr/bin/docker", ["run"], end: .exited(125), output: "no such image\n")
    #expect(
      await failed(flow)
        == Failure(
          .agentNotStarted, "cannot determine the version of Consul: image hashicorp/consul:1.20 does not print it",
          details: [
            "`/usr/bin/docker run --rm --network none --entrypoint consul hashicorp/consul:1.20 version`: "
              + "exit status 125", "no such image",
          ], hint: "check --image, and that the Docker engine is running"))
  }

  @Test func `Docker that is missing, or cannot run, is an error about Docker`() async {
    flow.context.launcher.fail("/usr/bin/docker", reason: "Exec format error")
    #expect(
      await failed(flow)
        == Failure(
          .agentNotStarted, "cannot run /usr/bin/docker", details: ["execute /usr/bin/docker: Exec format error"],
          hint: "check that it is a program for this machine"))
    flow.context.files.delete("/usr/bin/docker")
    #expect(
      await failed(flow)
        == Failure(
          .agentNotStarted, "Docker is not installed",
          details: ["no docker in /usr/bin, /usr/local/bin, /opt/consul/bin"],
          hint: "install Docker, or set another --start"))
  }
}
