package import Base
internal import Consul
package import Decisions

/// What was proven, or not yet.
package struct Health: Sendable, Equatable {
  package var agentAnswers = false
  package var leader: String?
  /// Nil where ACLs keep it from us.
  package var isVoter: Bool?
  package var servers = 0
  /// Of the WAN pool's wanted servers, those that are alive; nil where nobody looked, or the agent does not tell.
  package var wanServers: Int?

  /// What keeps this from being healthy, in the order in which it comes about; the WAN pool only if it is required.
  package func missing(_ goal: HealthRequirements) -> [String] {
    guard agentAnswers else { return ["the agent does not answer on \(goal.agentAddress)"] }
    var missing: [String] = []
    if leader == nil { missing.append("no leader is known") }
    if let address = goal.raftAddress {
      if isVoter == false { missing.append("this server (\(address)) is not a raft voter") }
      if servers < goal.servers { missing.append("\(servers) of \(goal.servers) servers are there") }
    }
    if let wan = goal.wan, wan.isRequired, !isWANComplete(wan) {
      missing.append("\(wanServers ?? 0) of \(wan.addresses.count) servers are in the WAN pool")
    }
    return missing
  }

  fileprivate func isWANComplete(_ wan: HealthRequirements.WAN) -> Bool { wanServers ?? 0 >= wan.addresses.count }
}

/// Watches a freshly started agent until it is healthy.
package struct HealthCheck: Sendable {
  private let goal: HealthRequirements
  private let context: RuntimeContext

  package init(_ goal: HealthRequirements, context: RuntimeContext) {
    self.goal = goal
    self.context = context
  }

  /// A tuned election takes little more than a second: looks come often until it has had time enough, then less often.
  private static let eagerBackoff = Backoff(base: .milliseconds(40), cap: .milliseconds(80))
  private static let backoff = Backoff(base: .milliseconds(500), cap: .milliseconds(500))
  private static let eagerFor = Duration.seconds(5)
  /// A client's question goes on to a server: a fleet of clients that boot at once must not crowd its servers.
  private static let clientBackoff = Backoff(base: .milliseconds(300), cap: .seconds(2))
  private static let timeout = Duration.seconds(2)
  /// A WAN pool that is only reported gets a moment to come about: a tuned join takes one or two seconds.
  private static let wanGrace = Duration.seconds(3)

  /// - Parameters:
  ///   - timeout: `--verify-timeout`.
  ///   - crash: why the agent will not come up any more; asked now and then, nil while there is hope.
  ///   - lastLines: of the agent's output.
  /// - Throws: `Failure` with status 15 or 16.
  package func verify(
    within timeout: Duration, crash: @Sendable () async -> String?, lastLines: @Sendable () async -> [String]
  ) async throws -> Health {
    let start = context.uptime()
    var generator = SystemRandomNumberGenerator()
    var health = Health()
    var hasAnswered = false
    var healthySince: Duration?
    for attempt in 0... {
      health = try await poll()
      hasAnswered = hasAnswered || health.agentAnswers
      let missing = health.missing(goal)
      let now = context.uptime(), elapsed = now - start
      if missing.isEmpty {
        healthySince = healthySince ?? now
        guard let wan = goal.wan, !health.isWANComplete(wan), now - (healthySince ?? now) < Self.wanGrace else {
          return health
        }
      }
      if !hasAnswered, let reason = await crash() {
        throw Failure(
          .agentNotStarted, "the Consul agent does not start: \(reason)",
          details: relevantLogLines(of: await lastLines()),
          hint: "the lines above are the agent's own; mend the configuration and run this again")
      }
      guard elapsed < timeout || missing.isEmpty else {
        throw Failure(
          .agentUnhealthy,
          "the Consul agent is not healthy after \(elapsed.humanReadable): \(missing.joined(separator: "; "))",
          details: relevantLogLines(of: await lastLines()), hint: hint(health))
      }
      context.log.progress(
        "waiting for the agent: \(missing.joined(separator: "; "))", ["elapsed": .string(elapsed.humanReadable)])
      let backoff =
        goal.raftAddress == nil ? Self.clientBackoff : elapsed < Self.eagerFor ? Self.eagerBackoff : Self.backoff
      try await context.clock.sleep(for: backoff.halfJitter(attempt, using: &generator))
    }
    preconditionFailure("the loop above ends by return or throw")
  }

  private func hint(_ health: Health) -> String {
    if !health.agentAnswers {
      return "see whether the agent's lines above name a port in use or a key it does not know"
    }
    if health.leader == nil {
      if goal.raftAddress == nil {
        return "a client needs to reach the servers: port 8301 tcp and udp, and 8300 tcp, in the security group"
      }
      return
        "without a leader either too few servers reach each other (ports 8300 and 8301, tcp and udp, in the security group) "
        + "or an old cluster has lost its quorum (Consul documentation, \"Outage Recovery\")"
    }
    if goal.wan?.isRequired == true, health.isVoter != false, health.servers >= goal.servers {
      return
        "between the zones 8302 tcp and udp and 8300 tcp must be open among all servers, and the gossip key be the same"
    }
    return "see consul operator raft list-peers and the agent's log"
  }

  private func poll() async throws -> Health {
    let client = AgentClient(
      address: goal.agentAddress, token: goal.token, transport: context.transport, timeout: Self.timeout)
    var health = Health()
    do {
      let status = try await client.clusterStatus()
      health.agentAnswers = true
      health.leader = status.leader
      guard status.leader != nil, let raftAddress = goal.raftAddress else { return health }
      do {
        let servers = try await client.raftConfiguration()
        health.servers = servers.count
        health.isVoter = servers.contains { $0.address == raftAddress && $0.isVoter }
      } catch AgentError.refused(status: 403, _) {
        // ACLs: the peers are public, who votes is not.
        health.servers = status.peers.count
        health.isVoter = status.peers.contains(raftAddress) ? nil : false
      }
      if let wan = goal.wan {
        health.wanServers = try await client.members(wan: true).filter { member in
          member.isAlive && member.address.map(wan.addresses.contains) ?? false
        }.count
      }
    } catch is AgentError {
      try Task.checkCancellation()
    }
    return health
  }
}
