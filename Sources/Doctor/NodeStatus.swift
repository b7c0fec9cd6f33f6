package import Base
internal import Consul
internal import Decisions
package import Model
internal import Observers
package import LogForwarding

/// The status of this node: its agent, the quorum and log forwarding. Reads this machine only, and changes nothing.
package struct NodeStatus: Sendable {
  /// How many servers gossip reports alive.
  package enum AliveServers: Sendable, Equatable {
    case known(Int)
    /// The agent's ACLs hide the members from this program's token.
    case hiddenByACLs
    case unknown(reason: String)
  }

  package struct Agent: Sendable, Equatable {
    package let address: String
    /// Why the agent's configuration cannot be read: its address and token are guesses then. Nil if it can, or if there
    /// is none.
    package var configurationError: String?
    /// Why the agent does not answer; nil if it does.
    package var error: String?
    package var leader: String?
    package var raftPeers = 0
    package var aliveServers = AliveServers.unknown(reason: "the agent does not answer")
    /// What the agent does not use of its configuration, a line each.
    package var differences: [String] = []

    package init(address: String) { self.address = address }

    package var quorum: Int { raftPeers / 2 + 1 }
  }

  /// The sidecar's report on log forwarding.
  package enum Report: Sendable {
    /// No sidecar has left one.
    case absent
    case present(ForwardingReport)
    case unreadable(reason: String)
  }

  package var agent: Agent
  package let report: Report
  /// The options name logs to forward.
  package let expectsForwarding: Bool
  package let time: Timestamp
  /// Why the options of the last run are lost; nil if they are not.
  package let lostOptions: String?
  /// What the sidecar reports on the identity of the cluster.
  package var identityProblems: [String] = []

  package init(
    agent: Agent, report: Report, expectsForwarding: Bool, time: Timestamp, lostOptions: String? = nil
  ) {
    self.agent = agent
    self.lostOptions = lostOptions
    self.report = report
    self.expectsForwarding = expectsForwarding
    self.time = time
  }

  package var forwarding: ForwardingReport? { if case .present(let report) = report { report } else { nil } }

  /// What needs attention, a line each; empty for a healthy node.
  package var problems: [String] {
    var problems = agent.configurationError.map { ["cannot read the agent's configuration: \($0)"] } ?? []
    problems += agent.differences.map { "the agent does not use its configuration: \($0)" }
    if let error = agent.error {
      problems.append("the agent does not answer on \(agent.address): \(error)")
    } else if agent.leader == nil {
      problems.append("the agent knows no leader")
    } else {
      switch agent.aliveServers {
      case .known(let alive) where agent.raftPeers > 0 && alive < agent.quorum:
        problems.append("\(alive) of \(agent.raftPeers) servers are alive, a quorum is \(agent.quorum)")
      case .unknown(let reason): problems.append("cannot count the alive servers: \(reason)")
      case .known, .hiddenByACLs: break
      }
    }
    if let lostOptions { problems.append("the options of the last run are lost: \(lostOptions)") }
    problems += identityProblems
    switch report {
    case .present(let report): problems += report.problems(at: time)
    case .unreadable(let reason): problems.append("cannot read the sidecar's report on log forwarding: \(reason)")
    case .absent where expectsForwarding: problems.append("logs are not forwarded: no sidecar has reported")
    case .absent: break
    }
    return problems
  }
}

// MARK: Observing

extension NodeStatus {
  private static let timeout = Duration.seconds(2)
  /// Some 500 bytes for each stream.
  private static let reportLimit = 16 << 20

  package static func observe(_ settings: Settings, context: RuntimeContext) async -> NodeStatus {
    let configuration = CurrentConfiguration(reading: settings.configurationPath, context.files)
    var status = NodeStatus(
      agent: await agent(configuration, settings, context), report: report(settings, context.files),
      expectsForwarding: !settings.logs.isEmpty, time: context.now(), lostOptions: settings.lostOptions)
    status.identityProblems =
      ClusterIdentityReport.problems(at: settings.identityReportPath, context.files)
      + RememberedRecord.problems(at: settings.rememberedRecordPath, context.files)
    return status
  }

  private static func agent(
    _ configuration: CurrentConfiguration, _ settings: Settings, _ context: RuntimeContext
  ) async -> Agent {
    var agent = Agent(address: configuration.agentAddress(settings))
    switch configuration.content {
    case .unreadable(let reason): agent.configurationError = reason
    case .present where configuration.document == nil:
      agent.configurationError = "\(settings.configurationPath) is not JSON"
    case .present, .absent: agent.configurationError = configuration.problems.first
    }
    let client = AgentClient(
      address: agent.address, token: configuration.agentToken, transport: context.transport, timeout: timeout)
    do {
      let cluster = try await client.clusterStatus()
      agent.leader = cluster.leader
      agent.raftPeers = cluster.peers.count
      agent.aliveServers = await aliveServers(client)
      agent.differences = await RunningAgentCheck(configuration: configuration, client: client).differences()
    } catch {
      agent.error = error.explained
    }
    return agent
  }

  private static func aliveServers(_ client: AgentClient) async -> AliveServers {
    do {
      let members = try await client.members(wan: false)
      // An agent is a member of its own pool: where it lists none, its ACLs omit them.
      return members.isEmpty ? .hiddenByACLs : .known(members.count { $0.isServer && $0.isAlive })
    } catch AgentError.refused(status: 403, _) {
      return .hiddenByACLs
    } catch {
      return .unknown(reason: error.explained)
    }
  }

  private static func report(_ settings: Settings, _ files: any FileReader) -> Report {
    let path = settings.logReportPath
    do {
      guard let bytes = try files.readIfPresent(path, limit: reportLimit) else { return .absent }
      guard let report = ForwardingReport(json: try JSONValue(parsing: bytes)) else {
        return .unreadable(reason: "\(path) is not a report on log forwarding")
      }
      return .present(report)
    } catch let error as JSONSyntaxError {
      return .unreadable(reason: "\(path) is not JSON: \(error.explanation)")
    } catch {
      return .unreadable(reason: error.explained)
    }
  }
}

// MARK: As JSON

extension NodeStatus {
  package var json: JSONValue {
    var reportError: String?
    if case .unreadable(let reason) = report { reportError = reason }
    return .object([
      "time": .string(time.iso8601), "healthy": .bool(problems.isEmpty), "problems": .strings(problems),
      "agent": agent.json, "forwarding": forwarding?.json ?? .null,
      "forwarding_error": reportError.map(JSONValue.string) ?? .null,
    ])
  }
}

extension NodeStatus.Agent {
  fileprivate var json: JSONValue {
    var alive: Int?, aliveReason: String?
    switch aliveServers {
    case .known(let count): alive = count
    case .hiddenByACLs: aliveReason = "hidden by ACLs"
    case .unknown(let reason): aliveReason = reason
    }
    return .object([
      "address": .string(address), "error": error.map(JSONValue.string) ?? .null,
      "configuration_error": configurationError.map(JSONValue.string) ?? .null,
      "leader": leader.map(JSONValue.string) ?? .null, "raft_peers": .integer(Int64(raftPeers)),
      "alive_servers": alive.map { .integer(Int64($0)) } ?? .null,
      "alive_servers_reason": aliveReason.map(JSONValue.string) ?? .null,
    ])
  }
}
