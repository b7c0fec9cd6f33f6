package import Base
internal import Consul
internal import Decisions
package import Model
internal import Observers
package import LogForwarding

/// How this node is: its agent, the quorum, the forwarding of its logs. Looks only, at this machine only.
package struct NodeStatus: Sendable {
  package struct Agent: Sendable {
    package let address: String
    /// Why it does not answer; nil if it does.
    package var error: String?
    package var leader: String?
    package var raftPeers = 0
    /// Nil where the members may not be seen (ACLs).
    package var aliveServers: Int?

    package var quorum: Int { raftPeers / 2 + 1 }
  }

  package var agent: Agent
  /// Nil where no sidecar has left a report.
  package let forwarding: ForwardingReport?
  /// Logs are to be forwarded.
  package let expectsForwarding: Bool
  package let time: Timestamp

  private static let timeout = Duration.seconds(2)

  package static func observe(_ settings: Settings, context: RuntimeContext) async -> NodeStatus {
    let current = CurrentConfiguration(reading: settings.configurationPath, context.files)
    var agent = Agent(address: current.agentAddress(settings))
    let client = AgentClient(
      address: agent.address, token: current.agentToken, transport: context.transport,
      timeout: timeout
    )
    do {
      let cluster = try await client.clusterStatus()
      agent.leader = cluster.leader
      agent.raftPeers = cluster.peers.count
      agent.aliveServers = try? await client.members(wan: false).count { $0.isServer && $0.isAlive }
    } catch {
      agent.error = error.explained
    }
    let report = try? context.files.readIfPresent(settings.logReportPath, limit: 16 << 20)
    return NodeStatus(
      agent: agent, forwarding: report.flatMap { try? JSONValue(parsing: $0) }.flatMap { ForwardingReport(json: $0) },
      expectsForwarding: !settings.logs.isEmpty, time: context.now())
  }

  /// What somebody has to look at, a line each; none if all is well.
  package var problems: [String] {
    var problems: [String] = []
    if let error = agent.error {
      problems.append("the agent does not answer on \(agent.address): \(error)")
    } else if agent.leader == nil {
      problems.append("the agent knows no leader")
    } else if let alive = agent.aliveServers, agent.raftPeers > 0, alive < agent.quorum {
      problems.append("\(alive) of \(agent.raftPeers) servers are alive, a quorum is \(agent.quorum)")
    }
    if let forwarding {
      problems += forwarding.problems(at: time)
    } else if expectsForwarding {
      problems.append("nobody forwards the logs: there is no report of a sidecar")
    }
    return problems
  }

  package var json: JSONValue {
    .object([
      "time": .string(time.iso8601), "healthy": .bool(problems.isEmpty), "problems": .strings(problems),
      "agent": .object([
        "address": .string(agent.address), "error": agent.error.map(JSONValue.string) ?? .null,
        "leader": agent.leader.map(JSONValue.string) ?? .null, "raft_peers": .integer(Int64(agent.raftPeers)),
        "alive_servers": agent.aliveServers.map { .integer(Int64($0)) } ?? .null,
      ]),
      "forwarding": forwarding?.json ?? .null,
    ])
  }
}
