import Base
import Consul
import Testing

@testable import Artifacts
@testable import Decisions
@testable import Model

/// What stops a run before its first step.
@Suite struct ObstacleTests {
  private func obstacle(_ machine: MachineObservation, _ change: (inout Settings) -> Void = { _ in }) throws -> Failure?
  {
    var settings = Settings()
    change(&settings)
    return try Plan(observation(machine), settings).obstacle
  }

  @Test(arguments: [
    (true, "run as root"), (false, "repair /x or its file system; an unreadable file does not count as absent"),
  ])
  func `an unreadable file`(_ isDenied: Bool, _ hint: String) {
    #expect(
      UnreadableFile(path: "/x", reason: "read /x: why", isPermissionDenied: isDenied).failure
        == Failure(.configurationRejected, "cannot read /x", details: ["read /x: why"], hint: hint))
  }

  @Test func `an unreadable file comes before everything else`() throws {
    var machine = machine(running: true, others: [otherFile("x.hcl", "bootstrap_expect = 3")])
    machine.unreadable = [
      UnreadableFile(path: "/a", reason: "first", isPermissionDenied: false),
      UnreadableFile(path: "/b", reason: "second", isPermissionDenied: false),
    ]
    #expect(try obstacle(machine)?.details == ["first"])
    machine.unreadable = []
    #expect(
      try obstacle(machine)
        == Failure(
          .configurationRejected, "/etc/consul.d/x.hcl sets bootstrap or bootstrap_expect",
          details: ["a server with a fixed value can form a second cluster"],
          hint: "remove the key from /etc/consul.d/x.hcl; "
            + "consul-bootstrap writes bootstrap_expect at a boot where it is safe"))
  }

  /// Its servers waited for different numbers, and the run for a leader that never came.
  @Test func `an agent that waits for another number of servers, and that this run cannot restart`() throws {
    func seen(_ expect: String, _ raft: RaftState = .none, running: Bool = true) -> MachineObservation {
      let data = DataDirectoryObservation(
        content: .init(snapshotNamesThisAddress: nil), raftState: raft, isMount: false)
      var machine = machine(
        data: data, recorded: "i-2", running: running,
        configuration: CurrentConfiguration(.present(Secret(#"{"bootstrap_expect": \#(expect)}"#))))
      machine.supervisorPID = 12
      return machine
    }
    let supervise: (inout Settings) -> Void = { $0.start = .supervise }
    #expect(
      try obstacle(seen("5"), supervise)
        == Failure(
          .agentNotStarted,
          "process 12 supervises an agent that waits for 5 servers, and must start again to wait for 3",
          details: ["only a start of the agent reads bootstrap_expect"],
          hint: "end process 12, and run consul-bootstrap again: the agent has no raft state that could be lost"))
    #expect(try obstacle(seen("3"), supervise) == nil)
    #expect(try obstacle(seen("5", .present(evidence: "raft.db")), supervise) == nil)
    #expect(try obstacle(seen("5", running: false), supervise) == nil)
    #expect(try obstacle(seen("5")) { $0.start = Settings.Start.none } == nil)
    // Which writes the configuration only: the agent is the user's to restart.
    var unsupervised = seen("5")
    unsupervised.supervisorPID = nil
    var settings = Settings()
    settings.start = Settings.Start.none
    let plan = try Plan(observation(unsupervised), settings)
    #expect(
      plan.obstacle == nil
        && plan.warnings.contains(
          "the running agent waits for 5 servers, and reads that it must wait for 3 only when it starts: restart it, "
            + "as it has no raft state that could be lost")
    )
  }

  @Test func `an agent that runs already, where this process would supervise one`() throws {
    let data = DataDirectoryObservation(
      content: .init(snapshotNamesThisAddress: true), raftState: .none, isMount: false)
    let running = machine(data: data, recorded: "i-2", running: true)
    #expect(
      try obstacle(running)
        == Failure(
          .agentNotStarted, "a Consul agent that this program does not supervise is already running on this machine",
          details: ["an agent answers at this machine's HTTP address"],
          hint: "stop that agent, or write only its configuration with --start none"))
    for start in [Settings.Start.systemd, .docker, .none] {
      #expect(
        try obstacle(running) {
          $0.start = start; $0.image = "consul"
        } == nil)
    }
  }

  @Test(arguments: [Settings.Start.supervise, .none])
  func `an agent that runs with another machine's data, which this program cannot stop`(_ start: Settings.Start) throws
  {
    let data = DataDirectoryObservation(content: .init(snapshotNamesThisAddress: nil), raftState: .none, isMount: false)
    #expect(
      try obstacle(machine(data: data, recorded: "i-old", running: true)) { $0.start = start }
        == Failure(
          .agentNotStarted, "a Consul agent is running with the data of another machine (created by instance i-old)",
          hint: "stop that agent and retry, or keep the data with --keep-data"))
  }
}

