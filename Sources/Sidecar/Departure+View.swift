internal import Base
internal import Consul
internal import Decisions
internal import Model
internal import Observers

/// What a server sees of the others before it leaves.
extension Departure {
  /// This server in the raft configuration, by its address, or by its name where raft still has an old address; nil if
  /// raft does not name it.
  static func mine(
    _ servers: [RaftServer], _ own: OwnRaftAddresses, _ configuration: CurrentConfiguration
  ) -> RaftServer? {
    let name = configuration.merged["node_name"]?.string
    return servers.first { own.names.contains($0.address) } ?? servers.first { $0.node == name }
  }

  /// Whether this server can tell itself from the others. Without its configuration it cannot, and a raft configuration
  /// that does not name it proves nothing.
  func knows(_ own: OwnRaftAddresses, _ configuration: CurrentConfiguration) -> Bool {
    configuration.document != nil && !own.addresses.isEmpty
  }

  var unknownAddress: String { "\(settings.configurationPath) does not tell the address of this server" }

  /// The agent's own word is the last one, as an edited configuration may have another address and another name.
  /// - Throws: `AgentError`.
  func find(
    in servers: [RaftServer], _ own: OwnRaftAddresses, _ configuration: CurrentConfiguration, _ client: AgentClient
  ) async throws -> RaftServer? {
    if let mine = Self.mine(servers, own, configuration) { return mine }
    let id = try await client.nodeID()
    return servers.first { $0.id == id }
  }

  /// - Parameter comparesGossip: whether a server of which autopilot says nothing has to be alive in two looks.
  /// - Throws: `AgentError`, also where raft has forgotten this server since.
  func view(
    from mine: RaftServer, _ client: AgentClient, _ progress: inout Progress, comparesGossip: Bool = true
  ) async throws -> QuorumView {
    let servers = try await client.raftConfiguration()
    guard let mine = servers.first(where: { $0.id == mine.id }) else {
      throw AgentError.malformed("the raft configuration has just changed")
    }
    let members = try await client.members(wan: false)
    let alive = Set(members.filter { $0.isServer && $0.isAlive }.compactMap(\.address))
    var health: [String: Bool] = [:]
    do {
      health = try await client.autopilotHealth()
    } catch AgentError.refused(let status, _) where status >= 500 {
      // A leader that has just been elected has none.
    }
    let before = progress.alive
    progress.alive = []
    var others: [QuorumView.Voter] = []
    for server in servers where server.id != mine.id {
      let address = IPv4Address(raftAddress: server.address)
      if let address { progress.others.insert(address) }
      guard server.isVoter else { continue }
      let isAlive = address.map(alive.contains) ?? false
      if isAlive { progress.alive.insert(server.id) }
      // Without autopilot's word, gossip has to say it twice.
      let isWell = isAlive && (health[server.id] ?? (!comparesGossip || before.contains(server.id)))
      others.append(.init(id: server.id, node: server.node, address: server.address, isWell: isWell))
    }
    let voting = Set(servers.filter(\.isVoter).compactMap { IPv4Address(raftAddress: $0.address) })
    let joining = members.filter { member in
      member.isServer && member.isAlive && member.name != mine.node
        && member.address.map { !voting.contains($0) } ?? true
    }
    return QuorumView(
      others: others, joining: joining.map(\.name).sorted(), isVoter: mine.isVoter, isLeader: mine.isLeader)
  }

  /// Gossip and autopilot notice a death seconds later: a voter that does not answer on raft's port now, or knows no
  /// leader, is not well.
  func answering(_ view: QuorumView, _ configuration: CurrentConfiguration) async -> QuorumView {
    var view = view
    let addresses = view.others.map { IPv4Address(raftAddress: $0.address) }
    let asked = zip(view.others, addresses).filter(\.0.isWell).compactMap(\.1)
    let answers = await PeerObserver(configuration, settings: settings, context: context).query(asked)
    for (index, address) in addresses.enumerated() where view.others[index].isWell {
      view.others[index].isWell = address.flatMap { answers[$0]?.knowsLeader } ?? false
    }
    return view
  }

  /// All servers that this one knew may have been replaced since its agent left. Of those that AWS lists now, the
  /// servers of the same cluster count.
  func placeByList(
    _ configuration: CurrentConfiguration, _ own: OwnRaftAddresses, _ progress: inout Progress
  ) async -> Place {
    let now = context.uptime()
    guard progress.listedAt.map({ now - $0 >= Self.cloudPause }) ?? true else { return .unknown }
    progress.listedAt = now
    let listed = Set(await listedServers()).subtracting(own.addresses).subtracting(progress.others)
    for server in listed.sorted() {
      if await isOfThisCluster(server, configuration) { progress.others.insert(server) }
    }
    return await confirmedPlace(configuration, own, progress.others)
  }

  /// What the others say of a server that has no leader of its own. Another cluster may have their addresses by now:
  /// its servers do not name this one, and prove nothing about its data.
  func confirmedPlace(
    _ configuration: CurrentConfiguration, _ own: OwnRaftAddresses, _ others: Set<IPv4Address>
  ) async -> Place {
    let place = await place(configuration, own, others)
    let state = RaftState(dataDirectory: configuration.dataDirectory(settings), files: context.files)
    guard place == .removed, state.mayBePresent else { return place }
    for server in others.subtracting(own.addresses).sorted() where await isOfThisCluster(server, configuration) {
      return place
    }
    context.log.progress("the servers that answer have not proven that they are of this server's cluster")
    return .unknown
  }

