package import Base
package import Consul

/// A server that may hold data of the cluster, as the one that decides sees it.
package struct OutageServer: Sendable, Equatable {
  package enum Standing: Sendable, Equatable {
    /// By raft's port: its leader, its raft configuration, and where its log ends.
    case answers(ClusterStatus)
    /// Its data can never come back.
    case gone(evidence: String)
    /// It may come back with data: it is stopped, cut off, or its agent does not run.
    case unknown(reason: String)
  }

  /// Nil for a server that is no known instance of EC2.
  package let instance: String?
  /// Nil for an instance that has none now, or not in this network.
  package let address: IPv4Address?
  package let standing: Standing

  package init(instance: String?, address: IPv4Address?, standing: Standing) {
    self.instance = instance
    self.address = address
    self.standing = standing
  }

  package var name: String {
    [instance, address.map { instance == nil ? "\($0)" : "(\($0))" }].compactMap { $0 }.joined(separator: " ")
  }

  package var isGone: Bool { if case .gone = standing { true } else { false } }

  var status: ClusterStatus? { if case .answers(let status) = standing { status } else { nil } }

  /// Where its log ends; nil without one.
  package var log: LogPosition? { status?.lastLog.flatMap { $0.index > 0 ? $0 : nil } }
}

/// Whether a cluster without a leader has lost its quorum for ever, and which server then leads it again.
///
/// A server that is gone never votes again. With fewer than a quorum of each known configuration left, none of them can
/// elect a leader any more: a recovery makes no second cluster. Every server that may hold data is either gone or has
/// shown its log: the one that recovers has the longest.
package enum RecoveryDecision: Sendable, Equatable {
  /// A server follows or is a leader.
  case noOutage(leader: String)
  /// Not now, or never by itself: with what is missing, a line each.
  case wait(reason: String, missing: [String])
  /// The server with the longest log, and the others that have one.
  case recover(OutageServer, others: [OutageServer])
  /// No server has data, and all that had are gone.
  case totalLoss(gone: [OutageServer])

  /// - Parameter servers: the voters of this server's raft configuration, this one among them; those of the newest
  ///   entry of the cluster's record; and every running instance that counts as a server.
  package init(_ servers: [OutageServer]) {
    if let leader = servers.lazy.compactMap({ $0.status?.leader }).first {
      self = .noOutage(leader: leader)
      return
    }
    // What is gone counts once its address is not a living server's: that one may have got its address.
    let present = servers.filter { !$0.isGone }
    let gone = Set(servers.filter(\.isGone).compactMap(\.address)).subtracting(present.compactMap(\.address))
    let known = Set(servers.compactMap(\.address))
    let survivors = servers.filter { $0.log != nil }.sorted(by: Self.leadsBefore)
    for survivor in survivors {
      let peers = (survivor.status?.peers ?? []).map { ($0, IPv4Address(raftAddress: $0)) }
      let strangers = peers.filter { $0.1.map { !known.contains($0) } ?? true }.map(\.0)
      guard strangers.isEmpty else {
        self = .wait(
          reason: "the raft configuration of \(survivor.name) names servers of which nothing is known",
          missing: strangers)
        return
      }
      let left = peers.compactMap(\.1).filter { !gone.contains($0) }
      guard left.count < peers.count / 2 + 1 else {
        let absent = present.filter { $0.log == nil && $0.address.map(left.contains) ?? false }
        self = .wait(
          reason: "\(left.count) of the \(peers.count) servers of \(survivor.name)'s raft configuration are not "
            + "terminated: they are a quorum, and elect a leader once they reach each other",
          missing: absent.map(\.explanation))
        return
      }
    }
    let unknown = present.filter { $0.status == nil }
    guard unknown.isEmpty else {
      self = .wait(
        reason: "servers that may hold data are neither here nor terminated", missing: unknown.map(\.explanation))
      return
    }
    if let best = survivors.first {
      self = .recover(best, others: Array(survivors.dropFirst()))
    } else {
      self = .totalLoss(gone: servers.filter(\.isGone))
    }
  }

  /// The server with the longest log, whatever else is missing; nil if none has data.
  package static func longestLog(_ servers: [OutageServer]) -> OutageServer? {
    servers.filter { $0.log != nil }.min(by: leadsBefore)
  }

  private static func leadsBefore(_ first: OutageServer, _ second: OutageServer) -> Bool {
    guard let one = first.log, let other = second.log, one != other else { return first.name < second.name }
    return other < one
  }
}

extension OutageServer {
  /// A line about it.
  package var explanation: String {
    switch standing {
    case .gone(let evidence): "\(name): \(evidence)"
    case .unknown(let reason): "\(name): \(reason)"
    case .answers:
      log.map { "\(name) has data up to term \($0.term), index \($0.index)" } ?? "\(name) runs without data"
    }
  }
}
