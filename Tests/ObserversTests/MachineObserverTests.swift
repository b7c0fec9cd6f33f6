import Base
import Consul
import TestSupport
import Testing

@testable import Decisions
@testable import Model
@testable import Observers

/// What a run learns about its machine.
@Suite(.timeLimit(.minutes(5))) struct MachineObserverTests {
  private var flow = Flow()

  private func observe(_ flow: Flow) async throws -> MachineObservation {
    try await flow.machineObserver.observe(Flow.binary, identity: flow.identity)
  }

  private var owner: FileOwner { FileOwner(user: 8500, group: 8500, userName: "consul", groupName: "consul") }

  @Test func `before the first boot everything is absent, and nothing is unreadable`() async throws {
    var expected = flow.machine
    expected.agentOwner = owner
    #expect(try await observe(flow) == expected)
    #expect(flow.context.files.changes.isEmpty && flow.log.all.isEmpty)
  }

  @Test func `after a boot it knows data, record, configuration, unit and the other files`() async throws {
    let files = flow.context.files
    files.put("/opt/consul/raft/snapshots/2-5-1/meta.json", "{}")
    files.put("/opt/consul/serf/local.snapshot", "alive: i-1 10.0.1.9:8301\nalive: i-2 10.0.1.10:8301\n")
    files.put("/var/lib/consul-bootstrap/instance.json", #"{"instance_id": "i-2"}"#)
    files.put("/var/lib/consul-bootstrap/cluster.json", "{}")
    files.put("/etc/consul.d/00-consul-bootstrap.json", #"{"retry_join": ["10.0.1.9"]}"#)
    files.put("/etc/consul.d/10-services.json", "{}")
    files.put("/etc/consul.d/README", "not read")
    files.put("/etc/consul.d/zz.hcl", "bootstrap_expect = 3\n")
    files.put("/etc/systemd/system/consul.service", "[Service]\n")
    files.put("/var/log/messages", "")
    flow.agent("127.0.0.1", leader: "10.0.1.9:8300")
    var expected = flow.machine
    expected.agentOwner = owner
    expected.dataDirectory = .init(
      content: .init(snapshotNamesThisAddress: true),
      raftState: .present(evidence: "/opt/consul/raft/snapshots/2-5-1"), isMount: false)
    expected.recordedInstanceID = "i-2"
    expected.namesCluster = true
    expected.unit = .text("[Service]\n")
    expected.agentIsRunning = true
    expected.syslogFile = "/var/log/messages"
    expected.otherConfigurationFiles = [
      .init(path: "/etc/consul.d/10-services.json", .document(SecretDocument(.object([:])))),
      .init(path: "/etc/consul.d/zz.hcl", .document(SecretDocument(["bootstrap_expect": 3]))),
    ]
    expected.configuration = CurrentConfiguration(
      .present(Secret(#"{"retry_join": ["10.0.1.9"]}"#)), at: "/etc/consul.d/00-consul-bootstrap.json",
      beside: expected.otherConfigurationFiles)
    #expect(try await observe(flow) == expected)
  }

  @Test func `a file system's own directory is no content, and a mount is recognized by its device`() async throws {
    flow.context.files.makeDirectory("/opt/consul", device: 7)
    flow.context.files.makeDirectory("/opt/consul/lost+found")
    #expect(try await observe(flow).dataDirectory == .init(content: nil, raftState: .none, isMount: true))
    flow.context.files.put("/opt/consul/node-id", "id")
    #expect(
      try await observe(flow).dataDirectory
        == .init(content: .init(snapshotNamesThisAddress: nil), raftState: .none, isMount: true))
  }

  /// Guards against 10.0.1.100 taken for 10.0.1.10.
  @Test(arguments: [
    ("alive: i-2 10.0.1.10:8301\n", true), ("alive: i-9 10.0.1.100:8301\n", false),
    ("alive: i-9 110.0.1.10:8301\n", false), ("not-alive: i-2 10.0.1.10:8301\n", false), ("", false),
  ])
  func `the gossip snapshot lists this machine's address`(_ snapshot: String, _ isListed: Bool) async throws {
    flow.context.files.put("/opt/consul/serf/local.snapshot", snapshot)
    #expect(try await observe(flow).dataDirectory.content == .init(snapshotNamesThisAddress: isListed))
  }

  @Test(arguments: [
    ("a.json", #"{"bootstrap_expect": 3}"#, true), ("a.json", #"{"bootstrap_expect": 0}"#, false),
    ("a.json", #"{"bootstrap": true}"#, true), ("a.json", #"{"bootstrap": false}"#, false),
    ("a.json", #"{"retry_join": ["bootstrap_expect"]}"#, false), ("a.hcl", "server = true\nbootstrap_expect=5\n", true),
    ("a.hcl", "  bootstrap = true\n", true), ("a.hcl", "bootstrap = false\n", false),
    ("a.hcl", "# bootstrap_expect = 3\n", false), ("a.hcl", "\"bootstrap_expect\" = 3\n", true),
    ("a.json", #"{"Bootstrap_Expect": 3}"#, true), ("b.hcl", "server = true, bootstrap_expect = 3", true),
    ("c.hcl", "server = true bootstrap_expect = 3", true), ("d.hcl", "bootstrap_expect = 0", false),
    ("e.hcl", "/* bootstrap_expect = 3 */", false), ("f.hcl", "bootstrap_expect = \"3\"", true),
    ("g.json", #"{"bootstrap_expect": 0, "bootstrap_expect": 3}"#, true), ("h.json", #"{"bootstrap": "true"}"#, true),
    ("i.json", #"{"bootstrap": "false"}"#, false), ("j.json", #"{"bootstrap_expect": 3.7}"#, true),
    ("k.hcl", "service { name = \"x\" tags = [\"bootstrap_expect = 3\"] }", false),
    ("l.hcl", "node_meta { bootstrap_expect = \"3\" }", false), ("m.txt", "bootstrap_expect = 3", false),
  ])
  func `another file sets bootstrap or bootstrap_expect`(_ name: String, _ text: String, _ sets: Bool) async throws {
    flow.context.files.put("/etc/consul.d/\(name)", text)
    let failures = try await observe(flow).otherFileFailures
    #expect(failures.map(\.message) == (sets ? ["/etc/consul.d/\(name) sets bootstrap or bootstrap_expect"] : []))
  }

  @Test func `the sidecar's environment contains no credentials`() async throws {
    let flow = Flow(environment: [
      "AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL_EC2": "https://vpce.example", "AWS_ACCESS_KEY_ID": "id",
      "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL": "https://user:password@proxy", "AWS_PROFILE": "",
      "AWS_CA_BUNDLE": "/a\n/b", "PATH": "/usr/bin",
    ])
    #expect(
      try await observe(flow).sidecarEnvironment
        == ["AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL_EC2": "https://vpce.example"])
  }

  @Test func `Docker's bridge is looked up only where DNS listens there`() async throws {
    var flow = flow
    flow.settings.dnsAddress = .dockerBridge
    flow.context.system.setAddress(ofInterface: "docker0", "172.17.0.1")
    #expect(try await observe(flow).dockerBridge == address("172.17.0.1"))
    flow.context.system.setAddress(ofInterface: "docker0", nil)
    #expect(try await observe(flow).dockerBridge == nil)
  }

  // MARK: The agent's user

  @Test func `without the default user the agent runs as root, with a warning`() async throws {
    flow.context.system.setOwner("consul", nil)
    #expect(try await observe(flow).agentOwner == nil)
    #expect(
      flow.lines
        == [
          "warning there is no user consul: the agent runs as root "
            + #"hint="create the user, or set another with --user""#
        ])
  }

  @Test func `a user that --user names must exist`() async {
    var flow = flow
    flow.settings.user = "agent"
    flow.context.system.setOwner("agent", nil)
    let failed = await failure { [flow] in _ = try await observe(flow) }
    #expect(failed == Failure(.usage, "there is no user agent", hint: "create the user, or correct --user"))
  }

  @Test func `only root can run the agent as another user`() async throws {
    flow.context.system.setRoot(false)
    #expect(try await observe(flow).agentOwner == nil && flow.log.all.isEmpty)
  }

  // MARK: A running agent

  @Test(arguments: ["127.0.0.1", "10.0.1.10"])
  func `an agent answers at loopback or at the private address`(_ ip: String) async throws {
    flow.agent(ip)
    #expect(try await observe(flow).agentIsRunning)
  }

  @Test func `an agent that cannot answer yet is running`() async throws {
    flow.context.transport.answer("http://127.0.0.1:8500/", status: 500, "No cluster leader")
    #expect(try await observe(flow).agentIsRunning)
  }

  /// Guards against a second agent beside one that hangs: no answer is not the answer no.
  @Test func `an agent that accepts the query but does not answer is running`() async throws {
    flow.context.transport.answer("http://127.0.0.1:8500/", "", after: .seconds(60))
    #expect(try await observe(flow).agentIsRunning)
    #expect(flow.elapsed == .seconds(1))
  }

  @Test func `another program at that port is not an agent`() async throws {
    flow.context.transport.answer("http://127.0.0.1:8500/", "<html>")
    flow.context.transport.silence("http://10.0.1.10:8500/")
    #expect(try await !observe(flow).agentIsRunning)
  }

  /// Guards against a second agent: a process that is out of descriptors does not know.
  @Test func `an agent that cannot be asked stops the run`() async throws {
    flow.context.transport.fail("http://127.0.0.1:8500/", .other("cannot create a pipe: Too many open files"))
    await #expect(
      throws: Failure(
        .agentNotStarted, "cannot check whether an agent is running at 127.0.0.1",
        details: ["cannot create a pipe: Too many open files"],
        hint: "raise the limits of this process (ulimit -n, ulimit -u)")
    ) { try await observe(flow) }
  }

  @Test func `the port is that of the overlays`() async throws {
    var flow = flow
    flow.settings.overlays = [.init(origin: "--set ports.http", value: ["ports": ["http": 18500]])]
    flow.context.transport.fail("http://127.0.0.1:18500/", .refused)
    flow.context.transport.answer("http://10.0.1.10:18500/", status: 500)
    #expect(try await observe(flow).agentIsRunning)
  }

  /// Guards against a second agent: ours was looked for at its default port only.
  @Test func `the port is that of another file, too`() async throws {
    flow.context.files.put("/etc/consul.d/z.hcl", "ports { http = 8501 }")
    flow.context.transport.fail("http://127.0.0.1:8501/", .refused)
    flow.context.transport.answer("http://10.0.1.10:8501/", status: 500)
    #expect(try await observe(flow).agentIsRunning)
  }

  @Test func `a cancelled observation ends`() async throws {
    let gate = flow.context.transport.hold("http://127.0.0.1:8500/")
    let flow = flow
    let task = Task { try await observe(flow) }
    try await gate.arrivals()
    task.cancel()
    await #expect(throws: CancellationError.self) { _ = try await task.value }
  }
}

/// How this machine resolves names.
@Suite(.timeLimit(.minutes(5))) struct ResolverObservationTests {
  private var flow = Flow()

  init() {
    flow.settings.dns = .systemdResolved
    flow.context.launcher.run(
      "/bin/systemctl", ["--version"], output: "systemd 252 (252.39-1~deb12u1)\n+PAM +AUDIT\n")
  }

  private func observe(_ flow: Flow) async throws -> MachineObservation {
    try await flow.machineObserver.observe(Flow.binary, identity: flow.identity)
  }

  @Test func `name servers, version and managed link are known`() async throws {
    flow.context.files.put("/run/systemd/resolve/stub-resolv.conf", "nameserver 127.0.0.53\noptions edns0\n")
    flow.context.files.link("/etc/resolv.conf", to: "/run/systemd/resolve/stub-resolv.conf")
    flow.context.files.put("/run/systemd/resolve/resolv.conf", "nameserver 10.0.0.2\nnameserver\t10.0.0.3\n")
    flow.context.files.put("/usr/sbin/dnsmasq", "", mode: 0o755)
    let machine = try await observe(flow)
    #expect(machine.nameServers == [address("10.0.0.2"), address("10.0.0.3")])
    #expect(machine.systemdVersion == 252 && machine.hasDnsmasq && machine.resolverConfigurationIsManaged)
    #expect(machine.resolverConfiguration == .text("nameserver 127.0.0.53\noptions edns0\n"))
  }

  @Test func `a stub without upstream servers stays`() async throws {
    flow.context.files.put("/etc/resolv.conf", "nameserver 127.0.0.53\n")
    #expect(try await observe(flow).nameServers == [address("127.0.0.53")])
  }

  @Test func `servers that are not loopback are those that the machine queries`() async throws {
    flow.context.files.put("/etc/resolv.conf", "# nameserver 10.0.0.9\nnameserver 10.0.0.2\nnameserver fd00::2\n")
    flow.context.files.put("/run/systemd/resolve/resolv.conf", "nameserver 10.0.0.3\n")
    #expect(try await observe(flow).nameServers == [address("10.0.0.2")])
  }

  /// Guards against "systemd is not the init system" on a machine that systemd has booted.
  @Test func `a version that cannot be determined is logged`() async throws {
    flow.context.launcher.fail("/bin/systemctl", ["--version"])
    #expect(try await observe(flow).systemdVersion == nil)
    flow.context.launcher.run("/bin/systemctl", ["--version"], end: .exited(1), output: "Failed to connect\n")
    #expect(try await observe(flow).systemdVersion == nil)
    let message = "warning cannot determine the version of systemd reason="
    #expect(
      flow.lines == [
        message + #""execute /bin/systemctl: No such file or directory""#,
        message + #""`/bin/systemctl --version`: exit status 1: Failed to connect""#,
      ])
  }

  @Test func `without systemd its version is not queried`() async throws {
    flow.context.system.setBootedBySystemd(false)
    #expect(try await observe(flow).systemdVersion == nil)
    #expect(flow.context.launcher.launches.isEmpty)
  }

  @Test func `the doctor's name servers are the same, and an unreadable file is an error`() throws {
    flow.context.files.put("/etc/resolv.conf", "nameserver 10.0.0.2\n")
    #expect(try flow.machineObserver.nameServers() == [address("10.0.0.2")])
    flow.context.files.fail(.read, "/etc/resolv.conf", errno: 5)
    let failed = #expect(throws: Failure.self) { try flow.machineObserver.nameServers() }
    #expect(failed?.message == "cannot read /etc/resolv.conf")
  }
}

/// The machine's log file.
@Suite(.timeLimit(.minutes(5))) struct SyslogFileTests {
  private let files = TestContext().files

  @Test func `Debian's file comes before Red Hat's`() {
    #expect(SyslogFile.path(files) == nil)
    files.put("/var/log/messages", "")
    #expect(SyslogFile.path(files) == "/var/log/messages")
    files.put("/var/log/syslog", "")
    #expect(SyslogFile.path(files) == "/var/log/syslog")
  }

  @Test func `a path that cannot be examined, or is no file, is not forwarded`() {
    files.makeDirectory("/var/log/syslog")
    files.put("/var/log/messages", "")
    #expect(SyslogFile.path(files) == "/var/log/messages")
    files.fail(.status, "/var/log/messages", errno: 13)
    #expect(SyslogFile.path(files) == nil)
  }
}
