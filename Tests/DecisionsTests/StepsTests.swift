import Base
import Consul
import Testing

@testable import Artifacts
@testable import Decisions
@testable import Model

/// Which step is in which phase, for each way to start the agent: a step in the wrong phase runs before what it needs,
/// or its failure undoes a healthy boot.
@Suite struct StepPhaseTests {
  /// Everything that may be set up around an agent.
  private func plan(
    _ start: Settings.Start, _ machine: MachineObservation = machine(systemd: true),
    _ change: (inout Settings, inout Observation) -> Void = { _, _ in }
  ) throws -> Plan {
    var settings = Settings(), seen = observation(machine)
    settings.start = start
    if start == .docker {
      settings.image = "consul:1.20"
      settings.registratorImage = "registrator:v7"
    }
    settings.dns = .port53
    settings.logs = [.init(source: .file(FilePattern("/var/log/app.log")!))]
    settings.logAgent = .awslogs
    settings.lifecycleHook = "boot"
    change(&settings, &seen)
    return try Plan(seen, settings)
  }

  private func phases(_ plan: Plan) -> [[String]] {
    [plan.steps.prepare, plan.steps.start, plan.steps.verify, plan.steps.after].map { $0.map(\.title) }
  }

  private static let prepare = [
    "create directory /opt/consul (mode 750, owner consul)", "create directory /etc/consul.d (mode 755)",
    "record the instance ID in /var/lib/consul-bootstrap/instance.json",
    "write /etc/consul.d/00-consul-bootstrap.json (mode 640, owner consul) once Consul has validated it",
  ]
  private static let verify = [
    "verify: the agent answers, it knows a leader, this server is a voter, at least 3 servers are in raft"
  ]
  private static let resolver =
    "write /etc/resolv.conf and resolve consul.service.consul, ec2.eu-west-1.amazonaws.com; revert it if that fails"
  private static let logAgent =
    "write /etc/awslogs/config/consul-bootstrap.conf and let awslogs forward the logs"
  private static let sidecar =
    "write /var/lib/consul-bootstrap/options.json and /etc/systemd/system/consul-bootstrap.service, "
    + "and start consul-bootstrap.service"
  private static let hook = "complete lifecycle hook boot: CONTINUE once healthy, ABANDON after a failure"

