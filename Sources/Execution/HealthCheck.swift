package import Base
internal import Consul
package import Model

/// Polls a freshly started agent until it is healthy.
package struct HealthCheck: Sendable {
  /// Looks again at how many servers there are, while they wait for different numbers of them, and restarts this agent
  /// with another number if that is right.
  /// - Returns: the requirements that replace the present ones; nil if they stay.
  package typealias Agreement = @Sendable () async throws -> HealthRequirements?

  private var requirements: HealthRequirements
  private let context: RuntimeContext
  private let agreement: Agreement?

  package init(_ requirements: HealthRequirements, context: RuntimeContext, agreement: Agreement? = nil) {
    self.requirements = requirements
    self.context = context
    self.agreement = agreement
  }

  /// A tuned election takes little more than a second: polls are frequent until then, and less frequent afterwards.
  private static let eagerBackoff = Backoff(base: .milliseconds(40), cap: .milliseconds(80))
  private static let eagerPeriod = Duration.seconds(5)
  private static let backoff = Backoff(base: .milliseconds(500), cap: .milliseconds(500))
  /// A client forwards the request to a server: a fleet of clients that boot at once must not overload its servers.
  private static let clientBackoff = Backoff(base: .milliseconds(300), cap: .seconds(2))
  /// Without a leader after this long, and then each time after it, the servers' numbers are compared: a tuned election
  /// takes little more than a second, and servers that look again together have different numbers for a moment.
  private static let agreementInterval = Duration.seconds(2)
  /// Of one request. The agent is on this machine, and a busy machine at boot is slow.
  private static let requestTimeout = Duration.seconds(2)
  /// Grace for a WAN pool that is only reported: a tuned join takes one or two seconds.
  private static let wanGrace = Duration.seconds(3)

  /// Waits until nothing that is required is missing, at most for the timeout of the requirements, and logs what is.
  /// - Parameter agent: knows why the agent does not start. Once the agent has answered, only the timeout ends the
  ///   wait.
  /// - Throws: `Failure` with status 15 or 16, or `CancellationError`.
  package func verify(agent: any AgentMonitor) async throws -> Health {
    var check = self
    return try await check.poll(until: context.uptime() + requirements.timeout, agent)
  }

  private mutating func poll(until deadline: Duration, _ agent: any AgentMonitor) async throws -> Health {
    let start = context.uptime()
    var comparedAt = start, conflict: [String] = []
    var generator = SystemRandomNumberGenerator()
    var hasAnswered = false
    var healthySince: Duration?
    var attempt = 0
    var unconfirmed = requirements.expected
    while true {
      let health = try await poll()
      hasAnswered = hasAnswered || health.agentAnswers
      var missing = health.missing(requirements)
      if health.agentAnswers, health.leader == nil, context.uptime() - comparedAt >= Self.agreementInterval {
        let before = requirements
        conflict = try await compareNumbers()
        comparedAt = context.uptime()
        // An agent that has been restarted with another number is another agent.
        if requirements != before { unconfirmed = requirements.expected }
      }
      if health.leader == nil { missing += conflict }
      if health.agentAnswers, let expected = unconfirmed {
        if let error = try await compare(expected) { missing.append(error) } else { unconfirmed = nil }
      }
      let now = context.uptime(), elapsed = now - start
      var pause = backoff(after: elapsed).halfJitter(attempt, using: &generator)
      attempt += 1
      if missing.isEmpty {
        let since = healthySince ?? now
        healthySince = since
        guard let reported = requirements.wan.flatMap(health.missingServers), now - since < Self.wanGrace else {
          return health
        }
        missing = [reported]
      } else {
        if !hasAnswered, let reason = await agent.crashReason() {
          throw notStarted(reason, await agent.lastLines())
        }
        guard now < deadline else {
          throw unhealthy(health, missing, after: elapsed, await agent.lastLines(), disagree: !conflict.isEmpty)
        }
        // The last poll is at the timeout.
        pause = min(pause, deadline - now)
      }
      context.log.progress(
        "waiting for the agent: \(missing.joined(separator: "; "))", ["elapsed": .string(elapsed.humanReadable)])
      try await context.clock.sleep(for: pause)
    }
  }

  /// - Returns: the servers that wait for another number than this agent, for people; empty if there are none.
  private mutating func compareNumbers() async throws -> [String] {
    guard let own = requirements.bootstrapExpect else { return [] }
    let others: [SerfMember]
    do {
      others = try await client.members(wan: false).filter { member in
        member.isAlive && member.isServer && member.bootstrapExpect.map { $0 != Int64(own) } ?? false
      }
    } catch is AgentError {
      return []
    }
    guard !others.isEmpty else { return [] }
    let list = others.map { "\($0.name) has \($0.bootstrapExpect ?? 0)" }.sorted().joined(separator: ", ")
    let conflict = "bootstrap_expect is \(own) here, but \(list)"
    context.log.progress("the servers disagree: \(conflict)", [:])
    do {
      if let new = try await agreement?() { requirements = new }
    } catch let failure as Failure {
      context.log.warning(
        "cannot look again at how many servers there are", ["reason": .string(failure.explanation)])
    }
    return [conflict]
  }

  private func backoff(after elapsed: Duration) -> Backoff {
    if requirements.raftAddress == nil { return Self.clientBackoff }
    return elapsed < Self.eagerPeriod ? Self.eagerBackoff : Self.backoff
  }

  // MARK: Failures

  private func notStarted(_ reason: String, _ lines: [String]) -> Failure {
    Failure(
      .agentNotStarted, "the Consul agent does not start: \(reason)", details: relevantLogLines(of: lines),
      hint: "fix what the agent's output above reports, and run consul-bootstrap again")
  }

  private func unhealthy(
    _ health: Health, _ missing: [String], after elapsed: Duration, _ lines: [String], disagree: Bool
  ) -> Failure {
    Failure(
      .agentUnhealthy,
      "the Consul agent is not healthy after \(elapsed.humanReadable): \(missing.joined(separator: "; "))",
      details: relevantLogLines(of: lines), hint: disagree ? "start all servers with the same --expect" : hint(health))
  }

  private func hint(_ health: Health) -> String {
    if !health.agentAnswers {
      return "check the agent's output above for a port in use or an unknown configuration key"
    }
    if health.leader == nil {
      if requirements.raftAddress == nil {
        return "allow 8301 tcp and udp and 8300 tcp to the servers in the security groups"
      }
      return "allow 8300 tcp and 8301 tcp and udp between the servers in the security groups; "
        + "if the cluster has lost its quorum, follow \"Outage Recovery\" in the Consul documentation"
    }
    let raftIsComplete =
      health.errors.raftConfiguration == nil && health.isVoter != false && health.servers >= requirements.servers
    if raftIsComplete, requirements.wan?.isRequired == true {
      return "allow 8302 tcp and udp and 8300 tcp between the servers of all zones, "
        + "and give all of them the same gossip key"
    }
    return "compare `consul operator raft list-peers` with the servers, and check the agent's log"
  }

  // MARK: The configuration that the agent uses

  /// Compares what the agent reports of itself with the plan, as soon as it answers: an agent that ignores the plan
  /// would wait for a leader in vain, or be healthy in another cluster.
  /// - Returns: why the agent cannot be asked now; nil if it uses the plan, or does not report what it uses.
  /// - Throws: `Failure` with status 16 for a difference, or `CancellationError`.
  private func compare(_ expected: ExpectedAgent) async throws -> String? {
    let agent: RunningAgent
    do {
      agent = try await client.runningAgent()
    } catch AgentError.transport(let error) {
      return "cannot read the configuration that the agent uses: \(error.explanation)"
    } catch let error as AgentError {
      context.log.info(
        "the agent does not report the configuration that it uses; it is not compared with the plan",
        ["reason": .string(error.explanation)])
      return nil
    }
    let differences = expected.differences(from: agent)
    guard !differences.isEmpty else { return nil }
    throw Failure(
      .agentUnhealthy, "the Consul agent on \(requirements.agentAddress) does not use the planned configuration",
      details: differences.map(\.description),
      hint: "check the options of its command line, the other files of its configuration directory, "
        + "and whether another agent uses this port")
  }

  // MARK: One poll

  private var client: AgentClient {
    AgentClient(
      address: requirements.agentAddress, token: requirements.token, transport: context.transport,
      timeout: Self.requestTimeout)
  }

  /// What the agent does not answer is in `Health.errors`, for the next poll to try again.
  /// - Throws: `CancellationError`.
  private func poll() async throws -> Health {
    let client = client
    var health = Health()
    let status: ClusterStatus
    do {
      status = try await client.clusterStatus()
    } catch let error as AgentError {
      health.errors.agent = error.explanation
      return health
    }
    health.agentAnswers = true
    health.leader = status.leader
    guard status.leader != nil, let raftAddress = requirements.raftAddress else { return health }
    do {
      let servers = try await client.raftConfiguration()
      health.servers = servers.count
      health.isVoter = servers.contains { $0.address == raftAddress && $0.isVoter }
    } catch AgentError.refused(status: 403, _) {
      // ACLs: the peers are public, the votes are not.
      health.servers = status.peers.count
      health.isVoter = status.peers.contains(raftAddress) ? nil : false
    } catch let error as AgentError {
      health.errors.raftConfiguration = error.explanation
      return health
    }
    guard let wan = requirements.wan else { return health }
    do {
      health.wanServers = try await client.members(wan: true).count { member in
        member.isAlive && member.address.map(wan.addresses.contains) ?? false
      }
    } catch let error as AgentError {
      health.errors.wanPool = error.explanation
    }
    return health
  }
}
