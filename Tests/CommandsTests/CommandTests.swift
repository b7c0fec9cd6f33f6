import AWS
import Base
import Model
import TestSupport
import Testing

@testable import Commands

/// Exit status and output of each command, through fakes of everything outside.
@Suite(.timeLimit(.minutes(5))) struct CommandTests {
  /// One server alone in its group, root under systemd, with Consul 1.8.7 and nothing configured.
  private func machine(_ fixture: CommandFixture, desired: Int? = 1) -> FakeAWS {
    let test = fixture.test
    let metadata = FakeMetadata(test)
    metadata.setRole(expiration: Timestamp(iso8601: "2026-01-02T00:00:00Z")!)
    let aws = FakeAWS(test)
    aws.setGroups([FakeGroup("web", desired: desired)])
    aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10")])
    test.files.put("/usr/bin/consul", "", mode: 0o755)
    test.files.makeDirectory("/sys/class/net")
    // The lock creates it.
    test.files.makeDirectory("/var/lib/consul-bootstrap")
    test.launcher.run("/usr/bin/consul", ["version"], output: "Consul v1.8.7\n")
    test.launcher.run("/usr/bin/consul", ["validate"])
    test.system.setOwner("consul", 8500)
    test.transport.fail("http://127.0.0.1:8500/", .refused)
    test.transport.fail("http://10.0.1.10:8500/", .refused)
    return aws
  }

  // MARK: The run

  @Test func `a dry run prints the plan, changes nothing and ends with 0`() async {
    let fixture = CommandFixture()
    _ = machine(fixture)
    let before = fixture.test.files.changes.count
    #expect(await fixture.run(["--dry-run"]) == 0)
    #expect(fixture.output.text.contains("\nDecision: a new cluster, bootstrap_expect 1\n"))
    #expect(fixture.output.text.hasSuffix("\nNothing was changed.\n"))
    #expect(fixture.test.files.changes.count == before && fixture.locks.paths.isEmpty)
    #expect(fixture.test.launcher.commands == ["/usr/bin/consul version"])
  }

  @Test func `a dry run as JSON names the phase of each step`() async throws {
    let fixture = CommandFixture()
    _ = machine(fixture)
    #expect(await fixture.run(["--dry-run", "--json"]) == 0)
    let steps = try #require(try JSONValue(parsing: fixture.output.text)["steps"]?.array)
    #expect(
      steps.map { $0["phase"]?.string } == [
        "prepare", "prepare", "prepare", "prepare", "start", "start", "start", "start", "verify", "after",
      ])
  }

  /// Guards against a cluster that expects 0 servers.
  @Test func `a group that desires no server is refused with status 2 and a reason`() async {
    let fixture = CommandFixture()
    _ = machine(fixture, desired: 0)
    #expect(await fixture.run(["--start", "none"]) == 2)
    #expect(
      fixture.errors.text == """
        consul-bootstrap: error: the expected number of servers is 0
          the desired capacity of Auto Scaling group web is 0
          hint: raise the desired capacity, set --expect N, or correct --group

        """)
  }

  @Test func `a second run ends with status 17 and changes nothing`() async {
    let fixture = CommandFixture()
    fixture.locks.hold("/var/lib/consul-bootstrap/lock")
    #expect(await fixture.run([]) == 17)
    #expect(
      fixture.errors.text == """
        consul-bootstrap: error: another consul-bootstrap is running on this machine
          process 4711 holds /var/lib/consul-bootstrap/lock
          hint: wait until it has finished, or until the agent that it supervises is healthy; \
        this run has changed nothing

        """)
    #expect(fixture.test.files.changes.isEmpty && fixture.test.transport.requests.isEmpty)
  }

  /// Guards against a lock that cannot be created and is taken for one that a sidecar holds.
  @Test func `a state directory that cannot be created is status 14, not a held lock`() async {
    let fixture = CommandFixture()
    fixture.locks.fail(
      .unavailable(
        FileError("create directory", "/var/lib/consul-bootstrap", errno: 30, reason: "Read-only file system")))
    #expect(await fixture.run(["--log", "bootstrap"]) == 14)
    #expect(fixture.errors.text.contains("create directory /var/lib/consul-bootstrap: Read-only file system"))
  }

  @Test func `an error is a record where the log is JSON`() async {
    let fixture = CommandFixture()
    fixture.locks.hold("/var/lib/consul-bootstrap/lock")
    #expect(await fixture.run(["--log-format", "json"]) == 17)
    #expect(fixture.errors.text == "")
    let record = fixture.errors.records.all.last
    #expect(record?.message == "another consul-bootstrap is running on this machine")
    #expect(record?.attributes["status"] == 17)
  }

  @Test func `a run without an agent writes the configuration and ends with 0`() async {
    let fixture = CommandFixture()
    _ = machine(fixture)
    fixture.test.launcher.run("/usr/bin/consul", ["validate"])
    #expect(await fixture.run(["--start", "none"]) == 0)
    #expect(
      fixture.test.files.text("/etc/consul.d/00-consul-bootstrap.json")?.contains("\"bootstrap_expect\": 1") == true)
    #expect(fixture.test.sink.lines.last == "info configuration written; the agent is not started (--start none)")
    #expect(fixture.locks.paths.isEmpty)
  }

  // MARK: Running again

  private static let options = "/var/lib/consul-bootstrap/options.json"

  @Test func `a second run says which options it has from the last one, and a dry run lists them`() async throws {
    let fixture = CommandFixture()
    _ = machine(fixture)
    fixture.test.launcher.run("/usr/bin/consul", ["validate"])
    #expect(await fixture.run(["--start", "none", "--datacenter", "east"]) == 0)
    let text = fixture.test.files.text(Self.options)
    #expect(text == "{\n  \"datacenter\": \"east\",\n  \"start\": \"none\"\n}\n")
    #expect(fixture.test.sink.all.allSatisfy { !$0.message.contains("last run") })
    #expect(await fixture.run(["--dry-run"]) == 0)
    #expect(
      fixture.output.text.contains(
        "\nOptions of the last run, from \(Self.options)\n  --datacenter \"east\"\n  --start \"none\"\n"))
    #expect(await fixture.run([]) == 0)
    let record = try await fixture.test.sink.record(containing: "using options of the last run")
    #expect(record.attributes["options"] == ["--datacenter", "--start"])
    #expect(fixture.test.files.text(Self.options) == text)
  }

  /// A run that stopped before it was verified leaves the options of the one before.
  @Test func `a run that fails records nothing`() async {
    let fixture = CommandFixture()
    _ = machine(fixture)
    fixture.test.launcher.run("/usr/bin/consul", ["validate"], end: .exited(1))
    #expect(await fixture.run(["--start", "none"]) == 14)
    #expect(!fixture.test.files.exists(Self.options))
  }

  /// It was printed two minutes later, after the wait.
  @Test func `the error of a failed boot is printed once, and before the wait for the end of the instance`()
    async throws
  {
    let fixture = CommandFixture(), aws = machine(fixture)
    aws.setGroups([FakeGroup("web", desired: 1, hooks: ["launching", "ending"])])
    aws.change("i-0aaa") { $0.lifecycle = "Pending:Wait" }
    fixture.test.launcher.run("/usr/bin/consul", ["validate"], end: .exited(1))
    async let status = fixture.run(
      ["--start", "none", "--lifecycle-hook", "launching", "--termination-hook", "ending"])
    try await fixture.test.sink.record(containing: "once Auto Scaling ends this instance")
    let printed = fixture.errors.text
    #expect(printed.hasPrefix("consul-bootstrap: error: "))
    #expect(await status == 14 && fixture.errors.text == printed)
  }

  /// Other runs ended with status 17 as long as the agent ran.
  @Test func `a supervised agent that is healthy makes room for other runs`() async throws {
    let fixture = CommandFixture(), test = fixture.test
    _ = machine(fixture)
    test.system.setBootedBySystemd(false)
    test.files.makeDirectory("/opt")
    test.launcher.run("/usr/bin/consul", ["validate"])
    let agent = FakeConsulAgent(test) {
      $0.failure = .refused
      $0.nodeName = "i-0aaa"
    }
    let verifies = Watched(false)
    test.launcher.start("/usr/bin/consul", ["agent"]) { process in
      process.on(15, finish: .exited(0))
      agent.set { $0.failure = nil }
      verifies.update { $0 = true }
    }
    async let status = fixture.run([])
    try await verifies.wait { $0 ? () : nil }
    #expect(fixture.locks.paths == ["/var/lib/consul-bootstrap/lock"])
    agent.setCluster([("i-0aaa", "10.0.1.10")])
    try await fixture.locks.wait("/var/lib/consul-bootstrap/supervisor.lock")
    try await fixture.locks.wait("/var/lib/consul-bootstrap/lock", isHeld: false)
    fixture.signals.send(15)
    #expect(await status == 0)
    #expect(fixture.locks.paths.isEmpty)
  }

  @Test func `the sidecar says what was lost`() async throws {
    let fixture = CommandFixture()
    _ = machine(fixture)
    fixture.test.files.put("/etc/consul.d/00-consul-bootstrap.json", #"{"server": true, "bind_addr": "10.0.1.99"}"#)
    async let status = fixture.run(["sidecar", "--config", Self.options])
    let record = try await fixture.test.sink.record(containing: "the options of the last run are lost")
    #expect(record.attributes["reason"] == .string("\(Self.options) is missing"))
    // The present address is another: the configuration is not written again from defaults.
    _ = try await fixture.test.sink.record(containing: "the sidecar monitors the agent")
    fixture.signals.send(15)
    #expect(await status == 0)
    #expect(fixture.test.files.text("/etc/consul.d/00-consul-bootstrap.json")?.contains("10.0.1.99") == true)
  }

  /// Guards against a signal during the wait that is lost, or that ends with another status.
  @Test(arguments: [2, 15] as [Int32])
  func `a signal before the agent runs ends the run with 128 and its number`(_ number: Int32) async throws {
    let fixture = CommandFixture()
    _ = machine(fixture, desired: 3)
    async let status = fixture.run(["--start", "none"])
    try await fixture.test.sink.record(containing: "waiting for the group")
    fixture.signals.send(number)
    #expect(await status == 128 + number)
    #expect(fixture.test.sink.lines.last == "warning ended by signal \(number)")
    #expect(fixture.locks.paths.isEmpty && fixture.test.files.text("/etc/consul.d/00-consul-bootstrap.json") == nil)
  }

  @Test func `what failed is the last record of the log that is forwarded`() async {
    let fixture = CommandFixture()
    let test = fixture.test
    test.transport.fail(FakeMetadata.base + "/", .unreachable)
    test.files.put("/usr/bin/consul", "", mode: 0o755)
    test.launcher.run("/usr/bin/consul", ["version"], output: "Consul v1.8.7\n")
    #expect(await fixture.run(["--start", "none"]) == 10)
    #expect(fixture.ownLog.all.last?.message.hasPrefix("no instance metadata service answers") == true)
    #expect(fixture.ownLog.all.last?.attributes["status"] == 10)
  }

  // MARK: The sidecar

  @Test func `the sidecar is ready at once, and ends with 0 after a signal`() async throws {
    let fixture = CommandFixture()
    let test = fixture.test
    test.transport.silence(FakeMetadata.base + "/")
    test.files.put("/usr/bin/consul", "", mode: 0o755)
    test.launcher.run("/usr/bin/consul", ["version"], output: "Consul v1.8.7\n")
    async let status = fixture.run(["sidecar"])
    _ = try await test.system.notification("READY=1")
    #expect(fixture.locks.paths == ["/var/lib/consul-bootstrap/sidecar.lock"])
    fixture.signals.send(15)
    #expect(await status == 0)
    #expect(test.system.notifications.contains("STOPPING=1") && fixture.locks.paths.isEmpty)
  }

  @Test func `a service manager that cannot be notified is logged, and the sidecar goes on`() async throws {
    let fixture = CommandFixture()
    let test = fixture.test
    test.transport.silence(FakeMetadata.base + "/")
    test.files.put("/usr/bin/consul", "", mode: 0o755)
    test.launcher.run("/usr/bin/consul", ["version"], output: "Consul v1.8.7\n")
    test.system.fail(.notify, errno: 111)
    async let status = fixture.run(["sidecar"])
    _ = try await test.sink.record(containing: "cannot notify the service manager")
    fixture.signals.send(15)
    #expect(await status == 0)
  }

  @Test func `a second sidecar ends with status 17`() async {
    let fixture = CommandFixture()
    fixture.locks.hold("/var/lib/consul-bootstrap/sidecar.lock")
    #expect(await fixture.run(["sidecar"]) == 17)
  }

  // MARK: Status

  @Test func `status is 0 whatever it shows, and 1 with --check and a problem`() async {
    let fixture = CommandFixture()
    fixture.test.system.setBootedBySystemd(false)
    fixture.test.transport.fail("http://127.0.0.1:8500/", .refused)
    #expect(await fixture.run(["status"]) == 0)
    #expect(fixture.output.text.contains("does not answer on 127.0.0.1:8500: connection refused"))
    let check = CommandFixture()
    check.test.system.setBootedBySystemd(false)
    check.test.transport.fail("http://127.0.0.1:8500/", .refused)
    #expect(await check.run(["status", "--check"]) == 1)
    #expect(
      check.output.lines == [
        "the agent does not answer on 127.0.0.1:8500: connection refused",
        "  hint: start the agent: run consul-bootstrap again", "",
      ])
  }

  /// Guards against a status that takes broken options of the last run for none.
  @Test func `options of the last run that are damaged are a problem, and those of root are not`() async {
    let path = "/var/lib/consul-bootstrap/options.json"
    for (number, problem) in [
      (Int32?.none, "the options of the last run are lost: \(path) is not JSON"),
      (5, "the options of the last run are lost: read \(path): Input/output error"),
    ] {
      let fixture = CommandFixture()
      fixture.test.system.setBootedBySystemd(false)
      fixture.test.files.put(path, "{")
      if let number { fixture.test.files.fail(.read, path, errno: number) }
      fixture.test.transport.fail("http://127.0.0.1:8500/", .refused)
      #expect(await fixture.run(["status", "--check"]) == 1)
      #expect(fixture.output.lines.contains(problem), "\(fixture.output.text)")
    }
    let denied = CommandFixture()
    denied.test.system.setBootedBySystemd(false)
    denied.test.files.put("/var/lib/consul-bootstrap/options.json", #"{"ui": "true"}"#)
    denied.test.files.fail(.read, "/var/lib/consul-bootstrap/options.json", errno: 13)
    denied.test.transport.fail("http://127.0.0.1:8500/", .refused)
    #expect(await denied.run(["status"]) == 0)
  }

  // MARK: Documents

  @Test func `iam-policy prints the policy of the options without a call`() async throws {
    let fixture = CommandFixture()
    let arguments = ["iam-policy", "--group", "web", "--lifecycle-hook", "up", "--account", "123456789012"]
    #expect(await fixture.run(arguments) == 0)
    let statements = try #require(try JSONValue(parsing: fixture.output.text)["Statement"]?.array)
    #expect(statements.map { $0["Sid"]?.string } == ["DiscoverServers", "CompleteLifecycleHook"])
    #expect(fixture.test.transport.requests.isEmpty)
  }

  @Test(arguments: Completion.allCases)
  func `completion prints the script of a shell`(_ shell: Completion) async {
    let fixture = CommandFixture()
    #expect(await fixture.run(["completion", shell.rawValue]) == 0)
    #expect(fixture.output.text == shell.script)
  }

  @Test func `completion without a shell is a usage error`() async {
    let fixture = CommandFixture()
    #expect(await fixture.run(["completion"]) == 2)
    #expect(fixture.errors.text.hasSuffix("hint: bash, zsh or fish\n"))
  }

  /// Guards against a manual page that a broken configuration file keeps from being read.
  @Test func `man prints the manual page with the version, whatever the machine's options are`() async {
    let fixture = CommandFixture()
    fixture.test.files.put("/etc/consul-bootstrap/config.json", "{")
    #expect(await fixture.run(["man"]) == 0)
    #expect(fixture.output.text.contains("\"consul-bootstrap 1.2.3\""))
  }

  // MARK: Installation

  @Test(arguments: ["install", "uninstall"])
  func `installation needs root, except for a preview`(_ command: String) async {
    let fixture = CommandFixture()
    fixture.test.system.setRoot(false)
    fixture.test.system.setOwner("consul", 8500)
    #expect(await fixture.run([command]) == 2)
    #expect(fixture.errors.text.hasPrefix("consul-bootstrap: error: \(command) needs root\n"))
    #expect(await fixture.run([command, "--dry-run"]) == 0)
    #expect(fixture.output.text.hasSuffix("\nNothing was changed.\n") && fixture.test.files.changes.isEmpty)
  }

  @Test func `a second install has nothing to do, and uninstall removes what the first created`() async {
    let fixture = CommandFixture()
    let test = fixture.test
    test.files.makeDirectory("/etc/systemd/system")
    test.files.put("/usr/local/bin/consul-bootstrap", "program", mode: 0o755)
    test.launcher.run("/bin/systemctl")
    test.system.setOwner("consul", 8500)
    #expect(await fixture.run(["install"]) == 0)
    #expect(test.files.text("/etc/systemd/system/consul.service")?.hasPrefix("# Written by consul-bootstrap") == true)
    #expect(await fixture.run(["install"]) == 0)
    #expect(fixture.output.lines.suffix(2) == ["nothing to do: this machine is prepared", ""])
    #expect(await fixture.run(["uninstall"]) == 0)
    #expect(!test.files.exists("/etc/systemd/system/consul.service"))
    #expect(!test.files.exists("/etc/systemd/system/consul-bootstrap.service"))
  }

  /// A run finds Consul in one more directory than the unit that was installed for it named.
  @Test(arguments: ["/usr/local/bin", "/usr/bin", "/opt/consul/bin"])
  func `the installed unit names the Consul that a run finds`(_ directory: String) async {
    let fixture = CommandFixture()
    let test = fixture.test
    test.files.makeDirectory("/etc/systemd/system")
    test.files.put("/usr/local/bin/consul-bootstrap", "program", mode: 0o755)
    test.files.put("\(directory)/consul", "program", mode: 0o755)
    test.launcher.run("/bin/systemctl")
    test.system.setOwner("consul", 8500)
    #expect(await fixture.run(["install"]) == 0)
    let unit = test.files.text("/etc/systemd/system/consul.service") ?? ""
    #expect(unit.contains("\nExecStart=\(directory)/consul agent "))
  }

  /// Guards against an unreadable unit that is taken for none, and so for one of this program's.
  @Test func `an installation over an unreadable unit stops with path and reason`() async {
    let fixture = CommandFixture()
    fixture.test.files.makeDirectory("/etc/systemd/system")
    fixture.test.files.put("/etc/systemd/system/consul.service", "x")
    fixture.test.files.fail(.read, "/etc/systemd/system/consul.service", errno: 5)
    fixture.test.system.setOwner("consul", 8500)
    #expect(await fixture.run(["uninstall"]) == 14)
    #expect(fixture.errors.text.hasPrefix("consul-bootstrap: error: cannot read /etc/systemd/system/consul.service\n"))
  }
}
