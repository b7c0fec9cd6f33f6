import Base
import Consul
import Model
import TestSupport
import Testing

@testable import Doctor
@testable import LogForwarding

@Suite(.timeLimit(.minutes(5))) struct NodeStatusTests {
  private let context = TestContext()
  private let agent: FakeConsulAgent
  private var settings = Settings()

  private static let members = "/v1/agent/members"
  private static let report = "/var/lib/consul-bootstrap/log-status.json"
  private static let configuration = "/etc/consul.d/00-consul-bootstrap.json"

  init() {
    agent = FakeConsulAgent(context)
    agent.setCluster([("a", "10.0.1.10"), ("b", "10.0.1.11"), ("c", "10.0.1.12")])
  }

  private func status(forwarding: Bool = false) async -> NodeStatus {
    var settings = settings
    if forwarding { settings.logs = [.init(source: .consul)] }
    return await NodeStatus.observe(settings, context: context.context)
  }

  private func problems(forwarding: Bool = false) async -> [String] { await status(forwarding: forwarding).problems }

  private func stream(_ change: (inout LogStreamStatus) -> Void = { _ in }) -> LogStreamStatus {
    var stream = LogStreamStatus(source: "consul", group: "/consul/dc1", stream: "i-0aaa/consul")
    change(&stream)
    return stream
  }

  private func put(_ streams: [LogStreamStatus], agent: LogAgentReport? = nil) {
    let report = ForwardingReport(time: context.clock.wall(), pid: 77, streams: streams, agent: agent)
    context.files.put(Self.report, report.json.prettyText)
  }

  // MARK: The agent

  @Test func `a healthy node has no problems`() async {
    put([stream()])
    let status = await status(forwarding: true)
    #expect(status.problems == [])
    #expect(status.agent.leader == "10.0.1.10:8300" && status.agent.aliveServers == .known(3))
    #expect(status.json["healthy"] == true && status.json["agent"]?["alive_servers"] == 3)
    #expect(status.json["agent"]?["alive_servers_reason"] == .null && status.json["forwarding_error"] == .null)
  }

  @Test func `a record that is not of this cluster is a problem`() async {
    let path = "/var/lib/consul-bootstrap/cluster-record.json"
    context.files.put(path, RememberedRecord(problem: "/consul/web/000001 is of cluster a, not b").text)
    #expect(await problems() == ["the cluster's record: /consul/web/000001 is of cluster a, not b"])
    context.files.put(path, "{")
    #expect(await problems().first?.hasPrefix("cannot read what the sidecar knows of the cluster's record: ") == true)
  }

  @Test func `an agent that does not answer is a problem`() async {
    agent.set { $0.failure = .refused }
    let status = await status()
    #expect(status.problems == ["the agent does not answer on 127.0.0.1:8500: connection refused"])
    #expect(
      status.json["agent"] == [
        "address": "127.0.0.1:8500", "error": "connection refused", "configuration_error": .null, "leader": .null,
        "raft_peers": 0, "alive_servers": .null, "alive_servers_reason": "the agent does not answer",
      ])
  }

  @Test func `an agent without a leader is a problem`() async {
    agent.set { $0.leader = nil }
    #expect(await problems() == ["the agent knows no leader"])
  }

  @Test func `fewer living servers than a quorum are a problem, a quorum is none`() async {
    agent.set { for index in 1...2 { $0.members[index].status = 4 } }
    #expect(await problems() == ["1 of 3 servers are alive, a quorum is 2"])
    agent.set { $0.members[1].status = 1 }
    #expect(await problems() == [])
  }

  /// A time-out while listing the members was shown as ACLs, and the node as healthy.
  @Test func `members that cannot be listed are a problem with its reason`() async {
    context.transport.answer("http://127.0.0.1:8500\(Self.members)", "[]", after: .seconds(60))
    let status = await status()
    #expect(status.agent.aliveServers == .unknown(reason: "no answer in time"))
    #expect(status.problems == ["cannot count the alive servers: no answer in time"])
    #expect(status.json["healthy"] == false)
    #expect(status.json["agent"]?["alive_servers"] == .null)
    #expect(status.json["agent"]?["alive_servers_reason"] == "no answer in time")
  }

  @Test func `a failure of the agent while listing members is not taken for ACLs`() async {
    agent.set { $0.refusals[Self.members] = (500, "rpc error") }
    #expect(await problems() == ["cannot count the alive servers: HTTP 500: rpc error"])
  }

  /// Members that this program may not see are no sign of an unhealthy cluster: the agent knows a leader.
  @Test func `members that ACLs hide are no problem`() async {
    agent.set { $0.refusals[Self.members] = (403, "Permission denied") }
    let refused = await status()
    #expect(refused.agent.aliveServers == .hiddenByACLs && refused.problems == [])
    #expect(refused.json["agent"]?["alive_servers"] == .null)
    #expect(refused.json["agent"]?["alive_servers_reason"] == "hidden by ACLs")
    // Consul filters the list instead of refusing it where the token exists.
    agent.set {
      $0.refusals = [:]
      $0.members = []
    }
    let filtered = await status()
    #expect(filtered.agent.aliveServers == .hiddenByACLs && filtered.problems == [])
  }

  @Test func `the configuration names the agent's address and token`() async {
    context.files.put(
      Self.configuration,
      #"{"bind_addr": "10.0.1.10", "client_addr": "10.0.1.10", "acl": {"tokens": {"agent": "secret"}}}"#)
    let other = FakeConsulAgent(context, at: "10.0.1.10:8500") { $0.requiredToken = "secret" }
    other.setCluster([("a", "10.0.1.10")])
    let status = await status()
    #expect(status.agent.address == "10.0.1.10:8500" && status.agent.aliveServers == .known(1))
    #expect(status.problems == [])
  }

  /// The address and the token were guessed silently.
  @Test func `an agent's configuration that cannot be read is a problem`() async {
    context.files.put(Self.configuration, "{")
    #expect(
      await problems() == ["cannot read the agent's configuration: \(Self.configuration) is not JSON"])
    context.files.fail(.read, Self.configuration, errno: 13)
    let status = await status()
    let reason = "read \(Self.configuration): Permission denied"
    #expect(status.problems == ["cannot read the agent's configuration: \(reason)"])
    #expect(status.json["agent"]?["configuration_error"] == .string(reason))
  }

  /// Only our own file was read: `status` asked an agent that another file had moved elsewhere, and called it dead.
  @Test func `another file of the directory names the agent's address, too`() async {
    context.files.put(Self.configuration, #"{"bind_addr": "10.0.1.10", "client_addr": "127.0.0.1"}"#)
    context.files.put("/etc/consul.d/z.hcl", "client_addr = \"10.0.1.10\"\nports { http = 8501 }")
    FakeConsulAgent(context, at: "10.0.1.10:8501").setCluster([("a", "10.0.1.10")])
    let status = await status()
    #expect(status.agent.address == "10.0.1.10:8501" && status.problems == [])
  }

  @Test func `another file that is not understood is a problem`() async {
    context.files.put(Self.configuration, "{}")
    context.files.put("/etc/consul.d/z.hcl", "]")
    #expect(
      await problems() == ["cannot read the agent's configuration: /etc/consul.d/z.hcl, line 1: a key expected"])
  }

  @Test func `an agent that does not use its configuration is a problem`() async {
    context.files.put(
      Self.configuration, #"{"server": true, "node_name": "a", "data_dir": "/data", "bootstrap_expect": 3}"#)
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
      status.problems == [
        "the agent does not use its configuration: datacenter is dc1, not dc2",
        "the agent does not use its configuration: data_dir is /opt/consul, not /data",
      ])
    #expect(status.json["healthy"] == false)
    agent.set { $0.refusals["/v1/agent/self"] = (403, "Permission denied") }
    #expect(await problems() == [])
  }

  // MARK: Log forwarding

  @Test func `without a report log forwarding is a problem only where it is expected`() async {
    #expect(await problems(forwarding: true) == ["logs are not forwarded: no sidecar has reported"])
    #expect(await problems() == [])
  }

  /// A report that cannot be read counted as none, and without --log as healthy.
  @Test func `a report that cannot be read or parsed is a problem of its own`() async {
    context.files.put(Self.report, #"{"time": "#)
    let truncated = await problems()
    #expect(truncated.count == 1)
    #expect(
      truncated[0].hasPrefix("cannot read the sidecar's report on log forwarding: \(Self.report) is not JSON: "))
    context.files.put(Self.report, #"{"time": "yesterday"}"#)
    #expect(
      await problems() == [
        "cannot read the sidecar's report on log forwarding: \(Self.report) is not a report on log forwarding"
      ])
    context.files.fail(.read, Self.report, errno: 5)
    let status = await status(forwarding: true)
    let reason = "read \(Self.report): Input/output error"
    #expect(status.problems == ["cannot read the sidecar's report on log forwarding: \(reason)"])
    #expect(status.json["forwarding"] == .null && status.json["forwarding_error"] == .string(reason))
    #expect(status.json["healthy"] == false)
  }

  @Test func `a parked and a stalled stream are problems, one that is retried is none`() async throws {
    put([
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
    #expect(await problems() == ["consul is parked: access denied", "consul is stalled: throttled"])
  }

  @Test func `a report that is older than a minute is a problem`() async throws {
    put([stream()])
    try await context.clock.sleep(for: .seconds(60))
    #expect(await problems() == [])
    try await context.clock.sleep(for: .seconds(1))
    #expect(await problems() == ["the sidecar has not reported since 2026-01-01T00:00:00.000Z"])
  }

  @Test func `an external agent that does not run is a problem`() async {
    put([], agent: LogAgentReport(name: "awslogs", isRunning: false, streams: []))
    let problems = await problems()
    #expect(problems == ["awslogs is not running"])
  }
}
