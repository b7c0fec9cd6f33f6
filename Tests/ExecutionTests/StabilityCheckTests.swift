import Base
import Consul
import Execution
import Model
import TestSupport
import Testing

/// Whether a server that joins may complete its launch hook: an instance refresh terminates an old server then.
@Suite(.timeLimit(.minutes(5))) struct StabilityCheckTests {
  private let test = TestContext()
  private let agent: FakeConsulAgent
  /// The last index of each server's log, by address.
  private let logs = Watched<[String: UInt64]>(["10.0.1.10": 1000, "10.0.1.11": 1000])

  init() {
    agent = FakeConsulAgent(test)
    agent.setCluster([("a", "10.0.1.10"), ("b", "10.0.1.11")])
    agent.set { $0.health = ["id-a": true, "id-b": true] }
  }

  @discardableResult
  private func verify(stabilization: Duration? = .seconds(1), timeout: Duration = .seconds(60)) async throws -> Health {
    let requirements = HealthRequirements(
      agentAddress: "127.0.0.1:8500", raftAddress: "10.0.1.11:8300", servers: 2, stabilization: stabilization, wan: nil,
      token: nil, runner: .systemd, timeout: timeout)
    let check = HealthCheck(
      requirements, context: test.context,
      lastLog: { [logs] address in
        guard let index = logs.value["\(address)"] else { throw RaftPortError.stream(.refused) }
        return LogPosition(term: 2, index: index)
      })
    return try await check.verify(agent: FixedMonitor())
  }

  private func reason() async -> String? {
    await #expect(throws: Failure.self) { try await verify() }?.message
      .split(separator: ": ", maxSplits: 1).last.map(String.init)
  }

  /// Autopilot looks at a server before it gets its vote: the boot need not wait once more.
  @Test func `a voter that was healthy before its vote costs no time`() async throws {
    agent.set { $0.servers[1].isVoter = false }
    async let health = verify()
    try await test.clock.sleep(for: .seconds(3))
    agent.set { $0.servers[1].isVoter = true }
    #expect(try await health.isVoter == true)
    #expect((Duration.seconds(3)...(.seconds(3.1))).contains(test.clock.uptime()))
  }

  /// A founder, or a run without a launch hook: nothing waits for it, and it is not asked for.
  @Test func `nothing is asked where nothing waits for it`() async throws {
    agent.set { $0.refusals["/v1/operator/autopilot/health"] = (500, "must not be asked") }
    try await verify(stabilization: nil)
    #expect(test.clock.uptime() == .zero)
  }

  @Test func `a voter that autopilot calls unhealthy is waited for`() async throws {
    agent.set { $0.health["id-b"] = false }
    #expect(await reason() == "autopilot does not call this server healthy yet")
    #expect(test.clock.uptime() == .seconds(60))
  }

  /// The other servers' health is not this one's.
  @Test func `only this server's health counts`() async throws {
    agent.set { $0.health["id-a"] = false }
    try await verify()
    #expect((Duration.seconds(1)...(.seconds(1.1))).contains(test.clock.uptime()))
  }

  /// The leader's clock may differ from this machine's by any time: what counts is for how long the check sees it.
  @Test(arguments: ["2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"])
  func `a voter is watched for the stabilization time`(stableSince: String) async throws {
    agent.set { $0.stableSince = stableSince }
    try await verify(stabilization: .seconds(3))
    #expect((Duration.seconds(3)...(.seconds(3.1))).contains(test.clock.uptime()))
  }

  @Test func `a voter whose health changes again and again is not stable`() async throws {
    test.transport.on("http://127.0.0.1:8500/v1/operator/autopilot/health") { [agent, clock = test.clock] _ in
      let now = clock.wall().iso8601
      agent.set { $0.stableSince = now }
      return nil
    }
    #expect(await reason() == "this server is not stable for 1.0 s yet")
  }

  // MARK: Without autopilot

  @Test func `without an answer of autopilot for ten seconds, the logs are compared`() async throws {
    agent.set { $0.health = [:] }
    try await verify()
    #expect((Duration.seconds(10)...(.seconds(10.5))).contains(test.clock.uptime()))
  }

  @Test(arguments: [403, 404])
  func `where autopilot is hidden or not there, the logs are compared at once`(status: Int) async throws {
    agent.set { $0.refusals["/v1/operator/autopilot/health"] = (status, "no") }
    try await verify()
    #expect(test.clock.uptime() == .zero)
  }

  /// Autopilot's own limit is 250 entries.
  @Test func `a log that is more than 250 entries behind is waited for`() async throws {
    agent.set { $0.refusals["/v1/operator/autopilot/health"] = (403, "no") }
    logs.update { $0["10.0.1.11"] = 749 }
    #expect(await reason() == "this server's log ends at 749, the leader's at 1000")
    logs.update { $0["10.0.1.11"] = 750 }
    try await verify()
  }

  @Test func `a log that cannot be read is not one that is long enough`() async throws {
    agent.set { $0.refusals["/v1/operator/autopilot/health"] = (500, "No cluster leader") }
    logs.update { $0["10.0.1.10"] = nil }
    #expect(await reason() == "cannot compare this server's log with the leader's: connection refused")
  }
}
