import Base
import Consul
import Model
import TestSupport
import Testing

@testable import Execution

/// Whether the agent that answers uses the configuration of the plan.
@Suite(.timeLimit(.minutes(5))) struct ExpectedAgentTests {
  private let test = TestContext()
  private let agent: FakeConsulAgent

  init() {
    agent = FakeConsulAgent(test)
    agent.setCluster([("i-1", "10.0.1.10"), ("i-2", "10.0.1.11"), ("i-3", "10.0.1.12")])
  }

  private func verify(_ requirements: HealthRequirements) async throws {
    _ = try await HealthCheck(requirements, context: test.context).verify(agent: FixedMonitor())
  }

  private func requirements(expecting document: JSONValue, bootstrap: Int64?) -> HealthRequirements {
    let merged = MergedConfiguration([.init(path: "/etc/consul.d/a.json", SecretDocument(document))])
    return HealthRequirements(
      agentAddress: "127.0.0.1:8500", raftAddress: "10.0.1.10:8300", servers: 3, wan: nil,
      expected: ExpectedAgent(merged, bootstrapExpect: bootstrap), token: nil, runner: .systemd, timeout: .seconds(1))
  }

  private static let planned: JSONValue = [
    "datacenter": "DC1", "node_name": "i-1", "server": true, "data_dir": "/data", "bind_addr": "10.0.1.10",
    "encrypt": "key",
  ]

  private func report(_ changes: JSONValue) {
    let report: JSONValue = [
      "Config": ["Datacenter": "dc1", "NodeName": "i-1", "Server": true],
      "DebugConfig": ["DataDir": "/data", "BindAddr": "10.0.1.10", "Bootstrap": false, "BootstrapExpect": 3],
    ]
    let changed = report.merging(changes)
    agent.set { state in
      state.nodeName = changed["Config"]?["NodeName"]?.string ?? ""
      state.agentSelf = changed.object ?? [:]
    }
  }

  @Test func `an agent that uses the plan is healthy`() async throws {
    report([:])
    try await verify(requirements(expecting: Self.planned, bootstrap: 3))
    report(["DebugConfig": ["Bootstrap": true, "BootstrapExpect": 0]])
    try await verify(requirements(expecting: Self.planned, bootstrap: 1))
    #expect(test.sink.all.isEmpty)
  }

  private static let differences: [(JSONValue, String)] = [
    (["Config": ["Datacenter": "dc2"]], "datacenter is dc2, not dc1"),
    (["Config": ["NodeName": "web"]], "node_name is web, not i-1"),
    (["Config": ["Server": false]], "server is false, not true"),
    (["DebugConfig": ["DataDir": "/opt/consul"]], "data_dir is /opt/consul, not /data"),
    (["DebugConfig": ["BindAddr": "0.0.0.0"]], "bind_addr is 0.0.0.0, not 10.0.1.10"),
    (["DebugConfig": ["BootstrapExpect": 0]], "bootstrap_expect is 0, not 3"),
    (["DebugConfig": ["Bootstrap": true]], "bootstrap_expect is 1, not 3"),
  ]

  @Test(arguments: differences)
  func `each value that the agent does not take from the plan is named`(_ change: JSONValue, _ line: String)
    async throws
  {
    report(change)
    // It is found before there is a leader: an agent with another bootstrap_expect never has one.
    agent.set { $0.leader = nil }
    await #expect(
      throws: Failure(
        .agentUnhealthy, "the Consul agent on 127.0.0.1:8500 does not use the planned configuration", details: [line],
        hint: "check the options of its command line, the other files of its configuration directory, "
          + "and whether another agent uses this port")
    ) { try await verify(requirements(expecting: Self.planned, bootstrap: 3)) }
    #expect(test.clock.uptime() == .zero)
  }

  @Test func `values that Consul computes, and those that it does not report, are not compared`() async throws {
    agent.set { state in
      state.nodeName = "i-1"
      state.agentSelf = ["Config": ["Datacenter": "dc1"], "DebugConfig": ["BindAddr": "10.0.1.10"]]
    }
    try await verify(
      requirements(expecting: ["bind_addr": "{{ GetPrivateIP }}", "data_dir": "/data", "server": true], bootstrap: 3))
  }

  @Test func `ACLs that hide the agent's configuration are logged, once`() async throws {
    report([:])
    agent.set { $0.refusals["/v1/agent/self"] = (403, "Permission denied") }
    try await verify(requirements(expecting: Self.planned, bootstrap: 3))
    #expect(
      test.sink.lines == [
        "info the agent does not report the configuration that it uses; it is not compared with the plan "
          + "reason=\"HTTP 403: Permission denied\""
      ])
  }

  @Test func `an agent that cannot be asked for its configuration is not healthy`() async throws {
    report([:])
    test.transport.on("http://127.0.0.1:8500/v1/agent/self") { _ in throw TransportError.refused }
    await #expect(
      throws: Failure(
        .agentUnhealthy,
        "the Consul agent is not healthy after 1.0 s: "
          + "cannot read the configuration that the agent uses: connection refused",
        hint: "compare `consul operator raft list-peers` with the servers, and check the agent's log")
    ) { try await verify(requirements(expecting: Self.planned, bootstrap: 3)) }
  }
}
