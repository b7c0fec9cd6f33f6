package import Base

/// What must be true before a boot is a success.
package struct HealthRequirements: Sendable, Equatable {
  /// `address:port` of the agent's HTTP API, on this machine.
  package let agentAddress: String
  /// This server's address as raft names it; nil for a client.
  package let raftAddress: String?
  /// Servers that must be in the raft configuration.
  package let servers: Int
  /// The number of servers that Consul waits for before it bootstraps; nil for an agent that joins.
  package let bootstrapExpect: Int?
  /// How long autopilot must call this server healthy; nil if nothing waits for that.
  package let stabilization: Duration?
  /// Nil without a WAN pool.
  package let wan: WAN?
  /// What the agent must report of itself; nil for an agent that ran before: it may need a restart first.
  package let expected: ExpectedAgent?
  /// The agent's own token, if ACLs are enabled.
  package let token: Secret?
  /// What runs the agent, for the reason of a failed start.
  package let runner: AgentRunner
  /// `--verify-timeout`.
  package let timeout: Duration

  package struct WAN: Sendable, Equatable {
    /// Addresses of the known servers of all datacenters.
    package let addresses: Set<IPv4Address>
    /// Otherwise the pool is only reported.
    package let isRequired: Bool

    package init(addresses: Set<IPv4Address>, isRequired: Bool) {
      self.addresses = addresses
      self.isRequired = isRequired
    }
  }

  package init(
    agentAddress: String, raftAddress: String?, servers: Int, bootstrapExpect: Int? = nil,
    stabilization: Duration? = nil, wan: WAN?, expected: ExpectedAgent? = nil, token: Secret?, runner: AgentRunner,
    timeout: Duration
  ) {
    self.agentAddress = agentAddress
    self.raftAddress = raftAddress
    self.servers = servers
    self.bootstrapExpect = bootstrapExpect
    self.stabilization = stabilization
    self.wan = wan
    self.expected = expected
    self.token = token
    self.runner = runner
    self.timeout = timeout
  }

  package var text: String {
    var parts = ["the agent answers", "it knows a leader"]
    if raftAddress != nil { parts += ["this server is a voter", "at least \(servers) servers are in raft"] }
    if let stabilization { parts.append("autopilot calls it healthy for \(stabilization.humanReadable)") }
    if let wan {
      parts.append("\(wan.addresses.count) servers are in the WAN pool\(wan.isRequired ? "" : " (reported only)")")
    }
    return parts.joined(separator: ", ")
  }
}

/// What runs the agent.
package enum AgentRunner: Sendable, Equatable {
  case systemd
  /// With the path of the Docker client.
  case docker(client: String)
  /// This process.
  case supervisor
}
