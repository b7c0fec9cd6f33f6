package import Base
package import Consul
package import Model

/// Polls a freshly started agent until it is healthy.
package struct HealthCheck: Sendable {
  /// Looks again at the servers, and restarts this agent, which has no raft state, if that helps.
  package typealias Agreement = @Sendable (NoLeader) async throws -> SecondLook

  package enum SecondLook: Sendable, Equatable {
    /// The requirements that replace the present ones.
    case changed(HealthRequirements)
    /// What the founders of a new cluster wait for, for people; empty if that is not known.
    case unchanged(waitsFor: [String] = [])
    /// Servers have raft data, and none knows a leader: they, for people.
    case waitsForRecovery([String])
  }

  /// For how much longer a boot may wait for the recovery of its cluster.
  package typealias RecoveryLimit = @Sendable () async -> Duration

  /// Why an agent without raft state knows no leader.
  package enum NoLeader: Sendable, Equatable {
    case numbersDiffer
    /// All are there, with the same number. An agent compares the numbers only when a server joins the gossip pool, not
    /// when one that it knows comes back with another number (server_serf.go in Consul's source): agents that restarted
    /// for their new numbers at the same time may each have seen the other's old one last.
    case allAreThere
    /// The numbers do not differ, and not all are there: a founder may have died before it joined the others.
    case someAreMissing
    /// It joins, and the leader may not have added it. Gossip reports a restarted agent to it again.
    case notAdded
    /// The timeout is over: the cluster may have lost its quorum, in which case this server is not at fault.
    case timedOut
  }

  /// The end of a server's raft log, from its port 8300.
  package typealias LastLog = @Sendable (IPv4Address) async throws -> LogPosition

  private var requirements: HealthRequirements
  private let context: RuntimeContext
  private let agreement: Agreement?
  private let recoveryLimit: RecoveryLimit?
  private let lastLog: LastLog?

  /// - Parameters:
  ///   - recoveryLimit: asked after the timeout, and each minute from then on; nil if the check ends then.
  ///   - lastLog: for a server that joins, where autopilot gives no answer.
  package init(
    _ requirements: HealthRequirements, context: RuntimeContext, agreement: Agreement? = nil,
    recoveryLimit: RecoveryLimit? = nil, lastLog: LastLog? = nil
  ) {
    self.requirements = requirements
    self.context = context
    self.agreement = agreement
    self.recoveryLimit = recoveryLimit
    self.lastLog = lastLog
  }

  /// A tuned election takes little more than a second: polls are frequent until then, and less frequent afterwards.
  /// Each costs the agent a fraction of a millisecond, and the boot waits for half a pause on average.
  private static let eagerBackoff = Backoff(base: .milliseconds(20), cap: .milliseconds(40))
  private static let eagerPeriod = Duration.seconds(5)
  private static let backoff = Backoff(base: .milliseconds(500), cap: .milliseconds(500))
  /// A client forwards the request to a server: a fleet of clients that boot at once must not overload its servers.
  private static let clientBackoff = Backoff(base: .milliseconds(300), cap: .seconds(2))
  /// Of one request. The agent is on this machine, and a busy machine at boot is slow.
  private static let requestTimeout = Duration.seconds(2)
  /// Grace for a WAN pool that is only reported: a tuned join takes one or two seconds.
  private static let wanGrace = Duration.seconds(3)

  /// Waits until nothing that is required is missing, at most for the timeout of the requirements, and logs what is.
  /// While the cluster waits for a recovery, the timeout begins again once it has a leader.
  /// - Parameter agent: knows why the agent does not start. Once the agent has answered, only the timeout ends the
  ///   wait.
  /// - Throws: `Failure` with status 15 or 16, or `CancellationError`.
  package func verify(agent: any AgentMonitor) async throws -> Health {
    var check = self
    return try await check.poll(until: context.uptime() + requirements.timeout, agent)
  }

  private mutating func poll(until deadline: Duration, _ agent: any AgentMonitor) async throws -> Health {
    var deadline = deadline
    let start = context.uptime()
    var leaderWait = LeaderWait(since: start, context: context, agreement: agreement)
    var stability = requirements.stabilization.map { StabilityCheck($0, context: context, lastLog: lastLog) }
    var generator = SystemRandomNumberGenerator()
    var hasAnswered = false
    var healthySince: Duration?
    var attempt = 0
    var unconfirmed = requirements.expected
    while true {
      let health = try await poll()
      hasAnswered = hasAnswered || health.agentAnswers
      var missing = health.missing(requirements)
      if health.agentAnswers, health.leader == nil,
        let new = try await leaderWait.look(health, requirements, client), new != requirements
      {
        // An agent that has been restarted with another number is another agent.
        requirements = new
        unconfirmed = new.expected
      }
      if health.leader == nil {
        missing += leaderWait.missing
      } else if leaderWait.hasRecovered() {
        context.log.info("the cluster has a leader again")
        deadline = context.uptime() + requirements.timeout
      }
      if health.agentAnswers, let expected = unconfirmed {
        if let error = try await compare(expected) { missing.append(error) } else { unconfirmed = nil }
      }
      if let own = requirements.raftAddress, let leader = health.leader, health.isVoter != nil || missing.isEmpty {
        try await stability?.poll(own, client)
        if missing.isEmpty, let reason = try await stability?.missing(of: own, leader: leader) { missing = [reason] }
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
        if now >= deadline {
          if health.agentAnswers, health.leader == nil, try await leaderWait.looksForRecovery(health, requirements) {
            missing = health.missing(requirements) + leaderWait.missing
          }
          guard let left = await timeForRecovery(leaderWait) else {
            throw unhealthy(
              missing, after: elapsed, await agent.lastLines(), leaderWait.hint ?? hint(health),
              needsRepair: leaderWait.isForRecovery)
          }
          deadline = now + left
        }
        // The last poll is at the timeout.
        pause = min(pause, deadline - now)
      }
      context.log.progress(
        "waiting for the agent: \(missing.joined(separator: "; "))", ["elapsed": .string(elapsed.humanReadable)])
      try await context.clock.sleep(for: pause)
    }
  }

  /// Between two looks at whether the cluster still waits for its recovery: some AWS calls each.
  private static let recoveryInterval = Duration.seconds(60)

  /// - Returns: nil if the cluster does not wait for its recovery, or nothing lets this boot wait any longer.
  private func timeForRecovery(_ leaderWait: LeaderWait) async -> Duration? {
    guard leaderWait.isForRecovery, let left = await recoveryLimit?(), left > .zero else { return nil }
    context.log.warning(
      "this boot waits for the recovery of its cluster",
      ["missing": .strings(leaderWait.missing), "at_most": .string(left.humanReadable)])
    return min(left, Self.recoveryInterval)
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
    _ missing: [String], after elapsed: Duration, _ lines: [String], _ hint: String, needsRepair: Bool
  ) -> Failure {
    var failure = Failure(
      .agentUnhealthy,
      "the Consul agent is not healthy after \(elapsed.humanReadable): \(missing.joined(separator: "; "))",
      details: relevantLogLines(of: lines), hint: hint)
    failure.needsRepair = needsRepair
    return failure
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
        + "if the cluster has lost its quorum, run consul-bootstrap recover on a server that has data"
    }
    if let reason = health.divergence { return AgentProblem.diverged(reason: reason).hint }
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

  /// Servers whose data is of different clusters are never healthy together. The founders of a new one have none.
  private func compareData(_ health: inout Health) async {
    guard requirements.bootstrapExpect == nil, health.isVoter != false, health.servers >= requirements.servers else {
      return
    }
    do {
      health.divergence = try await client.divergence()
    } catch AgentError.refused(status: 403, _) {
      // The agent's ACLs hide the identity from this program's token.
      return
    } catch {
      health.errors.identity = error.explained
    }
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
    health.isEmpty = status.peers.isEmpty
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
    await compareData(&health)
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
