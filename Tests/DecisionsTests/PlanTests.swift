import Consul
import Testing

@testable import Base
@testable import Artifacts
@testable import Decisions
@testable import Model

@Suite struct AgentConfigurationTests {
  private func configuration(
    _ change: (inout Settings) -> Void = { _ in }, version: ConsulVersion = ConsulVersion(1, 8, 7)
  ) throws -> String {
    var settings = Settings()
    change(&settings)
    return try Plan(observation(machine(version: version)), settings).configuration.text.value
  }

  @Test func `the defaults, byte for byte`() throws {
    #expect(
      try configuration() == """
        {
          "autopilot": {
            "server_stabilization_time": "1s"
          },
          "bind_addr": "10.0.1.10",
          "bootstrap_expect": 3,
          "client_addr": "127.0.0.1",
          "data_dir": "/opt/consul",
          "datacenter": "dc1",
          "leave_on_terminate": false,
          "log_level": "INFO",
          "node_meta": {
            "availability_zone": "eu-west-1a",
            "instance_id": "i-2"
          },
          "node_name": "i-2",
          "performance": {
            "raft_multiplier": 1
          },
          "retry_interval": "1s",
          "retry_join": [
            "10.0.1.9",
            "10.0.2.100"
          ],
          "server": true
        }

        """)
  }

  @Test func `the key of the web interface is the installed version's`() throws {
    let old = try configuration { $0.ui = true }
    #expect(old.contains(#""ui": true"#) && !old.contains("ui_config"))
    let new = try configuration({ $0.ui = true }, version: ConsulVersion(1, 9))
    #expect(new.contains("ui_config") && !new.contains(#""ui": true"#))
  }

  @Test func `overlays merge objects, replace the rest and remove with null, the last one wins`() throws {
    let text = try configuration { settings in
      settings.overlays = [
        .init(
          origin: "a", value: ["performance": ["rpc_hold_timeout": "5s"], "log_level": "DEBUG", "retry_join": ["x"]]),
        .init(origin: "b", value: ["log_level": .null, "performance": ["raft_multiplier": 3]]),
      ]
    }
    let value = try JSONValue(parsing: text)
    #expect(value["performance"] == ["raft_multiplier": 3, "rpc_hold_timeout": "5s"])
    #expect(value["log_level"] == nil)
    #expect(value["retry_join"] == ["x"])
  }

  @Test func `every tuned value can be changed`() throws {
    let value = try JSONValue(
      parsing: configuration { settings in
        settings.raftMultiplier = 5
        settings.retryInterval = .milliseconds(1500)
        settings.serverStabilizationTime = .seconds(90)
        settings.leaveOnTerminate = false
        settings.clientAddress = .addresses("0.0.0.0")
        settings.nodeName = NameTemplate("c-{az}-{instance_suffix}-{private_ip}")!
      })
    #expect(value["performance"]?["raft_multiplier"] == 5)
    #expect(value["retry_interval"] == "1500ms")
    #expect(value["autopilot"]?["server_stabilization_time"] == "90s")
    #expect(value["leave_on_terminate"] == false)
    #expect(value["client_addr"] == "0.0.0.0")
    #expect(value["node_name"] == "c-eu-west-1a-2-10-0-1-10")
  }
}

@Suite struct PlanTests {
  private func plan(_ observation: Observation, _ change: (inout Settings) -> Void = { _ in }) throws -> Plan {
    var settings = Settings()
    change(&settings)
    return try Plan(observation, settings)
  }

