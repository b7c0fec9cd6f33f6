package import Base

/// What may be wrong with an agent and its cluster: the one table of these problems and their hints, for the
/// verification of a boot, `status` and `doctor`.
package enum AgentProblem: Sendable, Equatable {
  case noAnswer(address: String, reason: String, AgentProcess)
  /// The agent accepts connections, and does not answer in time.
  case hangs(address: String, AgentProcess)
  /// A client without any server.
  case noServers
  case noLeader(cause: CauseOfNoLeader?)
  /// Fewer servers of the raft configuration are alive than a quorum; the agent still knows a leader.
  case lostMajority(alive: Int, peers: Int, dead: [String])
  /// Servers of the raft configuration that are not alive, though a quorum is.
  case deadServers([String], alive: Int, peers: Int)
  case fewServers(found: Int, expected: Int, source: ExpectedServers)
  /// The raft configuration does not have this server.
  case notInRaft(address: String)
  case notVoter(address: String)
  case unused(Unused)
  /// This server's data is not that of the cluster whose leader it follows.
  case diverged(reason: String)
  case otherCluster(OtherCluster)
  case unknownMembers(reason: String)
  case unknownRaft(reason: String)
  case unreadableConfiguration(reason: String)

  package enum CauseOfNoLeader: Sendable, Equatable {
    case lostMajority(alive: Int, peers: Int, dead: [String])
    /// The servers were started with different numbers, by number.
    case conflictingExpect([Int64: [String]])
  }

  /// A value that the agent does not use.
  package struct Unused: Sendable, Equatable {
    package enum Source: Sendable, Equatable {
      /// Our own file, whose value another file replaces.
      case ownFile
      /// All files together: the agent was started otherwise, or before they were changed.
      case files
      /// What a run with these options would write.
      case options
    }

    package let difference: ExpectedAgent.Difference
    package let source: Source

    package init(_ difference: ExpectedAgent.Difference, of source: Source) {
      self.difference = difference
      self.source = source
    }
  }

  /// A server that should be of the same cluster, and is of another one.
  package struct OtherCluster: Sendable, Equatable {
    package let server: String
    package let leader: String
    /// That of this server's cluster.
    package let ownLeader: String

    package init(server: String, leader: String, ownLeader: String) {
      (self.server, self.leader, self.ownLeader) = (server, leader, ownLeader)
    }
  }

  /// Where the number of servers comes from.
  package enum ExpectedServers: Sendable, Equatable { case option, configuration, group }

  package var problem: Problem { Problem(message, hint: hint) }

  package var message: String {
    switch self {
    case .noAnswer(let address, let reason, let process):
      "the agent does not answer on \(address): \(reason)" + (process.problem.map { ": \($0)" } ?? "")
    case .hangs(let address, let process):
      "the agent accepts connections on \(address) and does not answer: "
        + (process.problem ?? "it hangs, or its machine is overloaded")
    case .noServers: "the agent knows no server"
    case .noLeader(nil): "the agent knows no leader"
    case .noLeader(.lostMajority(let alive, let peers, let dead)?):
      "the agent knows no leader: " + Self.lostMajority(alive, peers, dead)
    case .noLeader(.conflictingExpect(let servers)?):
      "the agent knows no leader: the servers disagree on bootstrap_expect: " + Self.text(of: servers)
    case .lostMajority(let alive, let peers, let dead): Self.lostMajority(alive, peers, dead)
    case .deadServers(let dead, let alive, let peers):
      "\(alive) of \(peers) servers are alive; not alive: \(dead.joined(separator: ", "))"
    case .fewServers(let found, let expected, let source):
      switch source {
      case .option: "\(found) of \(expected) servers are in the raft configuration"
      case .configuration: "\(found) of \(expected) servers are in the raft configuration (bootstrap_expect)"
      case .group: "\(found) of \(expected) servers are in the raft configuration (desired capacity)"
      }
    case .notInRaft(let address): "this server (\(address)) is not in the raft configuration"
    case .notVoter(let address): "this server (\(address)) is not a raft voter"
    case .unused(let unused):
      unused.source == .options
        ? "the agent runs with other options: \(unused.difference)"
        : "the agent does not use its configuration: \(unused.difference)"
    case .diverged(let reason): "this server has diverged from its cluster: \(reason)"
    case .otherCluster(let other):
      "there are two clusters: server \(other.server) follows leader \(other.leader), this server follows "
        + other.ownLeader
    case .unknownMembers(let reason): "cannot count the alive servers: \(reason)"
    case .unknownRaft(let reason): "cannot read the raft configuration: \(reason)"
    case .unreadableConfiguration(let reason): "cannot read the agent's configuration: \(reason)"
    }
  }

  package var hint: String {
    switch self {
    case .noAnswer(_, _, let process): process.hint ?? "start the agent: run consul-bootstrap again"
    case .hangs(_, let process): process.hint ?? process.runner.restartHint
    case .noServers: "allow 8301 tcp and udp and 8300 tcp to the servers in the security groups"
    case .noLeader(nil):
      "allow 8300 tcp and 8301 tcp and udp between the servers in the security groups, and check the log of each server"
    case .noLeader(.lostMajority?), .lostMajority:
      "start these servers again with their data; if it is lost, run consul-bootstrap recover on a server that has data"
    case .noLeader(.conflictingExpect?): "run consul-bootstrap on every server with the same --expect"
    case .deadServers: "start these servers again, or replace them; then `consul operator raft list-peers` is complete"
    case .fewServers(_, _, .option): "start the missing servers, or run consul-bootstrap again with the right --expect"
    case .fewServers(_, _, .configuration):
      "start the missing servers; if there are fewer on purpose, run consul-bootstrap again, which removes "
        + "bootstrap_expect"
    case .fewServers(_, _, .group): "check why they are missing: aws autoscaling describe-scaling-activities"
    case .notInRaft: "restart the agent; if the cluster still does not add it, run consul-bootstrap again"
    case .notVoter:
      "wait for --server-stabilization-time; then compare `consul operator raft list-peers` with the agent's log"
    case .unused(let unused):
      switch unused.source {
      case .ownFile:
        "remove \(unused.difference.key) from the other files of the configuration directory, and restart the agent"
      case .files: "restart the agent, and check the options of its command line"
      case .options: "run consul-bootstrap again with the options of this machine"
      }
    case .diverged:
      "the leader's data is the cluster's: unless this server's is needed, stop its agent, rename its data directory, "
        + "and start the agent: it joins empty"
    case .otherCluster:
      "compare the data of both, keep the cluster that is right, and replace the servers of the other one: they join "
        + "empty"
    case .unknownMembers, .unknownRaft: "check the agent's log"
    case .unreadableConfiguration: "run consul-bootstrap again as root, which writes it"
    }
  }

  package static func quorum(of peers: Int) -> Int { peers / 2 + 1 }

  private static func lostMajority(_ alive: Int, _ peers: Int, _ dead: [String]) -> String {
    "\(alive) of \(peers) servers are alive, a quorum is \(quorum(of: peers))"
      + (dead.isEmpty ? "" : "; not alive: \(dead.joined(separator: ", "))")
  }

  /// `3 on a, b; 5 on c`.
  package static func text(of servers: [Int64: [String]]) -> String {
    servers.sorted { $0.key < $1.key }.map { "\($0.key) on \($0.value.sorted().joined(separator: ", "))" }
      .joined(separator: "; ")
  }
}
