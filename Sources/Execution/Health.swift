internal import Base
package import Model

/// The health of the agent at one moment.
package struct Health: Sendable, Equatable {
  package var agentAnswers = false
  /// `address:port` of the leader; nil if the agent knows none.
  package var leader: String?
  /// The agent knows no raft peers.
  package var isEmpty = false
  /// Nil if ACLs hide it.
  package var isVoter: Bool?
  package var servers = 0
  /// Why this server's data is not that of its cluster; nil if it is, or not known.
  package var divergence: String?
  /// The required servers that are alive in the WAN pool; nil if the agent did not list them.
  package var wanServers: Int?
  /// The requests that failed, each with its cause; nil for a request that was answered or not sent.
  package var errors = Errors()

  package struct Errors: Sendable, Equatable {
    package var agent, raftConfiguration, identity, wanPool: String?
  }

  /// What is missing to be healthy, in the order in which it comes about; the WAN pool only if it is required.
  package func missing(_ requirements: HealthRequirements) -> [String] {
    guard agentAnswers else {
      let cause = errors.agent.map { ": \($0)" } ?? ""
      return ["the agent does not answer on \(requirements.agentAddress)\(cause)"]
    }
    // Without a leader there is nothing to ask for the rest.
    guard leader != nil else { return ["the agent knows no leader"] }
    var missing: [String] = []
    if let address = requirements.raftAddress {
      if let error = errors.raftConfiguration {
        missing.append("cannot read the raft configuration: \(error)")
      } else {
        if isVoter == false { missing.append("this server (\(address)) is not a raft voter") }
        if servers < requirements.servers {
          missing.append("\(servers) of \(requirements.servers) servers are in the raft configuration")
        }
        if let divergence { missing.append(AgentProblem.diverged(reason: divergence).message) }
        if let error = errors.identity {
          missing.append("cannot compare this server's data with the leader's: \(error)")
        }
      }
    }
    if let wan = requirements.wan, wan.isRequired, let missingServers = missingServers(in: wan) {
      missing.append(missingServers)
    }
    return missing
  }

  /// Nil if every server is in the WAN pool.
  func missingServers(in wan: HealthRequirements.WAN) -> String? {
    guard wanServers ?? 0 < wan.addresses.count else { return nil }
    if let error = errors.wanPool { return "cannot list the WAN pool: \(error)" }
    return "\(wanServers ?? 0) of \(wan.addresses.count) servers are in the WAN pool"
  }
}
