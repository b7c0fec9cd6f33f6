internal import Base
internal import Consul
internal import Decisions
internal import Execution
internal import Model
internal import Observers

/// Keeps a server in its cluster while the other servers change: joins its agent to those that are there now, and
/// renames raft data that their leader no longer counts on.
extension Sidecar {
  /// What a look leaves for the next.
  struct ServerWatch {
    /// Looks in a row in which the server was in no cluster.
    var looksAlone = 0
    /// The last list of AWS that a member of its cluster has looked at.
    var list: Int?
    /// When the raft data was first found to be of no use, by uptime.
    var doubtedSince: Duration?
    /// Attempts to start empty.
    var attempts = 0
    /// The raft data is not looked at again before, by uptime.
    var doubtsAgainAt = Duration.zero
    /// Since when the leader does not add this server, which is empty, by uptime.
    var unlistedSince: Duration?
    var restarts = 0
  }

  /// Of this machine's agent, and of the servers that it knows: no call to AWS.
  private static let memberPause = Duration.seconds(5)
  /// A server that can return stops its agent at once: gossip may meet any moment, and then its term, higher after its
  /// campaigns, takes the leadership from the living.
  private static let alonePause = Duration.seconds(1)
  /// An election takes one or two seconds, and is no reason to call AWS.
  private static let looksOfElection = 3
  /// After a cut a connection to AWS from before may hang as long as it has lasted; a new one does not.
  private static let awsTimeout = Duration.seconds(4)
  private static let listTick = Duration.seconds(1)
  /// The data could not be renamed, or the second look saw another leader.
  private static let attemptBackoff = Backoff(base: .seconds(10), cap: .seconds(600))
  /// Where ACLs hide the members, an agent that is removed may be one that leaves: for the time that a leave takes.
  private static let leaveTime = Duration.seconds(15)
  /// A leader adds a server as soon as gossip tells it of one.
  private static let additionTime = Duration.seconds(2)
  /// Restarts for which a leader may not have heard of the one before.
  private static let maximumRestarts = 3
  private static let purpose = "keep this server in its cluster"