  private func isOfThisCluster(_ server: IPv4Address, _ configuration: CurrentConfiguration) async -> Bool {
    do {
      guard let file = try context.files.clusterIdentity(settings) else { return false }
      let observer = RaftPortObserver(configuration, settings: settings, context: context)
      return try await observer.clusterIdentity(of: server, configuration)?.cluster == file.cluster
    } catch {
      context.log.debug(
        "no identity of the cluster", ["server": .string(server.description), "reason": .string(error.explained)])
      return false
    }
  }

  /// An agent whose HTTP API is closed, or elsewhere, still votes.
  func hasOpenRaftPort(_ configuration: CurrentConfiguration, _ own: OwnRaftAddresses) async -> Bool {
    let bound = configuration.bindAddress.flatMap { $0.isUnspecified ? nil : $0 } ?? AgentInterface.loopback
    return await context.ports.connect(bound, port: own.port, timeout: Self.pause) == .open
  }

  func askGroups(_ progress: inout Progress) async {
    let now = context.uptime()
    guard progress.desiredAt.map({ now - $0 >= Self.cloudPause }) ?? true else { return }
    progress.desiredAt = now
    progress.desired = await desiredCapacity()
    progress.zeros = progress.desired == 0 ? progress.zeros + 1 : 0
  }

  enum Handover {
    case done, notLeading
    /// No other server is well, one leaves, or none has taken over.
    case notNow
    /// The release has no such call.
    case unsupported
  }

  /// Without a departure.
  /// - Throws: `AgentError` or `FileError`.
  func handLeadershipOver() async throws -> Handover {
    let configuration = configuration, client = agent(configuration)
    let own = try OwnRaftAddresses(configuration, identity: nil, settings: settings, files: context.files)
    guard let mine = Self.mine(try await client.raftConfiguration(), own, configuration), mine.isLeader else {
      return .notLeading
    }
    guard try await client.leaveLock().session == nil else { return .notNow }
    var progress = Progress(start: context.uptime())
    guard try await runningLeaver(client, own, &progress) == nil else { return .notNow }
    let view = await answering(
      try await view(from: mine, client, &progress, comparesGossip: false), configuration)
    if try await handOver(view, client, own, &progress) { return .done }
    return progress.handsOver == false ? .unsupported : .notNow
  }

  /// - Returns: whether another server leads now.
  func handOver(
    _ view: QuorumView, _ client: AgentClient, _ own: OwnRaftAddresses, _ progress: inout Progress
  ) async throws -> Bool {
    guard progress.handsOver != false, let target = view.others.first(where: \.isWell) else { return false }
    do {
      progress.handsOver = try await client.transferLeader(to: target.id)
    } catch AgentError.refused(let status, let message) where status >= 500 {
      progress.failedHandovers += 1
      guard progress.failedHandovers >= Self.maximumHandovers else {
        throw AgentError.refused(status: status, message: message)
      }
      // A leave hands over by itself, or costs an election.
      progress.handsOver = false
    }
    guard progress.handsOver == true else { return false }
    let end = context.uptime() + Self.handoverTimeout
    while context.uptime() < end {
      if let leader = try await client.leader(), !own.names.contains(leader) {
        context.log.info("handed leadership over", ["leader": .string(leader)])
        return true
      }
      try await context.clock.sleep(for: Self.confirmationPause)
    }
    return false
  }

  /// More than a datacenter has servers.
  private static let mostLeavers = 64

  /// A server that has left and whose agent has not ended yet. Until then it campaigns, with higher terms each time: a
  /// leader that steps down meanwhile takes over its term, and while gossip still calls that one alive, each new leader
  /// tries to replicate to it, and gives up on seeing that term (measured with 1.8.7: 8 s without a leader).
  func runningLeaver(
    _ client: AgentClient, _ own: OwnRaftAddresses, _ progress: inout Progress
  ) async throws -> IPv4Address? {
    let servers = try await client.members(wan: false).filter(\.isServer)
    let present = Set(servers.filter(\.isAlive).compactMap(\.address))
    let left = Set(servers.filter { $0.status == .left || $0.status == .leaving }.compactMap(\.address))
    let now = context.uptime()
    for address in left where progress.left[address] == nil { progress.left[address] = now }
    let asked = left.subtracting(present).sorted().filter { address in
      progress.left[address].map { now - $0 < Self.leaverTimeout } ?? false
    }
    return await withTaskGroup(of: IPv4Address?.self) { group in
      for address in asked.prefix(Self.mostLeavers) {
        group.addTask {
          await context.ports.connect(address, port: own.port, timeout: Self.pause) == .open ? address : nil
        }
      }
      var running: [IPv4Address] = []
      for await address in group { if let address { running.append(address) } }
      return running.min()
    }
  }

  /// A leader is removed from raft before its agent has told gossip: one that is stopped then would count as failed.
  func leaveGossip(_ configuration: CurrentConfiguration, _ own: OwnRaftAddresses) async throws {
    let client = agent(configuration), end = context.uptime() + Self.leaveTimeout
    while context.uptime() < end {
      do {
        let isMember = try await client.members(wan: false).contains { member in
          member.address.map(own.addresses.contains) ?? false && (member.isAlive || member.status == .leaving)
        }
        guard isMember else { return }
      } catch let error as CancellationError {
        throw error
      } catch {
        // Its agent has ended, or hides it.
        return
      }
      try await context.clock.sleep(for: Self.confirmationPause)
    }
  }

  /// A founder whose cluster has never had a leader: its log ends with the configuration that it bootstrapped with, at
  /// index 1. A leader's first entry follows that one, so no write has ever been acknowledged. False where the end of
  /// the log is not known.
  func isOfNoLeader(_ configuration: CurrentConfiguration) -> Bool {
    let directory = configuration.dataDirectory(settings)
    return RaftState.lastPosition(dataDirectory: directory, files: context.files).map { $0.index <= 1 } ?? false
  }
}
