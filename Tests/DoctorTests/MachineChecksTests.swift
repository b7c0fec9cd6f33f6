import AWS
import Base
import Model
import TestSupport
import Testing

@testable import Doctor

@Suite(.timeLimit(.minutes(5))) struct MachineChecksTests {
  private var doctor = DoctorFixture()
  private var context: TestContext { doctor.context }

  private static let systemctl = "/bin/systemctl"

  // MARK: Consul and user

  @Test func `a Consul binary that cannot be run is named`() async throws {
    var doctor = doctor
    doctor.settings.consulPath = "/opt/consul/bin/consul"
    #expect(
      try await doctor.findings("consul") == [
        "problem consul: there is no Consul at /opt/consul/bin/consul; "
          + "hint: install Consul, or correct --consul (CONSUL_BOOTSTRAP_CONSUL)"
      ])
    context.launcher.fail(DoctorFixture.consul, ["version"], reason: "Exec format error")
    #expect(
      try await self.doctor.findings("consul") == [
        "problem consul: cannot run /usr/local/bin/consul; execute /usr/local/bin/consul: Exec format error; "
          + "hint: check that it is a program for this machine, or set another with --consul"
      ])
  }

  @Test func `a doctor that is not root says so`() async throws {
    context.system.setRoot(false)
    #expect(
      try await doctor.findings("user") == [
        "problem user: the doctor does not run as root; a run needs root; hint: sudo consul-bootstrap doctor"
      ])
  }

  @Test func `a missing user of the agent is a note`() async throws {
    context.system.setOwner("consul", nil)
    #expect(
      try await doctor.findings("user") == [
        "note user: there is no user consul: the agent would run as root; "
          + "hint: create it with consul-bootstrap install"
      ])
  }

  // MARK: Disk and data

  @Test func `little space is a note, too little a problem`() async throws {
    context.system.setFreeSpace("/opt", bytes: (1 << 30) - 1)
    context.system.setFreeSpace("/var", bytes: (256 << 20) - 1)
    #expect(
      try await doctor.findings("disk") == [
        "note disk: 1023 MiB are free for /opt/consul",
        "problem disk: 255 MiB are free for /var/lib/consul-bootstrap; "
          + "hint: free at least 256 MiB: raft's log and snapshots need them",
      ])
    context.system.setFreeSpace("/opt", bytes: 1 << 30)
    context.system.setFreeSpace("/var", bytes: 256 << 20)
    #expect(
      try await doctor.findings("disk") == [
        "ok disk: 1024 MiB are free for /opt/consul", "note disk: 256 MiB are free for /var/lib/consul-bootstrap",
      ])
  }

  @Test func `a read-only file system and one that cannot be asked are problems`() async throws {
    context.system.setFreeSpace("/opt", bytes: 1 << 40, isReadOnly: true)
    context.system.failFreeSpace("/var", errno: 5)
    #expect(
      try await doctor.findings("disk") == [
        "problem disk: the file system of /opt/consul is read-only; hint: remount it, or choose another directory",
        "problem disk: check the file system of /var/lib: Input/output error",
      ])
  }

  /// The space of another file system was reported for a directory whose status could not be read.
  @Test func `a directory whose status cannot be read is a problem`() async throws {
    context.files.fail(.status, "/opt/consul", errno: 5)
    #expect(
      try await doctor.findings("disk") == [
        "problem disk: check /opt/consul: Input/output error",
        "ok disk: 51200 MiB are free for /var/lib/consul-bootstrap",
      ])
  }

  @Test func `data of this instance is kept, data of another is renamed by a run`() async throws {
    context.files.put("/opt/consul/node-id", "11111111-2222-3333-4444-555555555555")
    context.files.put("/var/lib/consul-bootstrap/instance.json", #"{"instance_id": "i-0aaa"}"#)
    #expect(try await doctor.findings("data") == ["ok data: /opt/consul: created by this instance"])
    context.files.put("/var/lib/consul-bootstrap/instance.json", #"{"instance_id": "i-baked"}"#)
    #expect(
      try await doctor.findings("data") == [
        "note data: baked state: /opt/consul was created by instance i-baked; a run renames it to "
          + "/opt/consul.i-baked.20260101T000000Z; "
          + "hint: remove it from the image; otherwise its instances share one node ID"
      ])
  }

  /// An unreadable file stops a run: a doctor that reported an empty data directory was of no help.
  @Test func `every file that cannot be read is a problem`() async throws {
    context.files.put("/etc/consul.d/50-team.json", "{}")
    context.files.put("/var/lib/consul-bootstrap/instance.json", "{}")
    context.files.makeDirectory("/opt/consul")
    context.files.fail(.read, "/etc/consul.d/50-team.json", errno: 13)
    context.files.fail(.list, "/opt/consul", errno: 5)
    let repair = "its file system; an unreadable file does not count as absent"
    #expect(
      try await doctor.findings("files") == [
        "problem files: cannot read /etc/consul.d/50-team.json; read /etc/consul.d/50-team.json: Permission denied; "
          + "hint: run as root",
        "problem files: cannot read /opt/consul; list /opt/consul: Input/output error; "
          + "hint: repair /opt/consul or \(repair)",
        "problem files: cannot read /var/lib/consul-bootstrap/instance.json; "
          + "/var/lib/consul-bootstrap/instance.json has no text member instance_id; "
          + "hint: repair /var/lib/consul-bootstrap/instance.json or \(repair)",
      ])
    #expect(try await doctor.findings("data") == [])
    // The plan does not repeat the first of them.
    #expect(try await doctor.run().filter { $0.severity == .problem }.allSatisfy { $0.subject == "files" })
  }

  /// It was counted as two problems: the plan repeated the first of the files.
  @Test(arguments: [true, false])
  func `each baked bootstrap_expect is one problem, with and without AWS`(_ hasAWS: Bool) async throws {
    context.files.put("/etc/consul.d/yy.json", #"{"bootstrap": true}"#)
    context.files.put("/etc/consul.d/zz.json", #"{"bootstrap_expect": 3}"#)
    if !hasAWS { context.transport.fail("https://", .nameNotFound) }
    let problems = try await doctor.run().filter {
      $0.severity == .problem && !$0.subject.hasPrefix("endpoint ")
    }
    #expect(
      lines(problems)
        == ["yy", "zz"].map { name in
          "problem configuration: /etc/consul.d/\(name).json sets bootstrap or bootstrap_expect; a server with a fixed "
            + "value can form a second cluster; hint: remove the key from /etc/consul.d/\(name).json; "
            + "consul-bootstrap writes bootstrap_expect at a boot where it is safe"
        })
  }

  // MARK: Ports and names

  @Test func `each port in use is a problem`() async throws {
    context.ports.setListenError(port: 8300, .tcp, "Address already in use")
    context.ports.setListenError(port: 8600, .udp, "Address already in use")
    #expect(
      try await doctor.findings("ports") == [
        "problem ports: port 8300 tcp on 10.0.1.10 is not available: address already in use; "
          + "hint: find the process that uses it: ss -lnpt 'sport = :8300'",
        "problem ports: port 8600 udp on 127.0.0.1 is not available: address already in use; "
          + "hint: find the process that uses it: ss -lnpu 'sport = :8600'",
      ])
  }

  @Test func `the HTTP API's port matters where it is opened`() async throws {
    context.ports.setListenError(IPv4Address("10.0.1.10")!, port: 8500, .tcp, "Address already in use")
    #expect(try await doctor.findings("ports") == ["ok ports: the agent's ports are free"])
    var doctor = doctor
    doctor.settings.clientAddress = .private
    #expect(try await doctor.findings("ports").first?.contains("port 8500 tcp on 10.0.1.10") == true)
  }

  @Test func `a client needs no port of a server, and none that an overlay switches off`() async throws {
    var doctor = doctor
    doctor.settings.role = .client
    doctor.settings.membership = .groups(["web"])
    doctor.settings.overlays = [.init(origin: "--set", value: ["ports": ["dns": -1]])]
    for port in [8300, 8302, 8600, -1] as [Int64] { context.ports.setListenError(port: port, .tcp, "Address in use") }
    #expect(try await doctor.findings("ports") == ["ok ports: the agent's ports are free"])
  }

  @Test func `an agent that runs has its ports`() async throws {
    FakeConsulAgent(context).setCluster([("a", "10.0.1.10")])
    context.ports.setListenError(port: 8300, .tcp, "Address already in use")
    #expect(try await doctor.findings("ports") == ["ok ports: an agent is running here"])
  }

  @Test func `an agent that does not use its configuration is a problem`() async throws {
    context.files.put("/etc/consul.d/00-consul-bootstrap.json", #"{"data_dir": "/data", "datacenter": "dc1"}"#)
    let agent = FakeConsulAgent(context) { state in
      state.agentSelf = ["Config": ["Datacenter": "dc1"], "DebugConfig": ["DataDir": "/opt/consul"]]
    }
    agent.setCluster([("a", "10.0.1.10")])
    #expect(
      try await doctor.findings().contains(
        "problem agent: the agent does not use its configuration: data_dir is /opt/consul, not /data; "
          + "hint: restart the agent, and check the options of its command line"))
  }

  @Test func `ports that another file sets are those that are checked`() async throws {
    context.files.put("/etc/consul.d/z.hcl", "ports { server = 9300, http = -1 }")
    context.ports.setListenError(port: 9300, .tcp, "Address already in use")
    context.ports.setListenError(port: 8500, .tcp, "Address already in use")
    #expect(
      try await doctor.findings("ports") == [
        "problem ports: port 9300 tcp on 10.0.1.10 is not available: address already in use; "
          + "hint: find the process that uses it: ss -lnpt 'sport = :9300'"
      ])
  }

  @Test func `each name server is queried`() async throws {
    context.files.put("/etc/resolv.conf", "nameserver 10.0.0.2\nnameserver 10.0.0.3\n")
    context.resolver.silence(server: "10.0.0.3")
    #expect(
      try await doctor.findings("dns") == [
        "ok dns: 10.0.0.2 answers",
        "problem dns: name server 10.0.0.3 does not resolve ec2.eu-west-1.amazonaws.com: no answer in time; "
          + "hint: check /etc/resolv.conf; the VPC's resolver is 169.254.169.253 and requires enableDnsSupport",
      ])
    #expect(context.clock.uptime() == .seconds(2))
  }

  @Test func `without a name server, and with an unreadable list of them, that is reported`() async throws {
    context.files.put("/etc/resolv.conf", "search example.com\n")
    #expect(try await doctor.findings("dns") == ["note dns: /etc/resolv.conf lists no IPv4 name server"])
    context.files.fail(.read, "/etc/resolv.conf", errno: 13)
    #expect(
      try await doctor.findings("dns") == [
        "problem dns: cannot read /etc/resolv.conf; read /etc/resolv.conf: Permission denied; hint: run as root"
      ])
  }

  // MARK: Units

  private func units(_ output: String, _ settings: (inout Settings) -> Void = { _ in }) async throws -> [String] {
    var doctor = doctor
    settings(&doctor.settings)
    context.launcher.run(Self.systemctl, ["show"], output: output)
    return try await doctor.findings("unit")
  }

  @Test func `a masked and a failed unit are problems, a running one is not`() async throws {
    #expect(
      try await units("ActiveState=inactive\nLoadState=masked\nResult=success\n") == [
        "problem unit: consul.service is masked; hint: systemctl unmask consul.service",
        "problem unit: consul-bootstrap.service is masked; hint: systemctl unmask consul-bootstrap.service",
      ])
    #expect(
      try await units("ActiveState=failed\nLoadState=loaded\nResult=exit-code\n").first
        == "problem unit: consul.service has failed (exit-code); hint: see journalctl -u consul.service")
    for state in ["active", "activating", "deactivating", "reloading"] {
      #expect(
        try await units("ActiveState=\(state)\nLoadState=loaded\nResult=success\n").first
          == "ok unit: consul.service is \(state)")
    }
  }

  /// A systemctl that fails was taken for units that are not started yet.
  @Test func `units that cannot be checked are problems`() async throws {
    context.launcher.run(
      Self.systemctl, ["show"], end: .exited(1), output: "Failed to connect to bus: No such file or directory\n")
    let command = "/bin/systemctl show --property=ActiveState,SubState,LoadState,Result"
    let hint = "; hint: check that systemd and D-Bus are running: systemctl is-system-running"
    let units = ["consul.service", "consul-bootstrap.service"]
    #expect(
      try await doctor.findings("unit")
        == units.map { unit in
          "problem unit: cannot check \(unit): `\(command) \(unit)`: exit status 1: "
            + "Failed to connect to bus: No such file or directory" + hint
        })
    context.launcher.fail(Self.systemctl, ["show"])
    #expect(
      try await doctor.findings("unit")
        == units.map { "problem unit: cannot check \($0): execute /bin/systemctl: No such file or directory" + hint })
  }

  @Test func `another program's unit is a note`() async throws {
    context.files.put("/etc/systemd/system/consul.service", "[Unit]\n")
    #expect(
      try await doctor.findings("unit").first
        == "note unit: another program wrote /etc/systemd/system/consul.service; a run renames it")
  }

  @Test func `without systemd only --start systemd is a problem`() async throws {
    context.system.setBootedBySystemd(false)
    #expect(try await doctor.findings("unit") == [])
    #expect(
      try await units("") { $0.start = .systemd } == [
        "problem unit: systemd is not the init system here; hint: omit --start systemd"
      ])
  }

  @Test func `an agent in a container has no unit of its own`() async throws {
    var doctor = doctor
    doctor.settings.start = .docker
    doctor.settings.image = "consul:1.20"
    context.files.put("/usr/bin/docker", "binary", mode: 0o755)
    context.launcher.run("/usr/bin/docker", ["run"], output: "Consul v1.20.1\n")
    #expect(
      try await doctor.findings("unit") == ["ok unit: consul-bootstrap.service is not started yet; a run starts it"])
    #expect(try await doctor.findings("consul") == ["ok consul: version 1.20.1, image consul:1.20"])
    #expect(
      try await doctor.findings("configuration") == [
        "ok configuration: Consul accepts the configuration that a run would write"
      ])
  }

  // MARK: The configuration

  @Test func `a configuration that Consul rejects is a problem with Consul's words`() async throws {
    context.launcher.run(
      DoctorFixture.consul, ["validate"], end: .exited(1), output: "Config validation failed\nbogus: unknown key\n")
    #expect(
      try await doctor.findings("configuration") == [
        "problem configuration: Consul rejects the configuration that a run would write: Config validation failed; "
          + "bogus: unknown key; "
          + "hint: check --set, --merge and the other files beside /etc/consul.d/00-consul-bootstrap.json"
      ])
    #expect(!context.files.exists("/var/lib/consul-bootstrap/doctor.json"))
  }

  /// The staged file may hold the gossip key: that it stays was silent.
  @Test func `a staged file that cannot be removed is a note`() async throws {
    let path = "/var/lib/consul-bootstrap/doctor.json"
    context.files.fail(.removeFile, path, errno: 5)
    #expect(
      try await doctor.findings("configuration") == [
        "ok configuration: Consul accepts the configuration that a run would write",
        "note configuration: cannot remove the staged configuration: remove \(path): Input/output error; "
          + "hint: rm \(path)",
      ])
  }

  @Test func `a configuration that cannot be staged is a problem`() async throws {
    context.files.fail(.write, "/var/lib/consul-bootstrap/doctor.json", errno: 28)
    #expect(
      try await doctor.findings("plan").last
        == "problem plan: write /var/lib/consul-bootstrap/doctor.json: No space left on device")
  }

  @Test func `what stops another run beside a supervised agent is a note`() async throws {
    var doctor = doctor
    doctor.settings.start = .supervise
    FakeConsulAgent(context).setCluster([("a", "10.0.1.10")])
    #expect(
      try await doctor.findings("plan").first
        == "note plan: another run would stop: a Consul agent that this program does not supervise is "
        + "already running on this machine; hint: stop that agent, or write only its configuration with --start none")
  }
}
