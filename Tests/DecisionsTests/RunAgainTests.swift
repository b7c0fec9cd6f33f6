import Base
import Consul
import Testing

@testable import Artifacts
@testable import Decisions
@testable import Model

/// A run on a machine that a run has configured before.
@Suite struct RunAgainTests {
  private static let configuration = CurrentConfiguration(
    .present(Secret(#"{"server":true,"datacenter":"dc1","node_name":"i-2","bind_addr":"10.0.1.10"}"#)))

  private func configured(
    _ raft: RaftState = .present(evidence: "x"), configuration: CurrentConfiguration = configuration,
    running: Bool = false,
    recorded: String? = "i-2"
  ) -> MachineObservation {
    machine(
      data: .init(content: .init(snapshotNamesThisAddress: nil), raftState: raft, isMount: false),
      recorded: recorded, running: running, configuration: configuration)
  }

  private func plan(_ machine: MachineObservation, _ change: (inout Settings) -> Void = { _ in }) throws -> Plan {
    var settings = Settings()
    change(&settings)
    return try Plan(
      observation(machine, peers: ["10.0.1.9": status("10.0.1.9:8300", ["10.0.1.9:8300"])]), settings)
  }

  // MARK: What cannot change

  /// Consul once started with such data, as another server beside the one that the others knew.
  @Test func `datacenter, role and layout of a server with raft state`() throws {
    for raft in [RaftState.present(evidence: "x"), .unknown(reason: "damaged")] {
      let east = try #require(try plan(configured(raft)) { $0.datacenter = "east" }.obstacle)
      #expect(east.status == .configurationRejected)
      #expect(
        east.message == "this server has raft state as datacenter dc1, and cannot become east with it")
      #expect(
        east.hint == "keep the datacenter, or replace the instance, or run consul leave, stop the agent, "
          + "rename /opt/consul, and run consul-bootstrap again")
      let client = try plan(configured(raft)) {
        $0.role = .client
        $0.membership = .groups(["g"])
      }
      #expect(client.obstacle?.message == "this server has raft state as role server, and cannot become client with it")
      let zone = try plan(
        configured(raft, configuration: .init(.present(Secret(#"{"server":true,"datacenter":"eu-west-1a"}"#))))
      ) { $0.layout = .datacenterPerAZ }
      #expect(
        zone.obstacle?.message
          == "this server has raft state as layout single, and cannot become datacenter-per-az with it")
    }
  }

  /// A server that was to become a client waited for servers first.
  @Test func `they are refused before the run waits for its group`() throws {
    func refusal(_ change: (inout Settings) -> Void) -> Failure? {
      var settings = Settings()
      change(&settings)
      do {
        try Plan.refuseIdentityChange(observation(configured()), settings)
        return nil
      } catch { return error }
    }
    #expect(refusal { _ in } == nil)
    #expect(refusal { $0.role = .client }?.status == .configurationRejected)
    #expect(refusal { $0.datacenter = "east" }?.status == .configurationRejected)
    #expect(
      refusal {
        $0.datacenter = "east"
        $0.overlays = [.init(origin: "--set", value: ["datacenter": "dc1"])]
      } == nil)
  }

  @Test func `without raft state, with the same options, or with the data of another instance they may change`() throws
  {
    #expect(try plan(configured()).obstacle == nil)
    #expect(try plan(configured(.none)) { $0.datacenter = "east" }.obstacle == nil)
    #expect(try plan(configured(configuration: .absent)) { $0.datacenter = "east" }.obstacle == nil)
    #expect(try plan(configured(recorded: "i-9")) { $0.datacenter = "east" }.obstacle == nil)
    // Consul's names of datacenters do not depend on case.
    #expect(try plan(configured()) { $0.datacenter = "DC1" }.obstacle == nil)
  }

  @Test func `raft state without a configuration is a server's`() throws {
    let client = { (settings: inout Settings) in
      settings.role = .client
      settings.membership = .groups(["g"])
    }
    let refusal = try plan(configured(configuration: .absent), client).obstacle
    #expect(refusal?.message == "this server has raft state as role server, and cannot become client with it")
    #expect(refusal?.details == ["only a server has raft state; data is in /opt/consul"])
    #expect(try plan(configured(.none, configuration: .absent), client).obstacle == nil)
    #expect(try plan(configured(.unknown(reason: "denied"), configuration: .absent), client).obstacle == nil)
  }

  // MARK: A record that is lost

  /// A healthy server's data was renamed once its state directory had been deleted.
  @Test func `the agent's configuration says whose the data is`() throws {
    let kept = DataDirectoryDecision.keep(reason: "the agent's configuration names this instance")
    #expect(try plan(configured(recorded: nil)).dataDirectory == kept)
    let address = CurrentConfiguration(.present(Secret(#"{"node_name":"web","bind_addr":"10.0.1.10"}"#)))
    #expect(try plan(configured(configuration: address, recorded: nil)).dataDirectory == kept)
    let baked = CurrentConfiguration(.present(Secret(#"{"node_name":"i-9","bind_addr":"10.0.9.9"}"#)))
    for other in [baked, .absent] {
      let decision = try plan(configured(configuration: other, recorded: nil)).dataDirectory
      #expect(!decision.keepsData)
    }
    // The record is stronger: an image has both.
    #expect(try !plan(configured(recorded: "i-9")).dataDirectory.keepsData)
  }

  // MARK: Autopilot

  @Test func `an existing cluster gets autopilot options that were set explicitly, and no defaults`() throws {
    let isAutopilot = { (step: Step) in if case .setAutopilot = step { true } else { false } }
    #expect(try !plan(configured()).steps.after.contains(where: isAutopilot))
    let change = { (settings: inout Settings) in
      settings.cleanupDeadServers = false
      settings.lastContactThreshold = .seconds(90)
      settings.minQuorum = 3
      settings.serverStabilizationTime = .milliseconds(1500)
    }
    let step = try #require(try plan(configured(), change).steps.after.first)
    #expect(
      step.title == #"set autopilot of the cluster: CleanupDeadServers false, LastContactThreshold "1m30s", "#
        + #"MinQuorum 3, ServerStabilizationTime "1.5s""#)
    // A new cluster reads them from the file, and --start none has no agent to ask.
    let fresh = try Plan(
      observation(),
      {
        var settings = Settings(); change(&settings); return settings
      }())
    #expect(!fresh.steps.after.contains(where: isAutopilot))
    let none = try plan(configured()) {
      change(&$0); $0.start = Settings.Start.none
    }
    #expect(!none.steps.after.contains(where: isAutopilot))
  }

  // MARK: Beside a supervisor

  @Test func `a supervised agent is not started again: its supervisor reloads both`() throws {
    var machine = configured(running: true)
    machine.supervisorPID = 4711
    let plan = try plan(machine) {
      $0.start = .supervise
      $0.ui = true
      $0.consulLogLevel = "warn"
    }
    #expect(plan.obstacle == nil && plan.steps.start.isEmpty)
    let last = try #require(plan.steps.after.last)
    #expect(
      last.title.hasPrefix("reload the agent and its supervisor, process 4711 (")
        && last.title.contains("ui_config") == false)
    guard case .reloadSupervisor(let supervision, let keys) = last else {
      Issue.record("another step: \(last.title)")
      return
    }
    #expect(supervision == Supervision(pid: 4711, lockPath: "/var/lib/consul-bootstrap/supervisor.lock"))
    #expect(keys.contains("ui") && !keys.contains("log_level") && !keys.contains("retry_join"))
    // The supervisor reads what the step before has recorded.
    let before = plan.steps.after.dropLast().last
    #expect(before?.title == "record the options of this run in /var/lib/consul-bootstrap/options.json")
  }

  @Test(arguments: [Settings.Start.systemd, .docker])
  func `a supervised agent is not started a second time by another program`(_ start: Settings.Start) throws {
    var machine = configured(running: true)
    machine.supervisorPID = 4711
    let obstacle = try plan(machine) {
      $0.start = start
      $0.image = "consul"
    }.obstacle
    #expect(
      obstacle
        == Failure(
          .agentNotStarted, "process 4711 supervises the agent, which --start \(start.rawValue) would start again",
          hint: "end that process first, or run with --start supervise"))
  }
}
