internal import Base
internal import Consul
package import Decisions

/// What was proven, or not yet.
package struct Health: Sendable, Equatable {
  package var agentAnswers = false
  package var leader: String?
  /// Nil where ACLs keep it from us.
  package var isVoter: Bool?
  package var servers = 0

  /// What keeps this from being healthy, in the order in which it comes about.
  package func missing(_ goal: ProofGoal) -> [String] {
    guard agentAnswers else { return ["the agent does not answer on \(goal.agentAddress)"] }
    var missing: [String] = []
    if leader == nil { missing.append("no leader is known") }
    if isVoter == false { missing.append("this server (\(goal.raftAddress)) is not a raft voter") }
    if servers < goal.servers { missing.append("\(servers) of \(goal.servers) servers are there") }
    return missing
  }
}

/// Watches a freshly started agent until it is healthy.
package struct HealthProof: Sendable {
  private let goal: ProofGoal
  private let world: World

  package init(_ goal: ProofGoal, world: World) {
    self.goal = goal
    self.world = world
  }

  /// A tuned election takes little more than a second: looks come often until it has had time enough, then less often.
  private static let eagerBackoff = Backoff(base: .milliseconds(40), cap: .milliseconds(80))
  private static let backoff = Backoff(base: .milliseconds(500), cap: .milliseconds(500))
  private static let eagerFor = Duration.seconds(5)
  private static let timeout = Duration.seconds(2)

  /// - Parameters:
  ///   - timeout: `--verify-timeout`.
  ///   - crash: why the agent will not come up any more; asked now and then, nil while there is hope.
  ///   - lastLines: of the agent's output.
  /// - Throws: `Failure` with status 15 or 16.
  package func prove(
    within timeout: Duration, crash: @Sendable () async -> String?, lastLines: @Sendable () async -> [String]
  ) async throws -> Health {
    let start = world.uptime()
    var generator = SystemRandomNumberGenerator()
    var health = Health()
    var hasAnswered = false
    for attempt in 0... {
      health = try await look()
      hasAnswered = hasAnswered || health.agentAnswers
      let missing = health.missing(goal)
      if missing.isEmpty { return health }
      let elapsed = world.uptime() - start
      if !hasAnswered, let reason = await crash() {
        throw Failure(
          .agentNotStarted, "the Consul agent does not start: \(reason)", details: tellingLines(of: await lastLines()),
          hint: "the lines above are the agent's own; mend the configuration and run this again")
      }
      guard elapsed < timeout else {
        throw Failure(
          .agentUnhealthy, "the Consul agent is not healthy after \(elapsed.spoken): \(missing.joined(separator: "; "))",
          details: tellingLines(of: await lastLines()), hint: hint(health))
      }
      world.log.progress("waiting for the agent: \(missing.joined(separator: "; "))", ["elapsed": .string(elapsed.spoken)])
      let backoff = elapsed < Self.eagerFor ? Self.eagerBackoff : Self.backoff
      try await world.clock.sleep(for: backoff.halfJitter(attempt, using: &generator))
    }
    preconditionFailure("the loop above ends by return or throw")
  }

  private func hint(_ health: Health) -> String {
    if !health.agentAnswers { return "see whether the agent's lines above name a port in use or a key it does not know" }
    if health.leader == nil {
      return "without a leader either too few servers reach each other (ports 8300 and 8301, tcp and udp, in the security group) "
        + "or an old cluster has lost its quorum (Consul documentation, \"Outage Recovery\")"
    }
    return "see consul operator raft list-peers and the agent's log"
  }

  private func look() async throws -> Health {
    let client = AgentClient(address: goal.agentAddress, transport: world.transport, timeout: Self.timeout)
    var health = Health()
    do {
      let status = try await client.clusterStatus()
      health.agentAnswers = true
      health.leader = status.leader
      guard status.leader != nil else { return health }
      do {
        let servers = try await client.raftConfiguration()
        health.servers = servers.count
        health.isVoter = servers.contains { $0.address == goal.raftAddress && $0.isVoter }
      } catch AgentError.refused(status: 403, _) {
        // ACLs: the peers are public, who votes is not.
        health.servers = status.peers.count
        health.isVoter = status.peers.contains(goal.raftAddress) ? nil : false
      }
    } catch is AgentError {
      try Task.checkCancellation()
    }
    return health
  }
}
