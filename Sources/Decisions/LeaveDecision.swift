internal import Consul

/// The servers of a cluster as one of them sees them before it leaves.
package struct QuorumView: Sendable, Equatable {
  /// A server that votes.
  package struct Voter: Sendable, Equatable {
    /// raft's.
    package let id: String
    package let node: String
    /// `address:port`.
    package let address: String
    /// Gossip says that it is alive, and autopilot does not say that it is unhealthy.
    package var isWell: Bool

    package init(id: String, node: String, address: String, isWell: Bool) {
      self.id = id
      self.node = node
      self.address = address
      self.isWell = isWell
    }
  }

  /// Voters without this server.
  package var others: [Voter]
  /// Names of servers that are alive in gossip and have no vote yet.
  package var joining: [String]
  package var isVoter: Bool
  package var isLeader: Bool

  package init(others: [Voter], joining: [String] = [], isVoter: Bool, isLeader: Bool) {
    self.others = others
    self.joining = joining
    self.isVoter = isVoter
    self.isLeader = isLeader
  }

  /// All voters.
  package var voters: Int { others.count + (isVoter ? 1 : 0) }
  /// How many of `voters` a decision needs.
  package var quorum: Int { voters / 2 + 1 }
  /// How many of the others a decision needs once this server has left.
  package var quorumAfter: Int { others.count / 2 + 1 }
  /// Others that are well.
  package var well: Int { others.count(where: \.isWell) }
  /// The servers that are missing, in a line.
  package var missing: [String] { others.filter { !$0.isWell }.map { "\($0.node) (\($0.address))" }.sorted() }
}

/// Whether a server may leave its cluster: the others must keep their quorum. Dead voters that stand in the way are
/// removed by the leader's sidecar, once EC2 proves them terminated.
package enum LeaveDecision: Sendable, Equatable {
  case leave(reason: String)
  /// Not now.
  case wait(reason: String)
  /// The only voter of a group that is to be empty: its data stays where it is.
  case stayAsLast(reason: String)

  /// - Parameters:
  ///   - desiredCapacity: of all groups that have this datacenter's servers; nil if it is not known.
  ///   - isPatient: whether to wait until the others can lose one more server.
  ///   - isTeardown: the desired capacity has been 0 twice, some seconds apart.
  package init(_ view: QuorumView, desiredCapacity: Int?, isPatient: Bool, isTeardown: Bool) {
    guard view.isVoter else {
      self = .leave(reason: "this server has no vote")
      return
    }
    let (well, quorum) = (view.well, view.quorumAfter)
    guard well >= quorum, !view.others.isEmpty else {
      if view.others.isEmpty {
        // Another group's servers may be about to take over.
        let joins = view.joining.isEmpty ? "" : ", and \(view.joining.joined(separator: ", ")) may join"
        self =
          isTeardown && view.joining.isEmpty
          ? .stayAsLast(reason: "this is the last voter of a group that is to have none")
          : .wait(reason: "this is the only voter: its data would be lost\(joins)")
      } else {
        self = .wait(
          reason: "without this server \(well) of \(view.others.count) voters are well, and a quorum needs \(quorum); "
            + "missing: \(view.missing.joined(separator: ", "))")
      }
      return
    }
    let isWanted = desiredCapacity.map { $0 <= well } ?? false
    if well > quorum || isWanted || !isPatient {
      self = .leave(reason: "\(well) of the other \(view.others.count) voters are well, and a quorum needs \(quorum)")
    } else {
      self = .wait(
        reason:
          "without this server no other voter could be lost: waiting for a replacement that votes")
    }
  }
}