  /// Until cancelled.
  func watchServer(at instance: LocatedInstance) async {
    guard settings.role == .server else { return }
    let present = PresentServers()
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await self.keepCurrent(present, at: instance) }
      group.addTask { await self.look(instance, present) }
    }
  }

  /// Between two lists of a member of its cluster: instances that booted together do not call together.
  private var listPause: Duration {
    var generator = SystemRandomNumberGenerator()
    return settings.sidecarInterval * Self.pollsPerAWSCall * Double.random(in: 0.5...1.5, using: &generator)
  }

  private func keepCurrent(_ present: PresentServers, at instance: LocatedInstance) async {
    var pollState = PollState(), ownGroup: String?
    while !Task.isCancelled {
      do { try await context.clock.sleep(for: Self.listTick) } catch { return }
      // Which group or tags the servers have is among lost options.
      guard settings.lostOptions == nil, present.isDue(at: context.uptime()) else { continue }
      var readiness: Readiness?
      await attempt(Self.purpose, &pollState) { pollState in
        let planner = planner, group = ownGroup
        // After a failure, or where the group no longer lists this instance, it may be in another one.
        ownGroup = nil
        readiness = try await context.within(Self.awsTimeout) {
          try await planner.readiness(at: instance, ownGroup: group)
        }
        if pollState.isNew(readiness == nil ? "no answer" : nil, for: "AWS") {
          context.log.warning("AWS does not answer; the present servers are not known")
        }
      }
      ownGroup = readiness?.evaluated.first { $0.instance.instanceID == instance.identity.instanceID }?.instance.group
      present.add(readiness, at: context.uptime(), pause: listPause)
    }
  }

  private func look(_ instance: LocatedInstance, _ present: PresentServers) async {
    var watch = ServerWatch(), pollState = PollState()
    var pause = Self.alonePause
    while !Task.isCancelled {
      do { try await context.clock.sleep(for: pause) } catch { return }
      var isMember: Bool?
      await attempt(Self.purpose, &pollState) { pollState in
        isMember = try await look(instance, present.list, &watch, &pollState)
      }
      if let isMember {
        watch.looksAlone = isMember ? 0 : watch.looksAlone + 1
        present.set(isAlone: watch.looksAlone >= Self.looksOfElection, at: context.uptime(), pause: listPause)
      }
      pause = isMember == true ? Self.memberPause : Self.alonePause
    }
  }

  /// - Returns: whether the server is in its cluster.
  private func look(
    _ instance: LocatedInstance, _ list: PresentServers.List?, _ watch: inout ServerWatch, _ pollState: inout PollState
  ) async throws -> Bool {
    let configuration = current
    let own = try OwnRaftAddresses(
      configuration, identity: instance.identity, settings: settings, files: context.files)
    let status = try await agent().clusterStatus()
    let isMember = status.isMember(own.names)
    if isMember {
      (watch.attempts, watch.restarts) = (0, 0)
      (watch.doubtedSince, watch.unlistedSince) = (nil, nil)
    }
    guard settings.lostOptions == nil, !isMember || list?.number != watch.list else { return isMember }
    watch.list = list?.number
    // Those of before may answer sooner than AWS.
    let known = Set(list?.readiness.asked.compactMap(\.address) ?? []).union(configuration.peers)
    let observer = PeerObserver(configuration, settings: settings, context: context)
    let answers = await observer.query(known.subtracting(own.addresses).sorted())
    let members = try await members(wan: false, &pollState)
    guard try await !isLeaving(configuration, members ?? []) else { return isMember }
    let alive = members?.filter { $0.isServer && $0.isAlive }.compactMap(\.address)
    let decision = ReturnDecision(
      status: status, own: own.names, answers: answers, alive: alive.map(Set.init), port: own.port)
    if case .wait(let reason) = decision {
      if list != nil, pollState.isNew(reason, for: "return") {
        context.log.warning("this server is in no cluster yet", ["reason": .string(reason)])
      }
    } else if case .stay = decision {
      if let list { try keepList(configuration, list.readiness, instance.identity) }
      _ = pollState.isNew(nil, for: "return")
    }
    if case .join(let servers) = decision {
      await join(servers, &pollState)
      if !isMember { try write(configuration, servers) }
    }
    if case .setAside(let reason, let servers) = decision {
      let since = watch.doubtedSince ?? context.uptime()
      watch.doubtedSince = since
      guard context.uptime() >= max(watch.doubtsAgainAt, members == nil ? since + Self.leaveTime : .zero) else {
        return isMember
      }
      watch.doubtsAgainAt = context.uptime() + Self.attemptBackoff.bound(watch.attempts)
      watch.attempts += 1
      try await startEmpty(instance, life: "removed", reason: reason, servers: servers, confirms: own)
    }
    if case .restartEmpty(let reason) = decision {
      try await restartEmpty(instance, reason, &watch)
    } else {
      watch.unlistedSince = nil
    }
    return isMember
  }

  /// Whether the agent leaves in order, which takes some ten seconds: it must neither be killed nor started again. A
  /// leader that leaves is removed from raft first, then leaves the WAN pool, then the LAN pool.
  /// - Parameter members: of the LAN pool.
  private func isLeaving(_ configuration: CurrentConfiguration, _ members: [SerfMember]) async throws -> Bool {
    guard let name = configuration.merged["node_name"]?.string else { return false }
    var members = members
    do {
      members += try await agent().members(wan: true)
    } catch AgentError.refused {
      // There is no WAN pool, or ACLs hide it.
    }
    return members.contains { !$0.isAlive && ($0.name == name || $0.name.hasPrefix(name + ".")) }
  }

  private func join(_ servers: [IPv4Address], _ pollState: inout PollState) async {
    let list = servers.map(\.description)
    if pollState.isNew(list.joined(separator: " "), for: "return") {
      context.log.warning(
        "the agent does not know servers of the cluster; joining it to them", ["servers": .strings(list)])
    }
    for address in servers {
      let purpose = "join \(address)"
      do {
        try await agent(timeout: Self.joinTimeout).join(address, wan: false)
        _ = pollState.isNew(nil, for: purpose)
      } catch {
        guard !Task.isCancelled, pollState.isNew(error.explained, for: purpose) else { continue }
        context.log.warning("cannot \(purpose)", ["reason": .string(error.explained)])
      }
    }
  }

  // MARK: The configuration

  /// So that a restarted agent finds the servers of now.
  private func keepList(
    _ configuration: CurrentConfiguration, _ readiness: Readiness, _ identity: Identity
  ) throws {
    let servers = selectPeers(
      settings.join, decision: .rejoin(evidence: []), readiness: readiness, identity: identity)
    if Set(servers) != Set(configuration.peers), !servers.isEmpty { try write(configuration, servers) }
  }

  private func write(_ configuration: CurrentConfiguration, _ servers: [IPv4Address]) throws {
    // A list that the user has set is the user's to change.
    guard settings.overlays.allSatisfy({ $0.value["retry_join"] == nil }),
      let new = configuration.joining(servers),
      try RaftData(settings: settings, context: context).write(new, over: configuration)
    else { return }
    context.log.info(
      "the servers have changed; the agent's configuration lists those of now",
      ["retry_join": .strings(servers.sorted().map(\.description))])
  }

  // MARK: An agent without its data

  /// Kills the agent, renames its raft data, and starts it again.
  /// - Parameter confirms: the addresses of this server, if the leader is to say once more, while the agent does not
  ///   run, that its raft configuration names none of them; else the agent starts with its data.
  func startEmpty(
    _ instance: LocatedInstance, life: String, reason: String, servers: [IPv4Address],
    confirms own: OwnRaftAddresses? = nil
  ) async throws {
    context.log.error(
      "this server's raft data is not that of the living cluster; stopping the agent to rename it and to join empty",
      ["reason": .string(reason), "servers": .strings(servers.map(\.description))])
    let data = RaftData(settings: settings, context: context)
    let settings = settings, context = context
    try await StepExecutor(context: context).withoutAgent(runner(instance), supervisor: supervisor) {
      let configuration = CurrentConfiguration(reading: settings.configurationPath, context.files)
      do {
        if let own {
          try await context.clock.sleep(for: settings.raftDataConfirmation)
          let answers = await PeerObserver(configuration, settings: settings, context: context).query(servers)
          let decision = RaftDataDecision(ownAddresses: own.names, answers: answers, port: own.port)
          if case .keep(let reason) = decision {
            context.log.warning("the agent starts with its raft data again", ["reason": .string(reason)])
            return
          }
        }
        _ = try data.setAside(configuration, servers: servers, life: life, reason: reason)
      } catch {
        context.log.error(
          "cannot rename the raft data; the agent starts with it again", ["reason": .string(error.explained)])
      }
    }
  }

  /// A server whose gossip has heard that this one left, and has not known it, takes the next word of it for an older
  /// one, and a leader then adds it only at its reconciliation, every 60 s. A restarted agent is announced again.
  private func restartEmpty(_ instance: LocatedInstance, _ reason: String, _ watch: inout ServerWatch) async throws {
    let since = watch.unlistedSince ?? context.uptime()
    watch.unlistedSince = since
    guard context.uptime() - since >= Self.additionTime, watch.restarts < Self.maximumRestarts else { return }
    watch.restarts += 1
    watch.unlistedSince = nil
    context.log.warning(
      "the leader has not added this server; restarting the agent, which has no raft state",
      ["reason": .string(reason)])
    try await StepExecutor(context: context).withoutAgent(runner(instance), supervisor: supervisor) {}
  }

  func runner(_ instance: LocatedInstance) -> AgentRunner {
    switch settings.start(isBootedBySystemd: context.system.isBootedBySystemd) {
    case .systemd: .systemd
    case .docker: .docker(client: instance.consulPath)
    case .supervise, .none: .supervisor
    }
  }
}

extension Settings {
  /// Between the two looks that a renaming of raft data needs. A leader that has lost its majority steps down after its
  /// lease, half a second times `raft_multiplier` (Consul, `LeaderLeaseTimeout`).
  var raftDataConfirmation: Duration { .milliseconds(500) * (raftMultiplier + 1) }
}
