internal import Base
internal import Consul
internal import Decisions
internal import Execution
internal import Model
internal import Observers

/// Names the cluster in its key-value store, copies the name to this server, and checks that this server's data is that
/// of the cluster.
extension Sidecar {
  /// What a check leaves for the next.
  struct IdentityState {
    var leader: String?
    var checkedAt: Duration?
    /// When the data was first found to be of another cluster, by uptime.
    var doubtedSince: Duration?
    /// The agent's ACLs forbid the check.
    var isOff = false
    /// Renamed once in the life of a sidecar: a second time would not help.
    var hasStartedEmpty = false
    /// Uptime of the next attempt to name the cluster.
    var namesAt = Duration.zero
  }

  private static let identityPause = Duration.seconds(5)
  private static let identityInterval = Duration.seconds(300)
  /// Between the two looks of a divergence.
  private static let identityConfirmation = Duration.seconds(30)
  /// Between two attempts to name the cluster, which may read its record.
  private static let namingPause = Duration.seconds(60)
  /// Autopilot's view of the leader's log is up to 2 s old (Consul, `ServerHealthInterval`).
  private static let autopilotPause = Duration.seconds(5)

  /// Until cancelled.
  func watchIdentity(at instance: LocatedInstance) async {
    guard settings.role == .server else { return }
    var state = IdentityState(), pollState = PollState()
    while !Task.isCancelled {
      do { try await context.clock.sleep(for: Self.identityPause) } catch { return }
      await attempt("check the identity of the cluster", &pollState) { _ in
        do {
          try await checkIdentity(instance, &state)
        } catch AgentError.refused(status: 403, _) {
          guard !state.isOff else { return }
          state.isOff = true
          context.log.warning(
            "ACLs forbid to read or write \(ClusterIdentity.key): the identity of the cluster is not checked",
            ["hint": "set --agent-token to a token with key:write on \(ClusterIdentity.key)"])
        }
      }
    }
  }

  private func checkIdentity(_ instance: LocatedInstance, _ state: inout IdentityState) async throws {
    guard !state.isOff else { return }
    let client = agent(), now = context.uptime()
    guard let leader = try await client.leader() else { return }
    if let since = state.doubtedSince {
      guard now - since >= Self.identityConfirmation else { return }
    } else {
      guard leader != state.leader || state.checkedAt.map({ now - $0 >= Self.identityInterval }) ?? true else { return }
    }
    let own = try OwnRaftAddresses(
      current, identity: instance.identity, settings: settings, files: context.files)
    let file = try context.files.clusterIdentity(settings)
    guard let cluster = try await client.clusterIdentity(.consistent) else {
      if own.names.contains(leader) { try await create(file, instance, client, &state) }
      return
    }
    let decision = IdentityDecision(
      cluster: cluster, own: try await client.clusterIdentity(.stale), file: file,
      applied: try await client.appliedIndex(), leaderLast: try await leaderLast(client, after: leader))
    state.leader = leader
    state.checkedAt = now
    switch decision {
    case .same:
      state.doubtedSince = nil
      try report(nil)
      if file != cluster { try write(cluster) }
    case .diverged(let reason):
      guard state.doubtedSince != nil else {
        state.doubtedSince = now
        context.log.warning(
          "this server's data may not be that of its cluster; looking again", ["reason": .string(reason)])
        return
      }
      state.doubtedSince = nil
      try report(reason)
      context.log.error("this server has diverged from its cluster", ["reason": .string(reason)])
      try await renounce(instance, reason, own, &state)
    }
  }

  /// The name of the cluster's record, so that the two never differ; without a record that of this server's copy.
  private func create(
    _ file: ClusterIdentity?, _ instance: LocatedInstance, _ client: AgentClient, _ state: inout IdentityState
  ) async throws {
    let now = context.uptime()
    guard now >= state.namesAt else { return }
    state.namesAt = now + Self.namingPause
    var generator = SystemRandomNumberGenerator()
    let identity = try await recordedName(instance) ?? file ?? .random(using: &generator)
    try await client.create(identity)
    context.log.info("named the cluster", ["cluster": .string(identity.cluster), "key": .string(ClusterIdentity.key)])
  }

  /// - Returns: nil where it is not known, or the leader has changed meanwhile.
  private func leaderLast(_ client: AgentClient, after leader: String) async throws -> UInt64? {
    try await context.clock.sleep(for: Self.autopilotPause)
    do {
      let index = try await client.leaderLastIndex()
      return try await client.leader() == leader ? index : nil
    } catch AgentError.refused(status: 403, _) {
      return nil
    }
  }

  /// Starts the agent empty, if the others keep a quorum meanwhile; else it is only reported.
  private func renounce(
    _ instance: LocatedInstance, _ reason: String, _ own: OwnRaftAddresses,
    _ state: inout IdentityState
  ) async throws {
    let members = try await agent().members(wan: false).filter { $0.isServer && $0.isAlive }.compactMap(\.address)
    let alive = Set(members.map { "\($0):\(own.port)" })
    let servers = members.filter { !own.addresses.contains($0) }
    guard !state.hasStartedEmpty,
      keepsQuorum(try await agent().raftConfiguration(), without: own.names, alive: alive)
    else {
      context.log.error(
        "this server keeps its data: the others would lose their quorum without it, or it has been renamed before",
        ["hint": "compare the data of the servers, and see docs/troubleshooting.md"])
      return
    }
    state.hasStartedEmpty = true
    state.leader = nil
    try await startEmpty(instance, life: "diverged", reason: reason, servers: servers)
  }

  // MARK: Files

  private func write(_ identity: ClusterIdentity) throws {
    try context.files.write(
      settings.clusterIdentityPath, Array(identity.json.prettyText.utf8), mode: 0o644, owner: nil)
  }

  /// Only a divergence leaves a report, and its end.
  private func report(_ divergence: String?) throws {
    let path = settings.identityReportPath
    guard try divergence != nil || context.files.status(path) != nil else { return }
    let report = ClusterIdentityReport(divergence: divergence, time: context.now())
    try context.files.write(path, Array(report.json.prettyText.utf8), mode: 0o644, owner: nil)
  }
}
