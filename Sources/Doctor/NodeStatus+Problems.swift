internal import Base
package import Consul
package import Model

// MARK: The judgement of the agent

extension NodeStatus.Agent {
  package var quorum: Int { AgentProblem.quorum(of: votersOrPeers.count) }

  package var aliveServers: [SerfMember]? { members.value?.filter { $0.isServer && $0.isAlive } }

  private var votersOrPeers: [String] { raft.value.map { $0.filter(\.isVoter).map(\.address) } ?? peers }

  /// In the order in which they are to be fixed.
  package var problems: [AgentProblem] {
    let unreadable = configurationError.map { [AgentProblem.unreadableConfiguration(reason: $0)] } ?? []
    return unreadable + answerProblems
  }

  private var answerProblems: [AgentProblem] {
    switch silence {
    case .error(let reason): return [.noAnswer(address: address, reason: reason, process)]
    case .hang: return [.hangs(address: address, process)]
    case .noServers: return [.noServers]
    case nil: break
    }
    var problems = differences.map { AgentProblem.unused($0) } + otherClusters.map { .otherCluster($0) }
    if case .crashing = process.state {
      // It answers between two crashes.
      problems.append(.noAnswer(address: address, reason: "not for long", process))
    }
    guard leader != nil else { return problems + [.noLeader(cause: causeOfNoLeader)] }
    if case .unknown(let reason) = members { problems.append(.unknownMembers(reason: reason)) }
    problems += majorityProblem ?? deadServersProblem ?? []
    if role == .server { problems += ownProblems }
    return problems
  }

  private var causeOfNoLeader: AgentProblem.CauseOfNoLeader? {
    if case .lostMajority(let alive, let peers, let dead)? = majorityProblem?.first {
      return .lostMajority(alive: alive, peers: peers, dead: dead)
    }
    let numbers = numbers
    return numbers.count > 1 ? .conflictingExpect(numbers) : nil
  }

  /// The alive servers by their `bootstrap_expect`, without those that have none: they join.
  private var numbers: [Int64: [String]] {
    (aliveServers ?? []).reduce(into: [:]) { numbers, server in
      if let number = server.bootstrapExpect { numbers[number, default: []].append(server.name) }
    }
  }

  /// Those of the addresses at which gossip shows no alive server, by name where gossip knows it; nil if gossip or an
  /// address of it is not known.
  private func dead(of addresses: [String]) -> [String]? {
    guard let members = members.value, let alive = aliveServers else { return nil }
    let living = alive.compactMap { $0.address?.description }
    guard living.count == alive.count else { return nil }
    return addresses.compactMap { address in
      let host = String(address[..<(address.lastIndex(of: ":") ?? address.endIndex)])
      guard !living.contains(host) else { return nil }
      let name = members.first { $0.isServer && $0.address?.description == host }?.name
      return name.map { "\($0) (\(host))" } ?? host
    }
  }

  private var majorityProblem: [AgentProblem]? {
    let voters = votersOrPeers
    guard !voters.isEmpty, let alive = aliveServers else { return nil }
    let dead = dead(of: voters), living = dead.map { voters.count - $0.count } ?? alive.count
    return living < AgentProblem.quorum(of: voters.count)
      ? [.lostMajority(alive: living, peers: voters.count, dead: dead ?? [])] : nil
  }

  private var deadServersProblem: [AgentProblem]? {
    guard let dead = dead(of: peers), !dead.isEmpty else { return nil }
    return [.deadServers(dead, alive: peers.count - dead.count, peers: peers.count)]
  }

  /// What the raft configuration says about this server and the number of servers.
  private var ownProblems: [AgentProblem] {
    var problems: [AgentProblem] = []
    if let reason = divergence.value ?? nil { problems.append(.diverged(reason: reason)) }
    if case .unknown(let reason) = raft { problems.append(.unknownRaft(reason: reason)) }
    if let own = running.value?.raftAddress {
      if let servers = raft.value {
        if let server = servers.first(where: { $0.address == own }) {
          if !server.isVoter { problems.append(.notVoter(address: own)) }
        } else {
          problems.append(.notInRaft(address: own))
        }
      } else if raft.isHidden, !peers.contains(own) {
        problems.append(.notInRaft(address: own))
      }
    }
    if let expected, peers.count < expected.servers {
      problems.append(.fewServers(found: peers.count, expected: expected.servers, source: expected.source))
    }
    return problems
  }

  package var notes: [String] {
    guard silence == nil else { return [] }
    var notes: [String] = []
    if leader != nil, numbers.count > 1 {
      notes.append(
        "the servers disagree on bootstrap_expect, which matters only without a leader: "
          + AgentProblem.text(of: numbers))
    }
    if leader != nil, let alive = aliveServers, !peers.isEmpty {
      let hosts = peers.map { String($0[..<($0.lastIndex(of: ":") ?? $0.endIndex)]) }
      let others = alive.filter { $0.address.map { !hosts.contains($0.description) } ?? false }.map(\.name)
      if !others.isEmpty { notes.append("alive, but not in the raft configuration: \(others.joined(separator: ", "))") }
    }
    if let versionNote { notes.append(versionNote) }
    if case .unknown(let reason?) = process.state { notes.append("cannot check the agent's process: \(reason)") }
    return notes
  }

  package var hidden: [String] {
    guard silence == nil else { return [] }
    var hidden: [String] = []
    if members.isHidden { hidden.append("the alive servers") }
    if running.isHidden { hidden.append("the configuration that the agent uses") }
    if raft.isHidden { hidden.append("the votes in the raft configuration") }
    if divergence.isHidden { hidden.append("the identity of the cluster") }
    return hidden
  }
}
