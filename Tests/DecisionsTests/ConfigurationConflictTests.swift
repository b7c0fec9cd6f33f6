import Base
import Consul
import Testing

@testable import Decisions
@testable import Model

/// What another file of the configuration directory does to ours.
@Suite struct ConfigurationConflictTests {
  private func plan(
    _ files: [(String, String)], _ change: (inout Settings) throws -> Void = { _ in }
  ) throws -> Plan {
    var settings = Settings()
    try change(&settings)
    return try Plan(observation(machine(others: files.map(otherFile))), settings)
  }

  /// HashiCorp's package ships `/etc/consul.d/consul.hcl` with `data_dir = "/opt/consul"` and comments.
  static let packaged = """
    # Full configuration options can be found at https://www.consul.io/docs/agent/config

    # data_dir
    # This flag provides a data directory for the agent to store state.
    data_dir = "/opt/consul"

    #bind_addr = "0.0.0.0" # Listen on all IPv4
    #bootstrap_expect=3
    """

  @Test func `the packaged configuration beside another data directory is refused`() throws {
    #expect(
      try plan([("consul.hcl", Self.packaged)]) { $0.dataDirectory = "/data/consul" }.obstacle
        == Failure(
          .configurationRejected,
          "/etc/consul.d/consul.hcl would override data_dir of /etc/consul.d/00-consul-bootstrap.json",
          details: [
            "data_dir is \"/data/consul\" in /etc/consul.d/00-consul-bootstrap.json "
              + "and \"/opt/consul\" in /etc/consul.d/consul.hcl"
          ], hint: "remove data_dir from /etc/consul.d/consul.hcl, or use its value with --data-dir /opt/consul"))
  }

  @Test func `the packaged configuration beside the same data directory is accepted`() throws {
    let plan = try plan([("consul.hcl", Self.packaged)])
    #expect(plan.obstacle == nil && plan.warnings == [])
  }

  /// `shared/cases/decisions/other-files.txt`, with more of the same kinds.
  @Test(arguments: [
    ("a.json", #"{"Bootstrap_Expect": 3}"#, true), ("b.hcl", "server = true, bootstrap_expect = 3", true),
    ("c.hcl", "server = true bootstrap_expect = 3", true), ("d.hcl", "bootstrap_expect = 0", true),
    ("!d.hcl", "bootstrap_expect = 0", false), ("e.hcl", "/* bootstrap_expect = 3 */", false),
    ("z.json", #"{"node_name": "web"}"#, true),
    ("00-a.json", #"{"node_name": "web"}"#, false), ("00-a.json", #"{"bootstrap": true}"#, true),
    ("z.json", #"{"Node_Name": "i-2", "SERVER": true}"#, false), ("z.hcl", "server = false", true),
    ("z.hcl", "datacenter = \"DC1\"", false), ("z.hcl", "datacenter = \"dc2\"", true),
    ("z.hcl", "datacenter = \"\"", true), ("z.hcl", "bind_addr = \"0.0.0.0\"", true),
    ("z.hcl", "data_dir = \"/opt/consul/\"", false), ("z.hcl", "server = 1", true),
    ("z.hcl", "server = \"true\"", false),
    ("z.hcl", "bootstrap_expect =", true), ("z.hcl", "log_level = \"INFO\"", false),
    ("z.json", #"{"bootſtrap_expect": 3}"#, true), ("z.json", #"{"bootstrap": [false]}"#, false),
    ("z.json", #"{"node_name": ["i-2"]}"#, false), ("z.json", #"{"node_name": ["web"]}"#, true),
    ("z.json", #"{"bootstrap_expect": [1]}"#, true), ("z.json", "null", false),
    ("z.hcl", "ports { grpc = 8502 }", false), ("z.hcl", "acl { enabled = true }", false),
  ])
  func `a file that a run accepts or refuses`(_ name: String, _ text: String, _ isRefused: Bool) throws {
    #expect(try plan([(name, text)]).obstacle?.status == (isRefused ? .configurationRejected : nil))
  }

  @Test func `every key is named, and every file`() throws {
    #expect(
      try plan([("y.hcl", "server = false"), ("z.json", #"{"node_name": "web"}"#)]).obstacle
        == Failure(
          .configurationRejected,
          "/etc/consul.d/y.hcl, /etc/consul.d/z.json would override node_name, server "
            + "of /etc/consul.d/00-consul-bootstrap.json",
          details: [
            "node_name is \"i-2\" in /etc/consul.d/00-consul-bootstrap.json and \"web\" in /etc/consul.d/z.json",
            "server is true in /etc/consul.d/00-consul-bootstrap.json and false in /etc/consul.d/y.hcl",
          ], hint: "remove the keys from the other files, or set the same values with options"))
  }

  @Test func `the last of several files counts`() throws {
    let files = [("y.hcl", "node_name = \"web\""), ("z.hcl", "node_name = \"i-2\"")]
    #expect(try plan(files).obstacle == nil)
  }

  @Test func `ports and ACLs are compared key by key, secrets stay hidden`() throws {
    let files = [
      (
        "z.hcl",
        """
        ports { dns = 8600, grpc = 8502 }
        acl { enabled = true, default_policy = "allow", tokens { agent = "other-token", default = "third-token" } }
        encrypt = "other-key"
        """
      )
    ]
    var settings = Settings()
    settings.dns = .port53
    settings.aclDefaultPolicy = "deny"
    var seen = observation(machine(others: files.map(otherFile)))
    seen.secrets.gossipKey = Secret("own-key")
    seen.secrets.agentToken = Secret("own-token")
    let obstacle = try #require(try Plan(seen, settings).obstacle)
    let own = "/etc/consul.d/00-consul-bootstrap.json", other = "/etc/consul.d/z.hcl"
    #expect(
      obstacle.details == [
        "acl.default_policy is \"deny\" in \(own) and \"allow\" in \(other)",
        "acl.tokens.agent is \"(redacted)\" in \(own) and \"(redacted)\" in \(other)",
        "encrypt is \"(redacted)\" in \(own) and \"(redacted)\" in \(other)",
        "ports.dns is 53 in \(own) and 8600 in \(other)",
      ])
  }

  /// A list of one element counts as the element.
  @Test(arguments: [
    #"{"acl": [{"default_policy": "allow"}], "ports": [{"dns": 8600}]}"#,
    #"{"acl": {"default_policy": ["allow"]}, "ports": {"dns": [8600]}}"#,
  ])
  func `ports and ACLs in a list of one are compared, too`(_ text: String) throws {
    var settings = Settings()
    settings.dns = .port53
    settings.aclDefaultPolicy = "deny"
    let plan = try Plan(observation(machine(others: [otherFile("z.json", text)])), settings)
    #expect(
      plan.obstacle?.message
        == "/etc/consul.d/z.json would override acl.default_policy, ports.dns of /etc/consul.d/00-consul-bootstrap.json"
    )
  }

  @Test(arguments: [
    ("encrypt = \"k\"", "store the same key where --gossip-key reads it"),
    ("ports { dns = 8600 }", "use its value with --set 'ports.dns=8600'"),
    ("bind_addr = \"10.0.1.11\"", "use its value with --bind 10.0.1.11"),
    ("node_name = \"web\"", "use its value with --node-name web"), ("server = false", "use --role client"),
    ("datacenter = \"dc9\"", "use its value with --datacenter dc9"),
  ])
  func `the hint names the option`(_ text: String, _ hint: String) throws {
    var settings = Settings()
    settings.dns = .port53
    var seen = observation(machine(others: [otherFile("z.hcl", text)]))
    seen.secrets.gossipKey = Secret("own-key")
    let obstacle = try #require(try Plan(seen, settings).obstacle)
    #expect(obstacle.hint?.hasSuffix(", or \(hint)") == true, "\(obstacle)")
  }

  @Test func `an option that says the same is no conflict`() throws {
    let files = [("z.hcl", "ports { dns = 53 }\nnode_name = \"web\"")]
    let plan = try plan(files) { settings in
      settings.overlays = [
        .init(origin: "--set ports.dns", value: ["ports": ["dns": 53]]),
        .init(origin: "--merge x.json", value: ["node_name": "web"]),
      ]
    }
    #expect(plan.obstacle == nil && plan.warnings == [])
  }

  @Test func `another key that is overridden, and a list that grows, are warned about`() throws {
    let files = [
      ("00-a.json", #"{"retry_join": ["10.0.9.9", "provider=aws secret_access_key=hidden"], "log_level": "ERR"}"#),
      ("z.hcl", "log_level = \"debug\"\nretry_join = [\"10.0.1.9\"]\nautopilot { server_stabilization_time = \"9s\" }"),
    ]
    let plan = try plan(files)
    #expect(plan.obstacle == nil)
    #expect(
      plan.warnings == [
        "/etc/consul.d/z.hcl overrides autopilot.server_stabilization_time: the agent uses \"9s\" instead of \"1s\"",
        "/etc/consul.d/z.hcl overrides log_level: the agent uses \"debug\" instead of \"INFO\"",
        "/etc/consul.d/00-a.json sets retry_join, too: the agent uses the values of all files",
      ])
  }

  /// Consul 1.8.7 takes the zero of the later file: the agent would wait for a leader for ever.
  @Test func `zero servers instead of ours stop a run that would start the agent`() throws {
    let own = "/etc/consul.d/00-consul-bootstrap.json", other = "/etc/consul.d/d.hcl"
    #expect(
      try plan([("d.hcl", "bootstrap_expect = 0")]).obstacle
        == Failure(
          .configurationRejected, "\(other) would override bootstrap_expect of \(own)",
          details: ["bootstrap_expect is 3 in \(own) and 0 in \(other)"],
          hint: "remove bootstrap_expect from \(other): without it this server can form a cluster"))
    let before = try plan([("00-a.hcl", "bootstrap_expect = 0")])
    #expect(before.obstacle == nil && before.warnings == [])
  }

  @Test func `zero servers are accepted where ours is not written`() throws {
    var seen = observation(
      machine(others: [otherFile("d.hcl", "bootstrap_expect = 0")]),
      peers: ["10.0.1.9": status("10.0.1.9:8300", ["10.0.1.9:8300"])])
    let joining = try Plan(seen, Settings())
    #expect(joining.decision.name == "join" && joining.obstacle == nil && joining.warnings == [])
    seen.machine.dataDirectory = DataDirectoryObservation(
      content: .init(snapshotNamesThisAddress: true), raftState: .present(evidence: "raft.db"), isMount: false)
    seen.peers = [:]
    let rejoining = try Plan(seen, Settings())
    #expect(rejoining.decision.name == "rejoin" && rejoining.obstacle == nil && rejoining.warnings == [])
  }

  @Test func `zero servers instead of ours are a warning where no agent starts`() throws {
    let plan = try plan([("d.hcl", "bootstrap_expect = 0")]) { $0.start = Settings.Start.none }
    #expect(plan.obstacle == nil)
    #expect(
      plan.warnings == [
        "/etc/consul.d/d.hcl sets bootstrap_expect to 0, which overrides 3: this server cannot form a cluster; "
          + "remove the key from /etc/consul.d/d.hcl"
      ])
  }

  @Test func `a file that is not understood stops a run`() throws {
    #expect(
      try plan([("z.hcl", "server = true\nbootstrap_expect =")]).obstacle
        == Failure(
          .configurationRejected, "cannot understand /etc/consul.d/z.hcl",
          details: ["/etc/consul.d/z.hcl, line 2: a value expected"],
          hint: "correct /etc/consul.d/z.hcl, or move it to another directory: "
            + "it may override what consul-bootstrap writes"))
  }

  @Test func `another spelling of a key is the same key`() throws {
    let plan = try plan([("00-a.json", #"{"acl_default_policy": "allow"}"#)]) { $0.aclDefaultPolicy = "deny" }
    #expect(plan.obstacle?.message.contains("override acl.default_policy") == true)
  }

  @Test func `verification asks the agent where the merged configuration puts it`() throws {
    let files = [("z.hcl", "client_addr = \"10.0.1.10\"\nports { http = 8501, server = 9300, https = 443 }")]
    let plan = try plan(files) { $0.start = .systemd }
    #expect(plan.requirements?.agentAddress == "10.0.1.10:8501")
    #expect(plan.requirements?.raftAddress == "10.0.1.10:9300")
    #expect(plan.merged.bindsLowPorts)
  }
}
