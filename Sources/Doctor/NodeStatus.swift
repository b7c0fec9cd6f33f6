package import Base
package import Consul
package import Model
package import LogForwarding

/// The status of this node: its agent, its cluster, the sidecar and log forwarding, and the judgement of it.
package struct NodeStatus: Sendable {
  /// What the agent answered to one request.
  package enum Answer<Value: Sendable>: Sendable {
    case known(Value)
    /// The agent's ACLs hide it from this program's token.
    case hiddenByACLs
    case unknown(reason: String)

    package var value: Value? { if case .known(let value) = self { value } else { nil } }
    package var isHidden: Bool { if case .hiddenByACLs = self { true } else { false } }
  }

  /// Why the agent does not answer.
  package enum Silence: Sendable, Equatable {
    case error(String)
    /// It accepts connections, and gives no answer in time.
    case hang(String)
    /// A client that knows no server answers every question about the cluster with this error.
    case noServers(String)

    package var reason: String {
      switch self {
      case .error(let reason), .hang(let reason), .noServers(let reason): reason
      }
    }
  }

  package struct Agent: Sendable {
    package let address: String
    package let role: Settings.Role
    /// Why the agent's configuration cannot be read: its address and token are guesses then. Nil if it can, or if there
    /// is none.
    package var configurationError: String?
    /// What the agent does not use of its configuration.
    package var differences: [AgentProblem.Unused] = []
    package var expected: (servers: Int, source: AgentProblem.ExpectedServers)?
    package var process = AgentProcess.unknown
    /// Nil if the agent answers.
    package var silence: Silence? = .error("not asked")
    package var leader: String?
    /// `address:port` of each server in the raft configuration.
    package var peers: [String] = []
    package var members = Answer<[SerfMember]>.unknown(reason: "the agent does not answer")
    package var running = Answer<RunningAgent>.unknown(reason: "the agent does not answer")
    /// Known on a server that knows a leader only.
    package var raft = Answer<[RaftServer]>.unknown(reason: "there is no leader to ask")
    /// Why this server's data is not that of the cluster; nil if it is. As `raft`.
    package var divergence = Answer<String?>.unknown(reason: "there is no leader to ask")
    /// Servers that should be of this cluster and follow another leader, with that leader.
    package var otherClusters: [AgentProblem.OtherCluster] = []

    package init(address: String, role: Settings.Role) {
      self.address = address
      self.role = role
    }
  }

  /// The sidecar's report on log forwarding.
  package enum Report: Sendable {
    /// No sidecar has left one.
    case absent
    case present(ForwardingReport)
    case unreadable(reason: String)
  }

  package var agent: Agent
  package let sidecar: SidecarStatus
  package let report: Report
  /// The options name logs to forward.
  package let expectsForwarding: Bool
  package let time: Timestamp
  /// Why the options of the last run are lost; nil if they are not.
  package let lostOptions: String?
  /// How this machine leaves its cluster, or has left it; nil if it does not.
  package let departure: DepartureReport?
  /// Instance ID of the server that holds the lock to leave; nil if none does, or ACLs hide it.
  package let leaver: String?
  /// What the sidecar reports on the identity of the cluster.
  package let identityProblems: [Problem]

  package var forwarding: ForwardingReport? { if case .present(let report) = report { report } else { nil } }

  /// What is wrong; empty for a node on which nothing is known to be wrong.
  package var problems: [Problem] {
    let options = lostOptions.map { reason in
      [Problem("the options of the last run are lost: \(reason)", hint: NodeStatus.lostOptionsHint)]
    }
    return agent.problems.map(\.problem) + departureProblems + identityProblems + (options ?? []) + sidecar.problems
      + sidecar.noticeProblems + forwardingProblems
  }

  private var departureProblems: [Problem] {
    guard let departure, departure.isProblem else { return [] }
    return [
      Problem(
        "this machine has not left its cluster: \(departure.reason)",
        hint: "make the missing servers well, or replace them, then: consul-bootstrap leave")
    ]
  }

  static let lostOptionsHint = "run consul-bootstrap again with the options of this machine"

  /// What is worth knowing and no problem.
  package var notes: [String] { agent.notes + sidecar.notes }

  /// What the agent's ACLs hide from this program's token: it is neither a problem nor known to be well.
  package var unknown: [String] { agent.hidden }

  package var forwardingProblems: [Problem] {
    switch report {
    case .present(let report):
      // A sidecar that does not run is reported once.
      let isStale = (time - report.time).magnitude > ForwardingReport.freshness
      return isStale && !sidecar.problems.isEmpty ? [] : report.problems(at: time)
    case .unreadable(let reason):
      return [
        Problem(
          "cannot read the sidecar's report on log forwarding: \(reason)",
          hint: "restart the sidecar, which writes it: \(sidecar.restart)")
      ]
    case .absent where expectsForwarding && sidecar.problems.isEmpty:
      return [Problem("logs are not forwarded: no sidecar has reported", hint: "start the sidecar: \(sidecar.restart)")]
    case .absent: return []
    }
  }
}

extension Duration {
  fileprivate var magnitude: Duration { self < .zero ? .zero - self : self }
}