  @Test func `the steps of a first boot under systemd, in order`() throws {
    let plan = try plan(observation(machine(systemd: true))) {
      $0.hostName = NameTemplate("consul-{instance_suffix}")
      $0.lifecycleHook = "boot"
    }
    #expect(
      plan.steps.all.map(\.title) == [
        "create directory /opt/consul (mode 750, owner consul)", "create directory /etc/consul.d (mode 755)",
        "record the instance ID in /var/lib/consul-bootstrap/instance.json", "set the host name to consul-2",
        "write /etc/consul.d/00-consul-bootstrap.json (mode 640, owner consul) once Consul has validated it",
        "write /etc/systemd/system/consul.service",
        "/bin/systemctl daemon-reload", "/bin/systemctl enable consul.service", "/bin/systemctl start consul.service",
        "verify: the agent answers, it knows a leader, this server is a voter, at least 3 servers are in raft",
        "write /var/lib/consul-bootstrap/options.json and /etc/systemd/system/consul-bootstrap.service, "
          + "and start consul-bootstrap.service",
        "complete lifecycle hook boot: CONTINUE once healthy, ABANDON after a failure",
      ])
  }

  @Test func `the unit restarts a crash, not a leave, has no start limit and cuts no leave off`() throws {
    let plan = try plan(observation(machine(systemd: true)))
    guard
      case .writeUnit(_, let text)? = plan.steps.all.first(where: { if case .writeUnit = $0 { true } else { false } })
    else {
      return #expect(Bool(false))
    }
    for line in [
      "Type=exec", "User=consul", "Restart=on-failure", "RestartSec=2", "StartLimitIntervalSec=0", "TimeoutStopSec=60",
      "KillSignal=SIGTERM",
      "ExecStop=-+/usr/local/bin/consul-bootstrap leave --stopping", "SuccessExitStatus=1",
      "RestartForceExitStatus=1",
    ] { #expect(text.split(separator: "\n").contains(Substring(line))) }
  }

  @Test func `our file keeps its place among the others when Consul validates it`() throws {
    let link = OtherConfigurationFile(
      path: "/etc/consul.d/z", target: "/usr/share/z.hcl", .document(SecretDocument(.object([:]))))
    let others = [otherFile("00-a.json", ""), link, otherFile("zz.hcl", "")]
    let plan = try plan(observation(machine(others: others)))
    #expect(
      plan.steps.all.compactMap(\.command).first?.text
        == "/usr/bin/consul validate -quiet /etc/consul.d/00-a.json "
        + "/var/lib/consul-bootstrap/staged.json /usr/share/z.hcl /etc/consul.d/zz.hcl"
    )
  }

  @Test func `a running agent is reloaded when more than its joining changed, never restarted`() throws {
    let before = try plan(observation()).configuration.text
    let running = {
      machine(recorded: "i-2", running: true, systemd: true, configuration: CurrentConfiguration(.present(before)))
    }
    var seen = observation(running())
    seen.machine.dataDirectory.content = .init(snapshotNamesThisAddress: true)
    seen.machine.dataDirectory.raftState = .present(evidence: "raft.db")
    let same = try plan(seen)
    #expect(!same.steps.all.contains { if case .reloadAgent = $0 { true } else { false } })
    let changed = try plan(seen) {
      $0.datacenter = "dc2"; $0.consulLogLevel = "debug"
    }
    #expect(
      changed.steps.all.contains { if case .reloadAgent(_, let keys) = $0 { keys == ["datacenter"] } else { false } })
  }

  /// Only a start reads the number, and a running agent without raft state waits for the one that it has.
  @Test func `an agent that waits for another number of servers is restarted, unless it has raft state`() throws {
    func restarts(_ present: String, _ raft: RaftState = .none, running: Bool = true) throws -> Bool {
      let data = DataDirectoryObservation(
        content: .init(snapshotNamesThisAddress: nil), raftState: raft, isMount: false)
      let seen = machine(
        data: data, recorded: "i-2", running: running, systemd: true,
        configuration: CurrentConfiguration(.present(Secret(present))))
      return try plan(observation(seen)).steps.start.contains(.restartEmptyAgent(.systemd))
    }
    #expect(try restarts(#"{"bootstrap_expect": 5}"#))
    #expect(try restarts("{}"))
    #expect(try !restarts(#"{"bootstrap_expect": 3}"#))
    #expect(try !restarts(#"{"bootstrap_expect": 5}"#, running: false))
    #expect(try !restarts(#"{"bootstrap_expect": 5}"#, .present(evidence: "raft.db")))
    #expect(try !restarts(#"{"bootstrap_expect": 5}"#, .unknown(reason: "input/output error")))
  }

  @Test func `an agent that runs on foreign data is stopped first, or refused where systemd does not run it`() throws {
    let data = DataDirectoryObservation(content: .init(snapshotNamesThisAddress: nil), raftState: .none, isMount: false)
    let plan = try plan(observation(machine(data: data, recorded: "i-old", running: true, systemd: true)))
    #expect(
      plan.steps.all.prefix(2).map(\.title) == [
        "stop the agent, whose data is renamed",
        "rename /opt/consul to /opt/consul.i-old.20260102T030405Z (created by instance i-old)",
      ])
    #expect(
      try self.plan(observation(machine(data: data, recorded: "i-old", running: true))).obstacle?.status
        == .agentNotStarted)
  }

  @Test(arguments: [
    (#"{"client_addr": "0.0.0.0"}"#, "127.0.0.1:8500", "10.0.1.10:8300"),
    (#"{"client_addr": "10.0.1.10"}"#, "10.0.1.10:8500", "10.0.1.10:8300"),
    (#"{"client_addr": "{{ GetPrivateIP }}"}"#, "10.0.1.10:8500", "10.0.1.10:8300"),
    (#"{"ports": {"http": 18500, "server": 18300}}"#, "127.0.0.1:18500", "10.0.1.10:18300"),
    (#"{"bind_addr": "0.0.0.0"}"#, "127.0.0.1:8500", "10.0.1.10:8300"),
    (#"{"advertise_addr": "192.0.2.7"}"#, "127.0.0.1:8500", "192.0.2.7:8300"),
  ])
  func `verification queries the address of the overlaid configuration`(
    _ overlay: String, _ agent: String, _ raft: String
  )
    throws
  {
    let value = try JSONValue(parsing: overlay)
    let plan = try plan(observation()) { $0.overlays = [.init(origin: "--set", value: value)] }
    let goals = plan.steps.all.compactMap { if case .verify(let goal) = $0 { goal } else { nil } }
    #expect(goals.map(\.agentAddress) == [agent])
    #expect(goals.map(\.raftAddress) == [raft])
  }

  @Test func `verification of a joining server does not wait for members that do not exist`() throws {
    let members = [three[0], three[1]]
    let seen = observation(
      members: members, desired: 5, peers: ["10.0.1.9": status("10.0.1.9:8300", ["10.0.1.9:8300"])])
    let goals = try plan(seen).steps.all.compactMap { if case .verify(let goal) = $0 { goal.servers } else { nil } }
    #expect(goals == [2])
  }

  @Test func `without AWS a reboot keeps the peers that the file names`() throws {
    var seen = observation(
      machine(
        data: .init(
          content: .init(snapshotNamesThisAddress: true), raftState: .present(evidence: "raft.db"), isMount: false),
        recorded: "i-2",
        configuration: CurrentConfiguration(.present(Secret(#"{"retry_join": ["10.0.1.9", "provider=aws"]}"#)))))
    seen.group = nil
    #expect(try plan(seen).peers.map(\.description) == ["10.0.1.9"])
  }

  @Test func `a baked bootstrap_expect is refused`() throws {
    let seen = observation(machine(others: [otherFile("x.hcl", "bootstrap_expect = 3")]))
    #expect(try plan(seen).obstacle?.status == .configurationRejected)
  }

  @Test func `an even number of servers is warned about`() throws {
    let members = three + [instance("i-4", "10.0.1.4")]
    #expect(try plan(observation(members: members, desired: 4)).warnings.contains { $0.contains("use an odd number") })
  }
}

@Suite struct SmallThingsTests {
  @Test func `addresses sort as numbers and parse strictly`() {
    #expect(
      ["10.0.1.10", "10.0.1.9", "9.255.255.255"].map(address).sorted().map(\.description) == [
        "9.255.255.255", "10.0.1.9", "10.0.1.10",
      ])
    for text in ["", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.-4", "1.2.3.4 ", "a.b.c.d", "1..2.3"] {
      #expect(IPv4Address(text) == nil)
    }
  }

  @Test func `templates refuse unknown fields`() {
    #expect(NameTemplate("consul-{instance_suffix}")?.expanded(for: me) == "consul-2")
    for text in ["{id}", "a{", "a}", "{}"] { #expect(NameTemplate(text) == nil) }
  }

  @Test func `secrets are redacted wherever they stand`() {
    let value: JSONValue = [
      "encrypt": "k", "acl": ["tokens": ["agent": "t"], "enable_token_persistence": true], "node_name": "n",
      "retry_join": ["provider=aws secret_access_key=s region=x"],
      "connect": ["ca_config": ["token": "v", "address": "a", "private_key": "PEM"]],
    ]
    let text = Redaction.redacted(value).compactText
    #expect(
      text
        == #"{"acl":{"enable_token_persistence":true,"tokens":{"agent":"(redacted)"}},"#
        + #""connect":{"ca_config":{"address":"a","private_key":"(redacted)","token":"(redacted)"}},"#
        + #""encrypt":"(redacted)","node_name":"n","#
        + #""retry_join":["provider=aws secret_access_key=(redacted) region=x"]}"#
    )
  }

  @Test func `JSON is read and written without loss, keys sorted`() throws {
    let text = #"{"a":[1,2.5,true,null,"ü\n\u0001"],"b":{},"c":[],"d":-9007199254740993}"#
    #expect(try JSONValue(parsing: text).compactText == text)
    #expect(throws: JSONSyntaxError.self) { try JSONValue(parsing: "{") }
    #expect(throws: JSONSyntaxError.self) { try JSONValue(parsing: String(repeating: "[", count: 100_000)) }
  }
}
