import Base
import Model
import TestSupport
import Testing

@testable import Sidecar

@Suite(.timeLimit(.minutes(5))) struct RebootTests {
  private var sidecar = SidecarFixture()

  private static let docker = "/usr/bin/docker"
  private static let bootID = "/proc/sys/kernel/random/boot_id"
  private static let record = "/var/lib/consul-bootstrap/boot-id"

  private func configure(bind address: String) {
    sidecar.context.files.put(SidecarFixture.configuration, "{\"bind_addr\": \"\(address)\"}")
  }

  private var boundAddress: String? {
    sidecar.context.files.text(SidecarFixture.configuration).flatMap {
      try? JSONValue(parsing: $0)["bind_addr"]?.string
    }
  }

  private func dockerFixture() -> SidecarFixture {
    var sidecar = sidecar
    sidecar.settings.start = .docker
    sidecar.settings.image = "consul:1.20"
    let launcher = sidecar.context.launcher
    sidecar.context.files.put(Self.docker, "binary", mode: 0o755)
    launcher.run(Self.docker, ["restart"])
    launcher.run(Self.docker, ["run"])
    launcher.run(Self.docker, ["run", "--rm"], output: "Consul v1.20.1\n")
    launcher.run(Self.docker, ["container", "inspect"], end: .exited(1))
    sidecar.context.files.put(Self.bootID, "one\n")
    return sidecar
  }

  /// Commands other than those that ask for versions and validate.
  private func actions(_ sidecar: SidecarFixture) -> [String] {
    sidecar.context.launcher.commands.filter { !$0.contains(" version") && !$0.contains(" validate ") }
  }

  // MARK: The address

  @Test func `under systemd an agent with a lost address gets its new one and is restarted`() async throws {
    configure(bind: "10.0.1.99")
    sidecar.context.launcher.run("/bin/systemctl", ["restart"])
    try await sidecar.runUntilReady()
    #expect(boundAddress == "10.0.1.10")
    #expect(actions(sidecar) == ["/bin/systemctl restart consul.service"])
    #expect(
      sidecar.log == [
        "warning the address of this machine has changed; writing the agent's configuration again "
          + #"from="10.0.1.99" to="10.0.1.10""#,
        SidecarFixture.hasWritten, "info /bin/systemctl restart consul.service",
      ])
  }

  @Test func `in Docker an agent with a lost address gets its new one and is restarted`() async throws {
    configure(bind: "10.0.1.99")
    let sidecar = dockerFixture()
    sidecar.context.files.put(Self.record, "one\n")
    try await sidecar.runUntilReady()
    #expect(boundAddress == "10.0.1.10")
    #expect(actions(sidecar) == ["/usr/bin/docker restart consul"])
  }

  @Test func `an agent with its address is left alone`() async throws {
    configure(bind: "10.0.1.10")
    try await sidecar.runUntilReady()
    #expect(actions(sidecar).isEmpty && sidecar.changes.isEmpty && sidecar.log.isEmpty)
  }

  /// An address that the user has set is the user's to change.
  @Test func `an overlaid bind_addr is left alone`() async throws {
    configure(bind: "10.0.1.99")
    var sidecar = sidecar
    sidecar.settings.overlays = [.init(origin: "--set bind_addr", value: ["bind_addr": "10.0.1.99"])]
    try await sidecar.runUntilReady()
    #expect(boundAddress == "10.0.1.99" && actions(sidecar).isEmpty && sidecar.log.isEmpty)
  }

  @Test func `a restart that fails is logged, and the sidecar starts all the same`() async throws {
    configure(bind: "10.0.1.99")
    sidecar.context.launcher.run("/bin/systemctl", ["restart"], end: .exited(1), output: "Job failed.")
    #expect(try await sidecar.runUntilReady() == .seconds(5))
    #expect(boundAddress == "10.0.1.10")
    #expect(
      sidecar.log.last == "warning the sidecar cannot start yet; retrying reason=\"`/bin/systemctl restart "
        + "consul.service` failed: exit status 1; Job failed.; hint: run `systemctl status "
        + "consul.service` and `journalctl -u consul.service`\"")
  }

  // MARK: The container

  /// A container that someone stopped by hand must not come back before the next boot.
  @Test func `a container is started once for each boot`() async throws {
    let sidecar = dockerFixture()
    try await sidecar.runUntilReady()
    let once = actions(sidecar)
    #expect(once.count == 2 && once[0].hasPrefix("/usr/bin/docker container inspect --format "))
    #expect(once[1].hasPrefix("/usr/bin/docker run --detach --name consul --network host "))
    #expect(sidecar.context.files.text(Self.record) == "one\n")
    try await sidecar.runUntilReady()
    #expect(actions(sidecar) == once)
    sidecar.context.files.put(Self.bootID, "two\n")
    try await sidecar.runUntilReady()
    #expect(actions(sidecar) == once + once)
    #expect(sidecar.context.files.text(Self.record) == "two\n")
  }

  @Test func `a container that does not start is tried again in the same boot`() async throws {
    let sidecar = dockerFixture()
    sidecar.context.launcher.run(
      Self.docker, ["run", "--detach"], end: .exited(125), output: "no such image", times: 1)
    #expect(try await sidecar.runUntilReady() == .seconds(5))
    #expect(actions(sidecar).count { $0.hasPrefix("/usr/bin/docker run --detach") } == 2)
    #expect(sidecar.context.files.text(Self.record) == "one\n")
    #expect(sidecar.log.contains { $0.hasPrefix("warning the sidecar cannot start yet; retrying") })
  }

  /// No notice was read before the container had started: its hook ran out.
  @Test(arguments: [true, false])
  func `a container that does not start, or hangs, holds up no departure`(_ hangs: Bool) async throws {
    var sidecar = dockerFixture()
    let launcher = sidecar.context.launcher, gate = Gate()
    launcher.onRun(Self.docker, ["run", "--detach"]) { _, _ in
      if hangs { try await gate.pass() }
      return CommandResult(end: .exited(125), output: "no such image")
    }
    sidecar.agent.set { $0.failure = .refused }
    sidecar.settings.terminationHook = "ending"
    sidecar.aws.setGroups([FakeGroup("consul", desired: 1, hooks: ["ending"])])
    sidecar.aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10", group: "consul")])
    let task = Task { [sidecar] in try await sidecar.sidecar().run {} }
    if hangs {
      try await gate.arrivals()
    } else {
      try await sidecar.context.sink.record(containing: "cannot start yet")
    }
    sidecar.aws.change("i-0aaa") { $0.lifecycle = "Terminating:Wait" }
    sidecar.metadata.set("/latest/meta-data/autoscaling/target-lifecycle-state", "Terminated")
    try await sidecar.aws.call("CompleteLifecycleAction")
    let starts = actions(sidecar).count
    try await sidecar.context.clock.sleep(for: .seconds(300))
    // What is to leave is not started any more.
    #expect(actions(sidecar).count == starts)
    #expect(sidecar.aws.completedHooks == ["ending consul i-0aaa CONTINUE"])
    task.cancel()
    _ = await task.result
  }

  /// A full disk ended the sidecar, silently and with status 0.
  @Test func `a record of the boot that cannot be written is logged, and the sidecar starts`() async throws {
    let sidecar = dockerFixture()
    sidecar.context.files.fail(.write, Self.record, errno: 28)
    #expect(try await sidecar.runUntilReady() == .zero)
    #expect(
      sidecar.log.last == "warning cannot record that this boot has started the container "
        + #"reason="write /var/lib/consul-bootstrap/boot-id: No space left on device""#)
  }

  @Test func `without Docker no container is looked for`() async throws {
    sidecar.context.files.put(Self.bootID, "one\n")
    try await sidecar.runUntilReady()
    #expect(actions(sidecar).isEmpty && !sidecar.context.files.exists(Self.record))
  }
}
