package import Base
internal import Consul
package import Model

/// Polls a freshly started agent until it is healthy.
package struct HealthCheck: Sendable {
  private let requirements: HealthRequirements
  private let context: RuntimeContext

  package init(_ requirements: HealthRequirements, context: RuntimeContext) {
    self.requirements = requirements
    self.context = context
  }

  /// A tuned election takes little more than a second: polls are frequent until then, and less frequent afterwards.
  private static let eagerBackoff = Backoff(base: .milliseconds(40), cap: .milliseconds(80))
  private static let backoff = Backoff(base: .milliseconds(500), cap: .milliseconds(500))
  private static let eagerFor = Duration.seconds(5)
  /// A client forwards the request to a server: a fleet of clients that boot at once must not overload its servers.
  private static let clientBackoff = Backoff(base: .milliseconds(300), cap: .seconds(2))
  private static let timeout = Duration.seconds(2)
  /// Grace for a WAN pool that is only reported: a tuned join takes one or two seconds.
  private static let wanGrace = Duration.seconds(3)

  /// - Parameter agent: gives the reason of a failed start.
  /// - Throws: `Failure` with status 15 or 16.
  package func verify(agent: any AgentMonitor) async throws -> Health {
    let start = context.uptime()
    var generator = SystemRandomNumberGenerator()
    var health = Health()
    var hasAnswered = false
    var healthySince: Duration?
    var attempt = 0
    while true {
      defer { attempt += 1 }
      health = try await poll()
      hasAnswered = hasAnswered || health.agentAnswers
      let missing = health.missing(requirements)
      let now = context.uptime(), elapsed = now - start
      if missing.isEmpty {
        healthySince = healthySince ?? now
        guard let wan = requirements.wan, !health.isWANComplete(wan), now - (healthySince ?? now) < Self.wanGrace else {
          return health
        }
      }
      if !hasAnswered, let reason = await agent.crashReason() {
        throw Failure(
          .agentNotStarted, "the Consul agent does not start: \(reason)",
          details: relevantLogLines(of: await agent.lastLines()),
          hint: "the lines above are the agent's own; mend the configuration and run this again")
      }
      guard elapsed < requirements.timeout || missing.isEmpty else {
        throw Failure(
          .agentUnhealthy,
          "the Consul agent is not healthy after \(elapsed.humanReadable): \(missing.joined(separator: "; "))",
          details: relevantLogLines(of: await agent.lastLines()), hint: hint(health))
      }
      context.log.progress(
        "waiting for the agent: \(missing.joined(separator: "; "))", ["elapsed": .string(elapsed.humanReadable)])
      let backoff =
        requirements.raftAddress == nil
        ? Self.clientBackoff : elapsed < Self.eagerFor ? Self.eagerBackoff : Self.backoff
      try await context.clock.sleep(for: backoff.halfJitter(attempt, using: &generator))
    }
  }

  private func hint(_ health: Health) -> String {
    if !health.agentAnswers {
      return "see whether the agent's lines above name a port in use or a key it does not know"
    }
    if health.leader == nil {
      if requirements.raftAddress == nil {
        return "a client needs to reach the servers: port 8301 tcp and udp, and 8300 tcp, in the security group"
      }
      return
        "without a leader either too few servers reach each other (ports 8300 and 8301, tcp and udp, in the security group) "
        + "or an old cluster has lost its quorum (Consul documentation, \"Outage Recovery\")"
    }
    if requirements.wan?.isRequired == true, health.isVoter != false, health.servers >= requirements.servers {
      return
        "between the zones 8302 tcp and udp and 8300 tcp must be open among all servers, and the gossip key be the same"
    }
    return "see consul operator raft list-peers and the agent's log"
  }

  private func poll() async throws -> Health {
    let client = AgentClient(
      address: requirements.agentAddress, token: requirements.token, transport: context.transport, timeout: Self.timeout
    )
    var health = Health()
    do {
      let status = try await client.clusterStatus()
      health.agentAnswers = true
      health.leader = status.leader
      guard status.leader != nil, let raftAddress = requirements.raftAddress else { return health }
      do {
        let servers = try await client.raftConfiguration()
        health.servers = servers.count
        health.isVoter = servers.contains { $0.address == raftAddress && $0.isVoter }
      } catch AgentError.refused(status: 403, _) {
        // ACLs: the peers are public, who votes is not.
        health.servers = status.peers.count
        health.isVoter = status.peers.contains(raftAddress) ? nil : false
      }
      if let wan = requirements.wan {
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