  @Test func `systemd: the unit starts the agent, a sidecar follows`() throws {
    #expect(
      phases(try plan(.systemd)) == [
        Self.prepare,
        [
          "write /etc/systemd/system/consul.service", "/bin/systemctl daemon-reload",
          "/bin/systemctl enable consul.service", "/bin/systemctl start consul.service",
        ], Self.verify, [Self.resolver, Self.logAgent, Self.sidecar, Self.hook],
      ])
  }

  private static let record = "record the options of this run in /var/lib/consul-bootstrap/options.json"

  @Test func `docker: containers start, a sidecar follows`() throws {
    #expect(
      phases(try plan(.docker)) == [
        Self.prepare,
        ["run container consul from consul:1.20", "run container registrator from registrator:v7"], Self.verify,
        [Self.resolver, Self.logAgent, Self.sidecar, Self.hook],
      ])
  }

  /// This process stays beside its agent: it is the sidecar.
  @Test func `supervise: this process starts the agent, and no sidecar follows`() throws {
    let plan = try plan(.supervise)
    #expect(
      phases(plan) == [
        Self.prepare, ["start the agent as consul and supervise it"], Self.verify,
        [Self.resolver, Self.logAgent, Self.record, Self.hook],
      ])
    #expect(!plan.startsSidecar && plan.requirements != nil)
  }

  @Test func `none: only the configuration is written, and the hook completed`() throws {
    let plan = try plan(.none)
    #expect(phases(plan) == [Self.prepare, [], [], [Self.record, Self.hook]])
    #expect(!plan.startsSidecar && plan.requirements == nil)
  }

  @Test func `without systemd no sidecar follows, and the default is to supervise`() throws {
    let plan = try Plan(observation(machine()), Settings())
    #expect(plan.start == .supervise && plan.steps.after.map(\.title) == [Self.record])
    #expect(try self.plan(.docker, machine()).startsSidecar == false)
  }

  @Test func `phases run in order, and all steps are in one of them`() throws {
    let steps = try plan(.systemd).steps
    #expect(steps.phases.map(\.name) == ["prepare", "start", "verify", "after"])
    #expect(steps.all == steps.prepare + steps.start + steps.verify + steps.after)
  }

  // MARK: Prepare

  @Test(arguments: [Settings.Start.systemd, .docker])
  func `foreign data is renamed before anything is created, its agent stopped before`(_ start: Settings.Start) throws {
    let data = DataDirectoryObservation(content: .init(snapshotNamesThisAddress: nil), raftState: .none, isMount: false)
    let prepare = try plan(start, machine(data: data, recorded: "i-old", running: true, systemd: true)).steps.prepare
    #expect(
      prepare.prefix(2) == [
        .stopAgent(
          start == .docker
            ? Command("/usr/bin/consul", ["stop", "consul"]) : Command("/bin/systemctl", ["stop", "consul.service"])),
        .rename(
          "/opt/consul", to: "/opt/consul.i-old.20260102T030405Z", reason: "created by instance i-old"),
      ])
    let stopped = try plan(start, machine(data: data, recorded: "i-old", systemd: true)).steps.prepare
    #expect(Array(stopped) == Array(prepare.dropFirst()))
  }

  @Test func `host name and PEM files come before the configuration that refers to them`() throws {
    let plan = try plan(.systemd) { settings, seen in
      settings.hostName = NameTemplate("consul-{instance_suffix}")
      settings.tls.ca = .ssm(name: "ca")
      settings.tls.cert = .file(path: "/etc/cert.pem")
      settings.tls.key = .ssm(name: "key")
      seen.secrets.ca = .pem(Secret("CA"))
      seen.secrets.cert = .file(path: "/etc/cert.pem")
      seen.secrets.key = .pem(Secret("KEY"))
    }
    #expect(
      phases(plan)[0] == Self.prepare.prefix(3) + [
        "set the host name to consul-2", "create directory /etc/consul.d/tls (mode 750, owner consul)",
        "write /etc/consul.d/tls/ca.pem (mode 640, owner consul)",
        "write /etc/consul.d/tls/key.pem (mode 640, owner consul)",
      ] + Self.prepare.suffix(1))
  }

  // MARK: Start

  @Test func `a unit that is unchanged needs no daemon-reload`() throws {
    guard case .writeUnit(_, let text)? = try plan(.systemd).steps.start.first else {
      Issue.record("no unit")
      return
    }
    let steps = try plan(.systemd, machine(systemd: true, unit: .text(text))).steps.start
    #expect(
      steps.map(\.title) == [
        "write /etc/systemd/system/consul.service", "/bin/systemctl enable consul.service",
        "/bin/systemctl start consul.service",
      ])
  }

  /// A running agent is reloaded in the way of its runner, after its start step.
  @Test func `a running agent whose configuration changed is reloaded`() throws {
    let configuration = CurrentConfiguration(.present(Secret(#"{"log_level": "DEBUG"}"#)))
    let data = DataDirectoryObservation(
      content: .init(snapshotNamesThisAddress: true), raftState: .present(evidence: "raft.db"), isMount: false)
    let running = machine(
      data: data, recorded: "i-2", running: true, systemd: true, configuration: configuration)
    let steps = try plan(.systemd, running).steps.start
    guard case .reloadAgent(let method, let keys)? = steps.dropLast().last else {
      Issue.record("no reload")
      return
    }
    // Which a reload does not do.
    #expect(
      steps.last
        == .joinServers(
          ["10.0.1.9", "10.0.2.100"].map { IPv4Address($0)! }, agentAddress: "127.0.0.1:8500", token: nil))
    #expect(method == .command(Command("/bin/systemctl", ["reload", "consul.service"])))
    #expect(!keys.contains("log_level") && !keys.contains("retry_join") && keys.contains("datacenter"))
    let docker = try plan(.docker, running) { settings, seen in seen.secrets.agentToken = Secret("t") }.steps.start
    guard case .reloadAgent(.api(let address, let token), _) = docker[1] else {
      Issue.record("no reload")
      return
    }
    #expect(address == "127.0.0.1:8500" && token == Secret("t"))
  }

  // MARK: The sidecar's steps

  @Test func `the sidecar restarts the agent by its runner`() throws {
    let systemd = try plan(.systemd).sidecarSteps, docker = try plan(.docker).sidecarSteps
    #expect(systemd.restartAgent == .run(Command("/bin/systemctl", ["restart", "consul.service"])))
    #expect(systemd.startContainer == nil)
    #expect(docker.restartAgent == .run(Command("/usr/bin/consul", ["restart", "consul"])))
    #expect(docker.startContainer?.title == "run container consul from consul:1.20")
    for start in [Settings.Start.supervise, .none] {
      let steps = try plan(start).sidecarSteps
      #expect(steps.restartAgent == nil && steps.startContainer == nil)
    }
  }

  @Test func `the sidecar writes the configuration that the run writes`() throws {
    for start in Settings.Start.allCases {
      let plan = try plan(start)
      #expect(plan.steps.prepare.contains(plan.sidecarSteps.writeConfiguration))
      #expect(plan.sidecarSteps.writeConfiguration == .writeConfiguration(plan.sidecarSteps.configuration))
    }
  }

  @Test func `a check stages its file beside that of a run`() throws {
    let staged = try plan(.systemd).sidecarSteps.configuration.staged(at: "/tmp/check.json")
    #expect(staged.stagedPath == "/tmp/check.json" && staged.path == "/etc/consul.d/00-consul-bootstrap.json")
    #expect(staged.validation.text == "/usr/bin/consul validate -quiet /tmp/check.json")
  }
}

/// What verification requires.
@Suite struct PlanRequirementsTests {
  private func requirements(_ seen: Observation, _ change: (inout Settings) -> Void = { _ in }) throws
    -> HealthRequirements
  {
    var settings = Settings()
    change(&settings)
    return try #require(try Plan(seen, settings).requirements)
  }

  @Test func `a new cluster has all servers that it expects, a joining server those that exist`() throws {
    #expect(try requirements(observation()).servers == 3)
    let leader = ["10.0.1.9": status("10.0.1.9:8300", ["10.0.1.9:8300"])]
    #expect(try requirements(observation(members: Array(three.prefix(2)), desired: 5, peers: leader)).servers == 2)
    #expect(try requirements(observation(desired: 2, peers: leader)).servers == 2)
    var alone = observation(
      machine(
        data: .init(content: .init(snapshotNamesThisAddress: true), raftState: .unknown(reason: ""), isMount: false)))
    alone.group = nil
    #expect(try requirements(alone).servers == 1)
  }

  /// With its hook's CONTINUE an instance refresh terminates an old server; a founder replaces none.
  @Test func `only a server that joins with a launch hook must be stable`() throws {
    let leader = ["10.0.1.9": status("10.0.1.9:8300", ["10.0.1.9:8300"])]
    let joins = observation(members: Array(three.prefix(2)), desired: 5, peers: leader)
    let hook = { (settings: inout Settings) in settings.lifecycleHook = "launching" }
    let joiner = try requirements(joins, hook)
    #expect(joiner.stabilization == .seconds(1) && joiner.text.hasSuffix("autopilot calls it healthy for 1.0 s"))
    let configured = try requirements(joins) { settings in
      hook(&settings)
      settings.serverStabilizationTime = .seconds(10)
    }
    #expect(configured.stabilization == .seconds(10))
    #expect(try requirements(joins).stabilization == nil)
    #expect(try requirements(observation(), hook).stabilization == nil)
  }

  @Test func `a client requires no vote`() throws {
    let client = try requirements(observation()) {
      $0.role = .client
      $0.membership = .groups(["g"])
    }
    #expect(client.raftAddress == nil && client.servers == 0 && client.wan == nil)
    #expect(client.text == "the agent answers, it knows a leader")
  }

  @Test func `the WAN pool has every known server of all datacenters`() throws {
    let members = three + [instance("i-4", "10.0.2.9", zone: "eu-west-1b", publicIP: "192.0.2.9")]
    let seen = observation(members: members, desired: 6)
    let wan = try requirements(seen) {
      $0.layout = .datacenterPerAZ
      $0.requiresWAN = true
    }.wan
    #expect(
      wan
        == .init(
          addresses: ["10.0.1.9", "10.0.1.10", "10.0.2.100", "10.0.2.9"].reduce(into: []) { $0.insert(address($1)) },
          isRequired: true))
  }

  @Test(arguments: [
    (Settings.Start.systemd, AgentRunner.systemd), (.docker, .docker(client: "/usr/bin/consul")),
    (.supervise, .supervisor),
  ])
  func `the runner is known for the reason of a failed start`(_ start: Settings.Start, _ runner: AgentRunner) throws {
    #expect(
      try requirements(observation(machine(systemd: true))) {
        $0.start = start; $0.image = "c"
      }.runner == runner)
  }
}
