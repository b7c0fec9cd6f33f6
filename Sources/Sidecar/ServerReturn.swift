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
    var looks = 0
    /// Looks in a row in which the server was in no cluster.
    var looksAlone = 0
    /// When the decision to rename the raft data was first taken, by uptime.
    var doubtedSince: Duration?
    /// The data could not be renamed: not tried again before, by uptime.
    var triesAgainAt = Duration.zero
  }

  /// A boot needs some seconds; then a server that others have replaced meanwhile returns at once.
  private static let firstLook = Duration.seconds(3)
  /// While the server is in no cluster, for the first looks: up to three AWS calls each.
  private static let aloneBackoff = Backoff(base: .seconds(2), cap: .seconds(5))
  private static let frequentLooks = 60
  /// After a cut a connection to AWS from before may hang as long as it has lasted; a new one does not.
  private static let awsTimeout = Duration.seconds(6)
  /// Between the two looks that a renaming needs.
  private static let secondLook = Duration.seconds(3)
  private static let failurePause = Duration.seconds(600)
  /// While the server is in its cluster, every so many looks call AWS.
  private static let looksPerAWSCall = 10
  private static let purpose = "keep this server in its cluster"

  /// Until cancelled.
  func watchServer(at instance: LocatedInstance) async {
    guard settings.role == .server else { return }
    var watch = ServerWatch(), pollState = PollState()
    var generator = SystemRandomNumberGenerator()
    var pause = Self.firstLook
    while !Task.isCancelled {
      do { try await context.clock.sleep(for: pause) } catch { return }
      var isAlone = true
      await attempt(Self.purpose, &pollState) { pollState in
        isAlone = try await !look(instance, &watch, &pollState)
      }
      watch.looks += 1
      watch.looksAlone = isAlone ? watch.looksAlone + 1 : 0
      if watch.doubtedSince != nil {
        pause = Self.secondLook
      } else if isAlone, watch.looksAlone <= Self.frequentLooks {
        pause = Self.aloneBackoff.bound(watch.looksAlone - 1)
      } else {
        pause = settings.sidecarInterval * Double.random(in: 0.5...1.5, using: &generator)
      }
    }
  }

  /// - Returns: whether the server is in its cluster.
  private func look(
    _ instance: LocatedInstance, _ watch: inout ServerWatch, _ pollState: inout PollState
  ) async throws -> Bool {
    let configuration = current
    let own = try OwnRaftAddresses(
      configuration, identity: instance.identity, settings: settings, files: context.files)
    let doubtedSince = watch.doubtedSince
    watch.doubtedSince = nil
    let status = try await agent().clusterStatus()
    let isMember = status.isMember(own.names)
    guard !isMember || watch.looks % Self.looksPerAWSCall == Self.looksPerAWSCall - 1 else { return true }
    // Which group or tags the servers have is among lost options.
    guard settings.lostOptions == nil else { return isMember }
    let planner = planner
    guard let readiness = try await context.within(Self.awsTimeout, { try await planner.readiness(at: instance) })
    else {
      if pollState.isNew("no answer", for: "AWS") {
        context.log.warning("AWS does not answer; the present servers are not known")
      }
      return isMember
    }
    _ = pollState.isNew(nil, for: "AWS")
    let others = readiness.asked.compactMap(\.address).filter { !own.addresses.contains($0) }
    let answers = await PeerObserver(configuration, settings: settings, context: context).query(others)
    let alive = try await members(wan: false, &pollState)?.filter { $0.isServer && $0.isAlive }.compactMap(\.address)
    let decision = ReturnDecision(
      status: status, own: own.names, answers: answers, alive: Set(alive ?? []), port: own.port)
    switch decision {
    case .stay:
      try keepList(configuration, readiness, instance.identity)
      _ = pollState.isNew(nil, for: "return")
    case .join(let servers):
      await join(servers, &pollState)
      if !isMember { try write(configuration, servers) }
    case .wait(let reason):
      if pollState.isNew(reason, for: "return") {
        context.log.warning("this server is in no cluster yet", ["reason": .string(reason)])
      }
    case .setAside(let reason, let servers):
      guard context.uptime() >= watch.triesAgainAt else { break }
      guard let doubtedSince, context.uptime() - doubtedSince >= Self.secondLook else {
        watch.doubtedSince = doubtedSince ?? context.uptime()
        break
      }
      watch.triesAgainAt = context.uptime() + Self.failurePause
      try await startEmpty(instance, life: "removed", reason: reason, servers: servers)
    }
    return isMember
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
  func startEmpty(_ instance: LocatedInstance, life: String, reason: String, servers: [IPv4Address]) async throws {
    context.log.error(
      "this server's raft data is not that of the living cluster; renaming it and joining empty",
      ["reason": .string(reason), "servers": .strings(servers.map(\.description))])
    let data = RaftData(settings: settings, context: context)
    let settings = settings, context = context
    try await StepExecutor(context: context).withoutAgent(runner(instance), supervisor: supervisor) {
      do {
        let configuration = CurrentConfiguration(reading: settings.configurationPath, context.files)
        _ = try data.setAside(configuration, servers: servers, life: life, reason: reason)
      } catch {
        context.log.error(
          "cannot rename the raft data; the agent starts with it again", ["reason": .string(error.explained)])
      }
    }
  }

  private func runner(_ instance: LocatedInstance) -> AgentRunner {
    switch settings.start(isBootedBySystemd: context.system.isBootedBySystemd) {
    case .systemd: .systemd
    case .docker: .docker(client: instance.consulPath)
    case .supervise, .none: .supervisor
    }
  }
}
