package import Base
internal import Consul
package import Decisions
package import Model

/// Looks at every server that may hold data of a cluster without a leader: those of this server's raft configuration,
/// those that the cluster's record names, and those that AWS lists. A proof needs two looks, some seconds apart.
package struct OutageObserver: Sendable {
  private let settings: Settings
  private let context: RuntimeContext
  private let planner: Planner
  private let instance: LocatedInstance

  package init(settings: Settings, context: RuntimeContext, planner: Planner, instance: LocatedInstance) {
    self.settings = settings.besideOtherFiles(context.files)
    self.context = context
    self.planner = planner
    self.instance = instance
  }

  package struct Look: Sendable {
    package let servers: [OutageServer]
    /// This server among them.
    package let own: OutageServer
    /// Of EC2, for the next look.
    package let answer: InstanceAnswer
  }

  private static let agentTimeout = Duration.seconds(2)
  /// Gossip needs no time of its own here: nothing leads, and EC2 has to say twice that an instance is terminated.
  private static let rules = DeathVerdict.Rules(failedFor: .zero)

  /// A server that may hold data, before it is judged.
  private struct Candidate {
    let instance: String?
    let address: IPv4Address
    /// Raft's ID, of a voter.
    let id: String?
  }

  /// - Parameters:
  ///   - first: EC2's answer of the look before.
  ///   - assumedDead: instances that are gone by a person's word, besides those of the options.
  /// - Throws: `Failure`, `AgentError`, `FileError` or `CancellationError`.
  package func look(after first: InstanceAnswer?, assumedDead: Set<String> = []) async throws -> Look {
    let current = CurrentConfiguration(reading: settings.configurationPath, context.files)
    let agent = AgentClient(
      address: current.agentAddress(settings), token: current.agentToken, transport: context.transport,
      timeout: Self.agentTimeout)
    let own = try OwnRaftAddresses(
      current, identity: instance.identity, settings: settings, files: context.files)
    // An agent without raft data answers neither: it has not heard of the cluster yet.
    let hasData = RaftState(dataDirectory: current.dataDirectory(settings), files: context.files).mayBePresent
    let voters = hasData ? try await agent.raftConfiguration(isStale: true) : []
    let nodes = hasData ? try await agent.catalogNodes(isStale: true) : []
    let members = try await agent.members(wan: false)
    let readiness = try await planner.readiness(at: instance)
    var candidates = voters.compactMap { voter in
      IPv4Address(raftAddress: voter.address).map { address in
        let instance =
          own.addresses.contains(address)
          ? instance.identity.instanceID : nodes.first { $0.id == voter.id }?.instanceID
        return Candidate(instance: instance, address: address, id: voter.id)
      }
    }
    func add(_ instance: String?, _ address: IPv4Address) {
      let isKnown = candidates.contains { candidate in
        instance == nil ? candidate.address == address : candidate.instance == instance
      }
      if !isKnown { candidates.append(Candidate(instance: instance, address: address, id: nil)) }
    }
    for server in try await recorded() { add(server.instance, server.address) }
    for asked in readiness.asked { if let address = asked.address { add(asked.instanceID, address) } }
    add(instance.identity.instanceID, own.addresses.sorted().first ?? instance.identity.privateIP)

    let observer = PeerObserver(current, settings: settings, context: context)
    var answers = await observer.query(Set(candidates.map(\.address)).sorted())
    // What others know as raft peers, and this one does not.
    let named = answers.values.flatMap { answer -> [IPv4Address] in
      guard case .status(let status) = answer else { return [] }
      return status.peers.compactMap { IPv4Address(raftAddress: $0) }
    }
    let strangers = Set(named).subtracting(answers.keys).sorted()
    answers.merge(await observer.query(strangers)) { first, _ in first }
    for address in strangers { add(nodes.first { $0.address == address }?.instanceID, address) }

    let proof = InstanceProof(settings: settings, context: context, instance: instance)
    let ids = Set(candidates.compactMap(\.instance)).subtracting([instance.identity.instanceID])
    let second = try await proof.ask(about: ids.sorted())
    var group = instance.identity.groupName
    let states = try await proof.lifecycleStates(&group)
    let assumedDead = assumedDead.union(settings.assumedDead)
    let servers = candidates.map { candidate in
      OutageServer(
        instance: candidate.instance, address: candidate.address,
        standing: standing(
          of: candidate, answers[candidate.address], members, first, second, states, assumedDead: assumedDead))
    }
    // AWS lists it, but nothing can be asked: it may hold data.
    let unseen = readiness.asked.filter { asked in !candidates.contains { $0.instance == asked.instanceID } }
      .map { asked in
        OutageServer(
          instance: asked.instanceID, address: nil,
          standing: assumedDead.contains(asked.instanceID)
            ? .gone(evidence: "--assume-dead") : .unknown(reason: asked.standing ?? "it has no address"))
      }
    // It is a candidate.
    guard let mine = servers.first(where: { $0.instance == instance.identity.instanceID }) else {
      throw Failure(
        .agentUnhealthy, "this server, \(instance.identity.instanceID), is not among the servers that may hold data",
        hint: "consul-bootstrap status --check names what is wrong")
    }
    return Look(servers: servers + unseen, own: mine, answer: second)
  }

  /// The servers of the newest entry of the cluster's record.
  private func recorded() async throws -> [ClusterRecord.Server] {
    guard let path = settings.clusterRecordPath(for: instance.identity) else { return [] }
    do {
      return try await RecordObserver(context: context, client: instance.client).newest(below: path, for: nil)?
        .record.servers ?? []
    } catch {
      throw error.asFailure("read the cluster's record \(path)")
    }
  }

  private func standing(
    of candidate: Candidate, _ answer: PeerAnswer?, _ members: [SerfMember], _ first: InstanceAnswer?,
    _ second: InstanceAnswer, _ states: [String: String], assumedDead: Set<String>
  ) -> OutageServer.Standing {
    // One that shows its data lives, whatever EC2 says.
    if case .status(let status) = answer, !status.isEmpty { return .answers(status) }
    if let instance = candidate.instance, assumedDead.contains(instance) {
      return .gone(evidence: "--assume-dead")
    }
    let isAlive = members.contains { member in
      member.isAlive && (candidate.id.map { $0 == member.nodeID } ?? (member.address == candidate.address))
    }
    let probe: ProbeResult = if case .refused = answer { .refused } else { .silent }
    let verdict = DeathVerdict(
      of: SuspectedNode(
        node: candidate.instance ?? candidate.address.description, instanceID: candidate.instance,
        failedFor: isAlive ? nil : .zero, probe: probe, wasKnown: false),
      own: instance.identity.instanceID, first: first, second: second, lifecycleStates: states, rules: Self.rules)
    if case .gone(let evidence) = verdict { return .gone(evidence: evidence) }
    switch answer {
    case .status(let status)?: return .answers(status)
    case .refused?: return .unknown(reason: "no agent runs there: \(verdict.reason)")
    case .unknown(let reason)?: return .unknown(reason: "\(reason); \(verdict.reason)")
    case nil: return .unknown(reason: verdict.reason)
    }
  }
}

extension DeathVerdict {
  fileprivate var reason: String {
    switch self {
    case .gone(let words), .unknown(let words), .alive(let words): words
    }
  }
}
