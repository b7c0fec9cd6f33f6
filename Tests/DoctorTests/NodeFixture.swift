import Base
import LogForwarding
import Model
import TestSupport

@testable import Doctor

/// A healthy server of three under systemd, its sidecar beside it. Tests break it.
struct NodeFixture {
  let context: TestContext
  let agent: FakeConsulAgent
  var settings = Settings()
  private let units = Watched<[String: String]>([:])
  private let joined = Watched<[String]>([])

  static let members = "/v1/agent/members"
  static let forwarding = "/var/lib/consul-bootstrap/log-status.json"
  static let sidecar = "/var/lib/consul-bootstrap/sidecar.json"
  static let options = "/var/lib/consul-bootstrap/options.json"
  static let configuration = "/etc/consul.d/00-consul-bootstrap.json"
  static let bootID = "11111111-aaaa-bbbb-cccc-222222222222"
  static let agentUnit = "consul.service"
  static let sidecarUnit = "consul-bootstrap.service"
  /// Of systemd's unit files, as `systemctl show` prints the state of one that runs.
  static let running =
    "ActiveState=active\nSubState=running\nLoadState=loaded\nResult=success\nNRestarts=0\nMainPID=812\n"
    + "ExecMainStatus=0\nExecMainStartTimestampMonotonic=1000000\n"
  static let missing =
    "ActiveState=inactive\nSubState=dead\nLoadState=not-found\nResult=success\nNRestarts=0\nMainPID=0\n"

  /// - Parameter context: for its own sake, or one that others use, too.
  init(_ context: TestContext = TestContext()) {
    self.context = context
    agent = FakeConsulAgent(context)
    setHealthyCluster()
    context.files.put("/proc/sys/kernel/random/boot_id", Self.bootID + "\n")
    context.files.put(Self.configuration, #"{"datacenter": "DC1", "bind_addr": "10.0.1.10", "server": true}"#)
    context.files.put(Self.options, "{}")
    units.update { $0 = [Self.agentUnit: Self.running, Self.sidecarUnit: Self.running] }
    context.launcher.onRun("/bin/systemctl", ["show"]) { [units] command, _ in
      CommandResult(end: .exited(0), output: units.value[command.arguments.last ?? ""] ?? Self.missing)
    }
    putSidecar()
  }

  /// Also as the agent's own token shows it: of each server its name, address and number.
  func setHealthyCluster(expect: Int? = nil) {
    agent.setCluster([("a", "10.0.1.10"), ("b", "10.0.1.11"), ("c", "10.0.1.12")])
    agent.set { state in
      for index in state.members.indices { state.members[index].expect = expect }
      state.agentSelf = [
        "Config": ["Datacenter": "dc1", "Server": true], "Member": ["Addr": "10.0.1.10", "Tags": ["port": "8300"]],
      ]
    }
  }

  /// Replaces lines of the state of a unit, `KEY=VALUE`; a text without them is the whole state.
  func setUnit(_ name: String, _ lines: String...) {
    units.update { units in
      var state = units[name] ?? Self.missing
      for line in lines {
        let key = line.prefix { $0 != "=" } + "="
        let kept = state.split(separator: "\n").filter { !$0.hasPrefix(key) }
        state = (kept + [line[...]]).joined(separator: "\n")
      }
      units[name] = state
    }
  }

  func removeUnit(_ name: String) { units.update { $0[name] = nil } }

  /// - Parameter age: of the report, by the monotonic clock; negative is a time to come.
  func putSidecar(
    age: Duration = .zero, bootID: String = bootID, interval: Duration = .seconds(30), problems: [String] = [],
    notices: [InstanceNotice] = [], agent: SidecarReport.Agent? = nil
  ) {
    let uptime = context.clock.uptime() - age
    let report = SidecarReport(
      time: context.clock.wall() + (.zero - age), uptime: uptime, bootID: bootID, pid: 77, interval: interval,
      problems: problems, notices: notices, agent: agent)
    context.files.put(Self.sidecar, report.json.prettyText)
  }

  func putForwarding(_ streams: [LogStreamStatus], agent: LogAgentReport? = nil) {
    let report = ForwardingReport(time: context.clock.wall(), pid: 77, streams: streams, agent: agent)
    context.files.put(Self.forwarding, report.json.prettyText)
  }

  /// - Parameter age: by the monotonic clock.
  func putDeparture(_ source: Notice.Source, _ phase: DepartureReport.Phase, age: Duration) {
    let report = DepartureReport(
      source: source, phase: phase, reason: "a reason", time: context.clock.wall() + (.zero - age),
      uptime: context.clock.uptime() - age, bootID: Self.bootID)
    context.files.put("/var/lib/consul-bootstrap/departure.json", report.json.prettyText)
  }

  /// The sidecar's report on the identity of the cluster.
  func putIdentity(_ divergence: String?) {
    let report = ClusterIdentityReport(divergence: divergence, time: context.clock.wall())
    context.files.put("/var/lib/consul-bootstrap/identity.json", report.json.prettyText)
  }

  /// Adds a server to the configuration.
  func join(_ address: String) {
    joined.update { $0.append(address) }
    let list = joined.value.map { "\"\($0)\"" }.joined(separator: ", ")
    context.files.put(
      Self.configuration, #"{"datacenter": "DC1", "bind_addr": "10.0.1.10", "server": true, "retry_join": [\#(list)]}"#)
  }

  func status(_ expectations: NodeStatus.Expectations = .init()) async -> NodeStatus {
    await NodeStatus.observe(settings, context: context.context, expectations: expectations)
  }

  /// `message; hint: the hint` of each problem.
  func problems(_ expectations: NodeStatus.Expectations = .init()) async -> [String] {
    await status(expectations).problems.map { "\($0.message); hint: \($0.hint)" }
  }
}
