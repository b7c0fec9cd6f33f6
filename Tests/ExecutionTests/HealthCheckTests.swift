import Base
import Model
import TestSupport
import Testing

@testable import Execution

/// What is missing, each thing by itself, as the user reads it.
@Suite(.timeLimit(.minutes(5))) struct HealthCheckTests {
  private let test = TestContext()
  private let agent: FakeConsulAgent
  private static let timeout = Duration.seconds(1)

  init() {
    agent = FakeConsulAgent(test)
    agent.setCluster([("a", "10.0.1.10"), ("b", "10.0.1.11"), ("c", "10.0.1.12")])
  }

  private func requirements(
    raftAddress: String? = "10.0.1.10:8300", servers: Int = 3, wan: HealthRequirements.WAN? = nil,
    token: Secret? = nil, timeout: Duration = timeout
  ) -> HealthRequirements {
    HealthRequirements(
      agentAddress: "127.0.0.1:8500", raftAddress: raftAddress, servers: servers, wan: wan, token: token,
      runner: .systemd, timeout: timeout)
  }

  private func wan(isRequired: Bool) throws -> HealthRequirements.WAN {
    let addresses = try ["10.0.1.10", "10.0.2.10"].map { try #require(IPv4Address($0)) }
    return HealthRequirements.WAN(addresses: Set(addresses), isRequired: isRequired)
  }

  @discardableResult
  private func verify(_ requirements: HealthRequirements, _ monitor: FixedMonitor = FixedMonitor()) async throws
    -> Health
  {
    try await HealthCheck(requirements, context: test.context).verify(agent: monitor)
  }

  private func unhealthy(_ missing: String, details: [String] = [], hint: String) -> Failure {
    Failure(
      .agentUnhealthy, "the Consul agent is not healthy after 1.0 s: \(missing)", details: details, hint: hint)
  }

  private static let leaderHint =
    "allow 8300 tcp and 8301 tcp and udp between the servers in the security groups; if the cluster has lost its "
    + "quorum, run consul-bootstrap recover on a server that has data"
  private static let peersHint = "compare `consul operator raft list-peers` with the servers, and check the agent's log"

  @Test func `a healthy agent is reported at its first answer`() async throws {
    let health = try await verify(requirements())
    #expect(health == Health(agentAnswers: true, leader: "10.0.1.10:8300", isVoter: true, servers: 3, wanServers: nil))
    #expect(test.clock.uptime() == .zero)
    #expect(test.sink.all.isEmpty)
  }

  @Test func `an agent that refuses connections is named with the cause and its own lines`() async throws {
    agent.set { $0.failure = .refused }
    let monitor = FixedMonitor(lines: ["==> Starting Consul agent...", "[ERR] agent: bind: address already in use"])
    await #expect(
      throws: unhealthy(
        "the agent does not answer on 127.0.0.1:8500: connection refused", details: monitor.lines,
        hint: "check the agent's output above for a port in use or an unknown configuration key")
    ) { try await verify(requirements(), monitor) }
  }

  @Test func `an agent that hangs is not waited for longer than the timeout and one request`() async throws {
    test.transport.silence("http://127.0.0.1:8500/")
    let failure = await #expect(throws: Failure.self) { try await verify(requirements(timeout: .seconds(3))) }
    #expect(
      failure?.message == "the Consul agent is not healthy after 4.0 s: "
        + "the agent does not answer on 127.0.0.1:8500: no connection in time")
  }

  // MARK: The identity of the cluster

  private static let diverged =
    "this server has diverged from its cluster: its own data is of cluster B, the leader's is of A"

  private func diverge() {
    agent.set { state in
      (state.identity, state.ownIdentity) = (["cluster": "A", "epoch": 1], ["cluster": "B", "epoch": 1])
    }
  }

  /// raft made it a voter of the cluster, with its old data and without the cluster's.
  @Test func `a server with the data of another cluster is not healthy`() async throws {
    diverge()
    await #expect(
      throws: unhealthy(
        Self.diverged,
        hint: "the leader's data is the cluster's: unless this server's is needed, stop its agent, rename its data "
          + "directory, and start the agent: it joins empty")
    ) { try await verify(requirements()) }
  }

  @Test func `data that the leader replaces in time is healthy`() async throws {
    diverge()
    async let health = verify(requirements(timeout: .seconds(30)))
    try await test.clock.sleep(for: .seconds(5))
    agent.set { $0.ownIdentity = nil }
    #expect(try await health.divergence == nil)
    #expect(test.clock.uptime() >= .seconds(5))
  }

  @Test func `a leader that does not answer for its data is waited for`() async throws {
    agent.set { $0.refusals["/v1/kv/consul-bootstrap/cluster"] = (500, "No cluster leader") }
    let failure = await #expect(throws: Failure.self) { try await verify(requirements()) }
    #expect(failure?.message.hasSuffix("the leader's: HTTP 500: No cluster leader") == true)
  }

  @Test func `an identity that does not exist yet or that ACLs hide is not waited for`() async throws {
    agent.set { $0.identity = nil }
    try await verify(requirements())
    agent.set { $0.refusals["/v1/kv/consul-bootstrap/cluster"] = (403, "Permission denied") }
    try await verify(requirements())
    #expect(test.clock.uptime() == .zero)
  }

  @Test func `founders of a new cluster have no data to compare`() async throws {
    diverge()
    let founder = HealthRequirements(
      agentAddress: "127.0.0.1:8500", raftAddress: "10.0.1.10:8300", servers: 3, bootstrapExpect: 3, wan: nil,
      token: nil, runner: .systemd, timeout: Self.timeout)
    #expect(try await verify(founder).divergence == nil)
  }

  @Test func `the hint for a server without a leader names ports and the recovery`() async throws {
    agent.set { $0.leader = nil }
    await #expect(throws: unhealthy("the agent knows no leader", hint: Self.leaderHint)) {
      try await verify(requirements(wan: wan(isRequired: true)))
    }
  }

  @Test func `the hint for a client without a leader names the ports to the servers`() async throws {
    agent.set { ($0.leader, $0.peers) = (nil, []) }
    await #expect(
      throws: unhealthy(
        "the agent knows no leader",
        hint: "allow 8301 tcp and udp and 8300 tcp to the servers in the security groups")
    ) { try await verify(requirements(raftAddress: nil, servers: 0)) }
  }

  @Test func `a client is healthy with a leader alone`() async throws {
    agent.set { $0.refusals = ["/v1/operator/raft/configuration": (500, "not for clients")] }
    let health = try await verify(requirements(raftAddress: nil, servers: 0))
    #expect(health.leader == "10.0.1.10:8300" && test.clock.uptime() == .zero)
  }

  /// A non-voter counts for nothing in an election.
  @Test func `a server that is no voter yet is not healthy`() async throws {
    agent.set { $0.servers[0].isVoter = false }
    await #expect(
      throws: unhealthy("this server (10.0.1.10:8300) is not a raft voter", hint: Self.peersHint)
    ) { try await verify(requirements()) }
  }

  @Test func `a server that raft does not list is not healthy`() async throws {
    agent.set { $0.servers[0].address = "10.0.1.99:8300" }
    await #expect(
      throws: unhealthy("this server (10.0.1.10:8300) is not a raft voter", hint: Self.peersHint)
    ) { try await verify(requirements()) }
  }

  @Test func `too few servers are counted`() async throws {
    agent.setCluster([("a", "10.0.1.10"), ("b", "10.0.1.11")])
    await #expect(
      throws: unhealthy("2 of 3 servers are in the raft configuration", hint: Self.peersHint)
    ) { try await verify(requirements()) }
  }

  /// A refused raft configuration once counted as no servers at all, without the reason.
  @Test func `a raft configuration that cannot be read is named with its cause`() async throws {
    agent.set { $0.refusals = ["/v1/operator/raft/configuration": (500, "rpc error: no path to datacenter")] }
    await #expect(
      throws: unhealthy(
        "cannot read the raft configuration: HTTP 500: rpc error: no path to datacenter", hint: Self.peersHint)
    ) { try await verify(requirements()) }
  }

  @Test func `where ACLs hide the raft configuration, the peers count and the vote is unknown`() async throws {
    agent.set { $0.requiredToken = "management" }
    let health = try await verify(requirements())
    #expect(health == Health(agentAnswers: true, leader: "10.0.1.10:8300", isVoter: nil, servers: 3))
  }

  @Test func `where ACLs hide the raft configuration, a server that is no peer is not healthy`() async throws {
    agent.set { state in
      state.requiredToken = "management"
      state.peers = ["10.0.1.11:8300", "10.0.1.12:8300"]
    }
    await #expect(
      throws: unhealthy(
        "this server (10.0.1.10:8300) is not a raft voter; 2 of 3 servers are in the raft configuration",
        hint: Self.peersHint)
    ) { try await verify(requirements()) }
  }

  @Test func `the agent's own token opens the raft configuration`() async throws {
    agent.set { $0.requiredToken = "agent" }
    let health = try await verify(requirements(token: Secret("agent")))
    #expect(health.isVoter == true)
  }

  private static let wanHint =
    "allow 8302 tcp and udp and 8300 tcp between the servers of all zones, and give all of them the same gossip key"

  @Test func `a required WAN pool is waited for, and dead members do not count`() async throws {
    agent.set { $0.wanMembers = [.init("a.z1", "10.0.1.10"), .init("b.z2", "10.0.2.10", status: 4)] }
    await #expect(
      throws: unhealthy("1 of 2 servers are in the WAN pool", hint: Self.wanHint)
    ) { try await verify(requirements(wan: wan(isRequired: true))) }
  }

  @Test func `a required WAN pool that cannot be listed is named with its cause`() async throws {
    agent.set { $0.refusals = ["/v1/agent/members": (500, "serf is shutting down")] }
    await #expect(
      throws: unhealthy("cannot list the WAN pool: HTTP 500: serf is shutting down", hint: Self.wanHint)
    ) { try await verify(requirements(wan: wan(isRequired: true))) }
  }

  /// The outage of one zone must not fail boots in another.
  @Test func `a WAN pool that is only reported gets three seconds`() async throws {
    agent.set { $0.wanMembers = [.init("a.z1", "10.0.1.10")] }
    let health = try await verify(requirements(wan: wan(isRequired: false), timeout: .seconds(1)))
    #expect(health.wanServers == 1)
    let waited = test.clock.uptime()
    #expect(waited >= .seconds(3) && waited < .seconds(3.1), "\(waited)")
    #expect(Set(test.sink.progress.map(\.message)) == ["waiting for the agent: 1 of 2 servers are in the WAN pool"])
  }

  @Test func `a WAN pool that is only reported is not waited for once it is complete`() async throws {
    agent.set { $0.wanMembers = [.init("a.z1", "10.0.1.10")] }
    async let health = verify(requirements(wan: wan(isRequired: false)))
    try await test.clock.sleep(for: .milliseconds(500))
    agent.set { $0.wanMembers.append(.init("b.z2", "10.0.2.10")) }
    #expect(try await health.wanServers == 2)
    #expect(test.clock.uptime() <= .milliseconds(580))
  }

  @Test func `a WAN pool that is only reported and cannot be listed does not fail the boot`() async throws {
    agent.set { $0.refusals = ["/v1/agent/members": (500, "serf is shutting down")] }
    let health = try await verify(requirements(wan: wan(isRequired: false)))
    #expect(health.isVoter == true && health.wanServers == nil)
  }

  @Test func `several missing things are named in the order in which they come about`() async throws {
    agent.set { state in
      state.servers = [.init("a", "10.0.1.10:8300", isVoter: false)]
      state.wanMembers = []
    }
    await #expect(
      throws: unhealthy(
        "this server (10.0.1.10:8300) is not a raft voter; 1 of 3 servers are in the raft configuration; "
          + "0 of 2 servers are in the WAN pool", hint: Self.peersHint)
    ) { try await verify(requirements(wan: wan(isRequired: true))) }
  }

  @Test func `a boot is reported step by step until it is healthy`() async throws {
    agent.set { state in
      state.failure = .refused
      state.servers[0].isVoter = false
    }
    async let health = verify(requirements(timeout: .seconds(60)))
    try await test.sink.record(containing: "connection refused")
    agent.set { state in
      state.failure = nil
      state.leader = nil
    }
    try await test.sink.record(containing: "no leader")
    agent.set { $0.leader = "10.0.1.11:8300" }
    try await test.sink.record(containing: "not a raft voter")
    agent.set { $0.servers[0].isVoter = true }
    #expect(try await health.isVoter == true)
    var seen: [String] = []
    for message in test.sink.progress.map(\.message) where seen.last != message { seen.append(message) }
    #expect(
      seen == [
        "waiting for the agent: the agent does not answer on 127.0.0.1:8500: connection refused",
        "waiting for the agent: the agent knows no leader",
        "waiting for the agent: this server (10.0.1.10:8300) is not a raft voter",
      ])
  }
}
