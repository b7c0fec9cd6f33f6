package import Base
package import Model
internal import Consul

/// Whether this server's raft data is still part of the cluster that the others report.
///
/// A server that the leader's raft configuration no longer names (it was off, or had left, and was removed) would
/// campaign with a higher term and take the leadership from the living ones. Its data is renamed, and it joins empty.
package enum RaftDataDecision: Sendable, Equatable {
  case keep(reason: String)
  case setAside(reason: String)

  /// - Parameters:
  ///   - ownAddresses: `address:port` under which raft may name this server: those that it has now, and those of the
  ///     configuration on disk.
  ///   - answers: of the other servers, by address.
  ///   - port: of raft, on every server.
  package init(ownAddresses: Set<String>, answers: [IPv4Address: PeerAnswer], port: Int64) {
    let reports = answers.compactMap { address, answer -> (address: IPv4Address, leader: String, peers: [String])? in
      guard case .status(let status) = answer, let leader = status.leader, !status.peers.isEmpty else { return nil }
      return (address, leader, status.peers)
    }.sorted { $0.address < $1.address }
    guard !reports.isEmpty else {
      self = .keep(reason: "no other server knows a leader")
      return
    }
    if let report = reports.first(where: { !ownAddresses.isDisjoint(with: $0.peers) }) {
      self = .keep(reason: "the raft configuration that \(report.address) reports names this server")
      return
    }
    // A follower may be behind: the leader itself says so, or a majority of those that its configuration names.
    let proof =
      reports.first { "\($0.address):\(port)" == $0.leader }
      ?? reports.first { report in
        let same = reports.filter {
          Set($0.peers) == Set(report.peers) && report.peers.contains("\($0.address):\(port)")
        }
        return same.count > report.peers.count / 2
      }
    guard let proof else {
      self = .keep(reason: "no leader confirms that this server was removed")
      return
    }
    self = .setAside(
      reason: "the raft configuration that \(proof.address) reports does not name this server: "
        + proof.peers.sorted().joined(separator: ", "))
  }
}

extension RaftDataDecision {
  /// The decision about this machine's raft data; nil if it has none that the agent will use.
  package init?(_ observation: Observation, _ settings: Settings, keepsData: Bool) {
    guard settings.role == .server, keepsData, observation.machine.dataDirectory.raftState.mayBePresent else {
      return nil
    }
    self.init(observation, settings)
  }

  fileprivate init(_ observation: Observation, _ settings: Settings) {
    let identity = observation.identity, current = observation.machine.configuration
    let interfaces = identity.interfaces.flatMap { $0.privateIPs + $0.publicIPs.keys }
    let own = [identity.privateIP, current.bindAddress, current.advertiseAddress].compactMap { $0 } + interfaces
    let port = settings.serverPort
    self.init(
      ownAddresses: Set(own.map { "\($0):\(port)" }),
      answers: observation.peers.filter { !own.contains($0.key) }, port: port)
  }
}

extension Plan {
  /// Whether a leader says that its raft configuration does not name this server.
  /// - Parameter settings: of the plan.
  package func isUnknownToLeader(_ settings: Settings) -> Bool {
    if case .setAside = RaftDataDecision(observation, settings) { true } else { false }
  }
}
