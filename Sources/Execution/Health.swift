internal import Base
package import Model

/// The health of the agent at one moment.
package struct Health: Sendable, Equatable {
  package var agentAnswers = false
  package var leader: String?
  /// Nil if ACLs hide it.
  package var isVoter: Bool?
  package var servers = 0
  /// The required servers that are alive in the WAN pool; nil if the agent did not list them.
  package var wanServers: Int?

  /// What is missing to be healthy, in the order in which it comes about; the WAN pool only if it is required.
  package func missing(_ requirements: HealthRequirements) -> [String] {
    guard agentAnswers else { return ["the agent does not answer on \(requirements.agentAddress)"] }
    var missing: [String] = []
    if leader == nil { missing.append("no leader is known") }
    if let address = requirements.raftAddress {
      if isVoter == false { missing.append("this server (\(address)) is not a raft voter") }
      if servers < requirements.servers { missing.append("\(servers) of \(requirements.servers) servers are there") }
    }
    if let wan = requirements.wan, wan.isRequired, !isWANComplete(wan) {
      missing.append("\(wanServers ?? 0) of \(wan.addresses.count) servers are in the WAN pool")
    }
    return missing
  }

  func isWANComplete(_ wan: HealthRequirements.WAN) -> Bool { wanServers ?? 0 >= wan.addresses.count }
}