/// What a person should know beside a plan.
@Suite struct WarningTests {
  private func warnings(_ seen: Observation, _ change: (inout Settings) -> Void = { _ in }) throws -> [String] {
    var settings = Settings()
    change(&settings)
    return try Plan(seen, settings).warnings
  }

  private static let openAPI =
    "other machines can reach the HTTP API (port 8500) without ACLs, which gives them the gossip key and every value: "
    + "add --acl-default-policy deny, or let only a load balancer reach the port"

  /// An open API without ACLs hands out the gossip key (`/v1/operator/keyring`).
  @Test(
    arguments: [
      (.private, nil, [:], true), (.addresses("0.0.0.0"), nil, [:], true), (.addresses("127.0.0.1"), nil, [:], false),
      (.addresses("127.0.0.1 {{ GetPrivateIP }}"), nil, [:], true), (.addresses("unix:///run/consul"), nil, [:], false),
      (.private, "allow", [:], true), (.private, "deny", [:], false),
      (.private, nil, ["acl": ["enabled": true, "default_policy": "deny"]], false),
      // Without `enabled` Consul has no ACLs.
      (.private, nil, ["acl": ["default_policy": "deny"]], true), (.private, nil, ["ports": ["http": -1]], false),
      (.loopback, nil, ["client_addr": "0.0.0.0"], true), (.private, nil, ["addresses": ["http": "127.0.0.1"]], false),
    ] as [(Settings.ClientAddress, String?, JSONValue, Bool)])
  func `an HTTP API that is open without ACLs is named`(
    _ address: Settings.ClientAddress, _ policy: String?, _ overlay: JSONValue, _ warns: Bool
  ) throws {
    let found = try warnings(observation()) { settings in
      settings.clientAddress = address
      settings.aclDefaultPolicy = policy
      settings.overlays = [.init(origin: "--set", value: overlay)]
    }
    #expect(found == (warns ? [Self.openAPI] : []))
  }

  /// TLS alone keeps nothing out that has no certificate of its own.
  @Test(
    arguments: [
      (["ports": ["https": 8501]], true), (["ports": ["https": -1]], false),
      (["ports": ["https": 8501], "addresses": ["https": "127.0.0.1"]], false),
      (["ports": ["https": 8501], "verify_incoming": true], false),
      (["ports": ["https": 8501], "tls": ["https": ["verify_incoming": true]]], false),
      (
        [
          "ports": ["https": 8501],
          "tls": ["defaults": ["verify_incoming": true], "https": ["verify_incoming": false]],
        ], true
      ),
      (["ports": ["https": 8501], "acl": ["enabled": true, "default_policy": "deny"]], false),
    ] as [(JSONValue, Bool)])
  func `an HTTPS API that is open to all is named`(_ overlay: JSONValue, _ warns: Bool) throws {
    let found = try warnings(observation()) { settings in
      settings.clientAddress = .private
      settings.overlays = [
        .init(origin: "--set", value: overlay), .init(origin: "--set", value: ["addresses": ["http": "127.0.0.1"]]),
      ]
    }
    #expect(found.contains { $0.hasPrefix("other machines can reach the HTTPS API (port 8501)") } == warns)
  }

