import Base
import Consul
import Model
import TestSupport
import Testing

@testable import Doctor
@testable import LogForwarding

/// What `status` reads, and what it does with what it cannot read. What is a problem is in `NodeProblemTests`.
@Suite(.timeLimit(.minutes(5))) struct NodeStatusTests {
  private let node = NodeFixture()
  private var context: TestContext { node.context }
  private var agent: FakeConsulAgent { node.agent }

  private func messages(forwarding: Bool = false) async -> [String] {
    await status(forwarding: forwarding).problems.map(\.message)
  }

  private func status(forwarding: Bool = false) async -> NodeStatus {
    var node = node
    if forwarding { node.settings.logs = [.init(source: .consul)] }
    return await node.status()
  }

  private func stream(_ change: (inout LogStreamStatus) -> Void = { _ in }) -> LogStreamStatus {
    var stream = LogStreamStatus(source: "consul", group: "/consul/dc1", stream: "i-0aaa/consul")
    change(&stream)
    return stream
  }

  // MARK: The agent

  @Test func `a healthy node has no problems`() async {
    node.putForwarding([stream()])
    let status = await status(forwarding: true)
    #expect(status.problems == [] && status.notes == [] && status.unknown == [])
    #expect(status.agent.leader == "10.0.1.10:8300" && status.agent.aliveServers?.count == 3)
    #expect(status.json["healthy"] == true && status.json["agent"]?["alive_servers"] == 3)
    #expect(status.json["agent"]?["alive_servers_reason"] == .null && status.json["forwarding_error"] == .null)
    #expect(status.json["problems"] == [] && status.json["hints"] == [])
    #expect(
      status.json["sidecar"]?["unit"] == "active" && status.json["sidecar"]?["age_seconds"] == 0
        && status.json["sidecar"]?["report"]?["pid"] == 77 && status.json["sidecar"]?["error"] == .null)
  }

  @Test func `a record that is not of this cluster is a problem`() async {
    let path = "/var/lib/consul-bootstrap/cluster-record.json"
    context.files.put(path, RememberedRecord(problem: "/consul/web/000001 is of cluster a, not b").text)
    #expect(await messages() == ["the cluster's record: /consul/web/000001 is of cluster a, not b"])
    context.files.put(path, "{")
    #expect(await messages().first?.hasPrefix("cannot read what the sidecar knows of the cluster's record: ") == true)
  }

  /// A restart of the agent asks whether it may leave, and a person's call ends with its own status.
  @Test(arguments: [(Notice.Source.stopping, 0), (.manual, 0), (.termination, 1), (.spot, 1)])
  func `what could not leave is a problem only where the instance ends`(source: Notice.Source, problems: Int) async {
    node.putDeparture(source, .kept, age: .seconds(3))
    let first = await status()
    #expect(first.problems.count == problems && first.departure?.phase == .kept)
    node.putDeparture(source, .kept, age: .seconds(31))
    let later = await status()
    #expect(later.problems.count == problems && later.departure?.phase == (problems == 0 ? nil : .kept))
  }

  @Test func `an agent that answers again has not left`() async {
    for source in [Notice.Source.stopping, .manual, .termination] {
      node.putDeparture(source, .left, age: .seconds(10))
      #expect(await status().departure?.phase == .left)
      node.putDeparture(source, .left, age: .seconds(31))
      #expect(await status().departure == nil)
    }
    agent.set { $0.failure = .refused }
    #expect(await status().departure?.phase == .left)
  }

  @Test func `an agent that does not answer is a problem`() async {
    agent.set { $0.failure = .refused }
    let status = await status()
    #expect(status.problems.map(\.message) == ["the agent does not answer on 127.0.0.1:8500: connection refused"])
    #expect(
      status.json["agent"] == [
        "address": "127.0.0.1:8500", "error": "connection refused", "configuration_error": .null, "leader": .null,
        "raft_peers": 0, "alive_servers": .null, "alive_servers_reason": "the agent does not answer",
        "server_versions": [:], "datacenter": .null,
      ])
    #expect(status.json["hints"]?.array?.count == 1)
  }

  /// A monitor calls it every few seconds: each request that hangs would add its timeout.
  @Test(arguments: ["/", "/v1/agent/members", "/v1/agent/self", "/v1/operator/raft/configuration"])
  func `what the agent does not answer takes two seconds at most`(_ path: String) async {
    context.transport.answer("http://127.0.0.1:8500\(path)", "[]", after: .seconds(60))
    _ = await status()
    #expect(context.clock.uptime() == .seconds(2))
  }

  /// Without a leader that request takes seven seconds on a real agent.
  @Test func `without a leader nothing waits for the raft configuration`() async {
    agent.set { $0.leader = nil }
    context.transport.answer("http://127.0.0.1:8500/v1/operator/raft/configuration", "{}", after: .seconds(7))
    #expect(await messages() == ["the agent knows no leader"])
    #expect(context.clock.uptime() == .zero)
  }

  @Test func `a command that hangs is a note after two seconds`() async {
    context.launcher.run("/bin/systemctl", ["show"], after: .seconds(60))
    let status = await status()
    #expect(status.problems == [] && context.clock.uptime() == .seconds(2))
    #expect(status.notes.count == 2 && status.notes[0].hasPrefix("cannot check the agent's process: `/bin/systemctl "))
    #expect(status.notes[1].hasPrefix("cannot check whether the sidecar runs: `/bin/systemctl "))
  }

  /// A time-out while listing the members was shown as ACLs, and the node as healthy.
  @Test func `members that cannot be listed are a problem with its reason`() async {
    context.transport.answer("http://127.0.0.1:8500\(NodeFixture.members)", "[]", after: .seconds(60))
    let status = await status()
    #expect(status.problems.map(\.message) == ["cannot count the alive servers: no answer in time"])
    #expect(status.json["healthy"] == false)
    #expect(status.json["agent"]?["alive_servers"] == .null)
    #expect(status.json["agent"]?["alive_servers_reason"] == "no answer in time")
  }

  @Test func `a failure of the agent while listing members is not taken for ACLs`() async {
    agent.set { $0.refusals[NodeFixture.members] = (500, "rpc error") }
    #expect(await messages() == ["cannot count the alive servers: HTTP 500: rpc error"])
  }

  /// Members that this program may not see are no sign of an unhealthy cluster, and none of a healthy one.
  @Test func `what ACLs hide is unknown, and no problem`() async {
    agent.set { $0.requiredToken = "another" }
    let refused = await status()
    #expect(refused.problems == [])
    #expect(
      refused.unknown == [
        "the alive servers", "the configuration that the agent uses", "the votes in the raft configuration",
        "the identity of the cluster",
      ])
    #expect(refused.json["agent"]?["alive_servers"] == .null && refused.json["unknown"]?.array?.count == 4)
    #expect(refused.json["agent"]?["alive_servers_reason"] == "hidden by ACLs")
    // Consul filters the list instead of refusing it where the token exists.
    agent.set {
      $0.requiredToken = nil
      $0.members = []
    }
    let filtered = await status()
    #expect(filtered.problems == [] && filtered.unknown == ["the alive servers"])
  }

  @Test func `the configuration names the agent's address and token`() async {
    context.files.put(
      NodeFixture.configuration,
      #"{"bind_addr": "10.0.1.10", "client_addr": "10.0.1.10", "acl": {"tokens": {"agent": "secret"}}}"#)
    let other = FakeConsulAgent(context, at: "10.0.1.10:8500") { $0.requiredToken = "secret" }
    other.setCluster([("a", "10.0.1.10")])
    let status = await status()
    #expect(status.agent.address == "10.0.1.10:8500" && status.agent.aliveServers?.count == 1)
    #expect(status.problems == [] && status.unknown == [])
  }

  /// The address and the token were guessed silently.
  @Test func `an agent's configuration that cannot be read is a problem`() async {
    context.files.put(NodeFixture.configuration, "{")
    #expect(
      await messages() == ["cannot read the agent's configuration: \(NodeFixture.configuration) is not JSON"])
    context.files.fail(.read, NodeFixture.configuration, errno: 13)
    let status = await status()
    let reason = "read \(NodeFixture.configuration): Permission denied"
    #expect(status.problems.map(\.message) == ["cannot read the agent's configuration: \(reason)"])
    #expect(status.json["agent"]?["configuration_error"] == .string(reason))
  }

  /// Only our own file was read: `status` asked an agent that another file had moved elsewhere, and called it dead.
  @Test func `another file of the directory names the agent's address, too`() async {
    context.files.put(NodeFixture.configuration, #"{"bind_addr": "10.0.1.10", "client_addr": "127.0.0.1"}"#)
    context.files.put("/etc/consul.d/z.hcl", "client_addr = \"10.0.1.10\"\nports { http = 8501 }")
    FakeConsulAgent(context, at: "10.0.1.10:8501").setCluster([("a", "10.0.1.10")])
    let status = await status()
    #expect(status.agent.address == "10.0.1.10:8501" && status.problems == [])
  }

  @Test func `another file that is not understood is a problem`() async {
    context.files.put(NodeFixture.configuration, #"{"server": true}"#)
    context.files.put("/etc/consul.d/z.hcl", "]")
    #expect(
      await messages() == ["cannot read the agent's configuration: /etc/consul.d/z.hcl, line 1: a key expected"])
  }

  @Test func `an agent that does not use its configuration is a problem`() async {
    context.files.put(
      NodeFixture.configuration, #"{"server": true, "node_name": "a", "data_dir": "/data", "bootstrap_expect": 3}"#)
    context.files.put("/etc/consul.d/z.json", #"{"Datacenter": "DC2"}"#)
    agent.set { state in
      state.nodeName = "a"
      state.agentSelf = [
        "Config": ["Datacenter": "dc1", "Server": true],
        "DebugConfig": ["DataDir": "/opt/consul", "BootstrapExpect": 0],
      ]
    }
    let status = await status()
    #expect(
      status.problems.map(\.message) == [
        "the agent does not use its configuration: datacenter is dc1, not dc2",
        "the agent does not use its configuration: data_dir is /opt/consul, not /data",
      ])
    #expect(status.json["healthy"] == false)
    agent.set { $0.refusals["/v1/agent/self"] = (403, "Permission denied") }
    #expect(await messages() == [])
  }

  // MARK: Log forwarding

  @Test func `without a report log forwarding is a problem only where it is expected`() async {
    #expect(await messages(forwarding: true) == ["logs are not forwarded: no sidecar has reported"])
    #expect(await messages() == [])
  }

  /// A report that cannot be read counted as none, and without --log as healthy.
  @Test func `a report that cannot be read or parsed is a problem of its own`() async {
    context.files.put(NodeFixture.forwarding, #"{"time": "#)
    let truncated = await messages()
    #expect(truncated.count == 1)
    #expect(
      truncated[0].hasPrefix(
        "cannot read the sidecar's report on log forwarding: \(NodeFixture.forwarding) is not JSON: "))
    context.files.put(NodeFixture.forwarding, #"{"time": "yesterday"}"#)
    #expect(
      await messages() == [
        "cannot read the sidecar's report on log forwarding: \(NodeFixture.forwarding) is not a report on log "
          + "forwarding"
      ])
    context.files.fail(.read, NodeFixture.forwarding, errno: 5)
    let status = await status(forwarding: true)
    let reason = "read \(NodeFixture.forwarding): Input/output error"
    #expect(
      status.problems.map(\.message) == ["cannot read the sidecar's report on log forwarding: \(reason)"])
    #expect(status.json["forwarding"] == .null && status.json["forwarding_error"] == .string(reason))
    #expect(status.json["healthy"] == false)
  }

  @Test func `a parked and a stalled stream are problems, one that is retried is none`() async throws {
    node.putForwarding([
      stream {
        $0.isParked = true
        $0.lastError = "access denied"
      },
      stream {
        $0.waited = .seconds(300)
        $0.lastError = "throttled"
      },
      stream { $0.lastError = "throttled" },
    ])
    #expect(await messages() == ["consul is parked: access denied", "consul is stalled: throttled"])
  }

  @Test func `a report that is older than three intervals is a problem`() async throws {
    node.putForwarding([stream()])
    try await context.clock.sleep(for: .seconds(45))
    node.putSidecar()
    #expect(await messages() == [])
    try await context.clock.sleep(for: .seconds(1))
    #expect(await messages() == ["the sidecar has not reported since 2026-01-01T00:00:00.000Z"])
  }

  @Test func `an external agent that does not run is a problem`() async {
    node.putForwarding([], agent: LogAgentReport(name: "awslogs", isRunning: false, streams: []))
    #expect(await messages() == ["awslogs is not running"])
  }
}