  /// Another file of the directory may open the interface, close it, or turn ACLs on.
  @Test(
    arguments: [
      (.loopback, nil, "client_addr = \"0.0.0.0\"", true), (.loopback, nil, "addresses { http = \"10.0.1.2\" }", true),
      (.loopback, nil, "Client_Addr = \"127.0.0.1 ::1\"", false), (.loopback, nil, "addresses { http = \"\" }", false),
      (.loopback, nil, "client_addr = \"::\"", true), (.private, nil, "client_addr = \"127.0.0.1\"", false),
      (.private, nil, "ports { http = -1 }", false), (.private, nil, "ports { http = 8500 }", true),
      (.private, nil, "acl { enabled = true, default_policy = \"deny\" }", false),
      (.private, nil, "acl { enabled = true }", true), (.private, nil, "acl { default_policy = \"deny\" }", true),
      (.private, nil, "acl_datacenter = \"dc1\" acl_default_policy = \"deny\"", false),
    ] as [(Settings.ClientAddress, String?, String, Bool)])
  func `other files count for the warning about an open HTTP API`(
    _ address: Settings.ClientAddress, _ policy: String?, _ file: String, _ warns: Bool
  ) throws {
    let found = try warnings(observation(machine(others: [otherFile("z.hcl", file)]))) { settings in
      settings.clientAddress = address
      settings.aclDefaultPolicy = policy
    }
    #expect(found.contains(Self.openAPI) == warns, "\(found)")
  }

  /// `--set autopilot.min_quorum=3` had no effect, and no word said so.
  @Test func `autopilot keys that an existing cluster does not take from a file are named`() throws {
    let joining = observation(peers: ["10.0.1.9": status("10.0.1.9:8300", ["10.0.1.9:8300"])])
    let change = { (settings: inout Settings) in
      settings.overlays = [
        .init(origin: "--set autopilot.min_quorum", value: ["autopilot": ["min_quorum": 3]]),
        .init(origin: "--set ports.dns", value: ["ports": ["dns": 53]]),
      ]
    }
    #expect(
      try warnings(joining, change) == [
        "--set autopilot.min_quorum: an existing cluster takes autopilot's settings from the operator API only: "
          + "use the options (docs/options.md), or consul operator autopilot set-config"
      ])
    #expect(try warnings(observation(), change) == [])
  }

  @Test func `a healthy first boot has none`() throws { #expect(try warnings(observation()) == []) }

  @Test func `renamed data`() throws {
    let data = DataDirectoryObservation(content: .init(snapshotNamesThisAddress: nil), raftState: .none, isMount: false)
    #expect(
      try warnings(observation(machine(data: data))) == [
        "the data directory was created by another machine: nothing in it refers to this one; "
          + "it is renamed to /opt/consul.unknown-instance.20260102T030405Z"
      ])
  }

  @Test func `a lost quorum`() throws {
    let peers = ["10.0.1.9": status(nil, ["a:8300"]), "10.0.2.100": status(nil, ["a:8300"])]
    #expect(
      try warnings(observation(peers: peers, over: true)) == [
        "the cluster has lost its quorum: 10.0.1.9, 10.0.2.100 have raft state but no leader. "
          + "This server forms no second cluster: it joins without bootstrapping and becomes a voter once the cluster "
          + "is recovered. Bring the missing servers back with their data; if they are lost, run "
          + "consul-bootstrap recover on a server that has data"
      ])
  }

  @Test func `other zones that are incomplete or have no public address`() throws {
    let members = [
      instance("i-2", "10.0.1.10"), instance("i-4", "10.0.2.9", zone: "eu-west-1b"),
      instance("i-5", "10.0.2.8", zone: "eu-west-1b", publicIP: "192.0.2.8"),
    ]
    var seen = observation(members: members, desired: 6)
    seen.identity.interfaces = [
      NetworkInterface(
        deviceNumber: 0, name: "eth0", kind: "interface", privateIPs: [address("10.0.1.10")],
        publicIPs: [address("192.0.2.10"): address("10.0.1.10")])
    ]
    #expect(
      try warnings(seen) {
        $0.layout = .datacenterPerAZ
        $0.wanAddress = .public
      } == [
        "2 of 3 servers are known in eu-west-1b; the sidecar joins the others when they appear",
        "not joined over the WAN, because they have no public address: i-4",
      ])
  }

  @Test func `containers that query another port, and a group that could not be discovered`() throws {
    var seen = observation(
      machine(
        data: .init(
          content: .init(snapshotNamesThisAddress: true), raftState: .present(evidence: "raft.db"), isMount: false)))
    seen.group = nil
    seen.machine.dockerBridge = address("172.17.0.1")
    #expect(
      try warnings(seen) { $0.dnsAddress = .dockerBridge } == [
        "containers query port 53, the agent's DNS listens on 8600: add --dns port-53",
        "AWS could not be reached; rejoining with the configuration and data on this machine",
      ])
  }
}
