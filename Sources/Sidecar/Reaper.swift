internal import AWS
internal import Base
internal import Consul
internal import Decisions
internal import Execution
internal import Model
internal import Observers
internal import Synchronization

/// Removes members whose instances are terminated, on the leader only: servers from the raft configuration, and both
/// servers and clients from the members and the catalog, where Consul keeps clients for 72 hours.
extension Sidecar {
  /// What a look leaves for the next; a server that becomes the leader starts over.
  struct ReaperState {
    /// By gossip's count; nil before the first look.
    var failedMembers: Int?
    /// Uptime of the next look, even if the count has not changed.
    var looksAt = Duration.zero
    /// Since when each suspect has been one without a break, by uptime.
    var failedSince: [String: Duration] = [:]
    /// EC2's last two answers.
    var answers: (first: InstanceAnswer?, second: InstanceAnswer?)
    /// Suspects' instances that EC2 has known. It is lost with the sidecar's process; those that EC2 has forgotten then
    /// are not removed by it any more.
    var known: Set<String> = []
    /// Uptime of the next call of EC2.
    var asksAt = Duration.zero
    /// Why each suspect is not removed, as logged.
    var reasons: [String: ReportedReason] = [:]
    /// What proves a death now.
    var rules = DeathVerdict.Rules()
    /// Of the lock to leave, at the last look; nil: there has been none.
    var lockIndex: Int64?
    var makesRoom = false
    var hasDeadServer = false
    /// The Auto Scaling group of this instance, where that has to be found first.
    var ownGroup: String?
  }

  /// What the cluster shows.
  struct ReaperView {
    let members: [SerfMember]
    let servers: [RaftServer]
    let suspects: [Suspect]
    /// Read only if there are suspects.
    let catalog: [CatalogNode]
  }

  /// Between two questions whether this server leads, and how many members have failed.
  private static let reaperTick = Duration.seconds(5)
  private static let reaperInterval = Duration.seconds(30)
  /// Between the two calls of a proof while a server waits to leave.
  private static let roomInterval = Duration.seconds(5)
  static let reaperPurpose = "remove dead members"
  /// `force-leave` takes 5 to 7 s.
  private static let forceLeaveTimeout = Duration.seconds(20)
  /// For so long a suspect is expected to be without a proof: its state is not logged.
  private static let quietTime = Duration.seconds(60)
  private static let clientsPerLook = 50
  private static let clientsAtATime = 2

  /// Until cancelled.
  func watchDeadMembers(at instance: LocatedInstance) async {
    // Which group or tags the servers have is among lost options.
    guard settings.role == .server, settings.reapsDeadMembers, settings.lostOptions == nil else { return }
    var reaper = ReaperState(), reported = ReportedReason(), failingSince: Timestamp?
    while !Task.isCancelled {
      let wait = reaper.failedSince.isEmpty ? Self.reaperTick : reaper.asksAt - context.uptime()
      do { try await context.clock.sleep(for: min(Self.reaperTick, max(.seconds(1), wait))) } catch { return }
      do {
        guard try await reap(instance, &reaper) else { continue }
        failingSince = nil
        _ = reported.isNew(nil)
        note(nil, for: Self.reaperPurpose)
      } catch let error as AgentError {
        context.log.debug("the agent does not answer the sidecar", ["reason": .string(error.explanation)])
      } catch {
        guard !Task.isCancelled else { return }
        let since = failingSince ?? context.now()
        failingSince = since
        note("\(error.explained) (since \(since.iso8601))", for: Self.reaperPurpose)
        guard reported.isNew(error.stableReason) else { continue }
        context.log.warning(
          "the sidecar cannot \(Self.reaperPurpose); retrying", ["reason": .string(error.explained)])
      }
    }
  }

  /// - Returns: whether everything that is to be done has been done; false if that is not known yet.
  private func reap(_ instance: LocatedInstance, _ reaper: inout ReaperState) async throws -> Bool {
    guard try await leads(instance) else {
      let known = reaper.known
      reaper = ReaperState()
      reaper.known = known
      return true
    }
    let failed = try await permitted("agent:read") { try await agent().failedMembers() }, now = context.uptime()
    if reaper.hasDeadServer { try await makeRoom(&reaper) }
    let isDue = now >= reaper.looksAt || !reaper.failedSince.isEmpty && now >= reaper.asksAt
    guard failed != reaper.failedMembers || isDue else { return false }
    reaper.failedMembers = failed
    reaper.looksAt = now + Self.reaperInterval
    let view = try await view()
    note(view, &reaper)
    guard !view.suspects.isEmpty else { return true }
    guard now >= reaper.asksAt else { return false }
    let proven = try await prove(view, instance, &reaper)
    guard !proven.isEmpty else { return true }
    try await remove(proven, instance)
    // There may be more than one look removes.
    let answeredAt = reaper.answers.second?.answeredAt ?? context.uptime()
    reaper.asksAt = min(reaper.asksAt, answeredAt + reaper.rules.interval)
    return true
  }

  /// A server that waits to leave takes the lock again and again: a dead one may be what it waits for, and a spot
  /// instance has two minutes. The proof stays the same but for the time between the two calls.
  private func makeRoom(_ reaper: inout ReaperState) async throws {
    let lock: LeaveLock
    do { lock = try await agent().leaveLock() } catch AgentError.refused(status: 403, _) { return }
    let isMoving = lock.session != nil || reaper.lockIndex.map { $0 != lock.index ?? 0 } ?? false
    // There may be no lock yet.
    reaper.lockIndex = lock.index ?? 0
    guard isMoving != reaper.makesRoom else { return }
    reaper.makesRoom = isMoving
    reaper.rules = isMoving ? DeathVerdict.Rules(interval: Self.roomInterval) : DeathVerdict.Rules()
    guard isMoving, let last = reaper.answers.second?.answeredAt else { return }
    reaper.asksAt = min(reaper.asksAt, max(context.uptime(), last + Self.roomInterval))
  }

  func leads(_ instance: LocatedInstance) async throws -> Bool {
    guard let leader = try await agent().leader() else { return false }
    return try OwnRaftAddresses(
      current, identity: instance.identity, settings: settings, files: context.files
    ).names.contains(leader)
  }

  // MARK: What the cluster shows

  /// - Throws: `AgentError`; `Failure` where ACLs forbid or hide something.
  func view() async throws -> ReaperView {
    let members = try await permitted("node:read") { try await agent().members(wan: false) }
    guard !members.isEmpty else { throw Self.missingRule("node:read", "the agent's ACLs hide the members") }
    let servers = try await permitted("operator:read") { try await agent().raftConfiguration() }
    let suspects = [Suspect](members, servers)
    guard !suspects.isEmpty else {
      return ReaperView(members: members, servers: servers, suspects: [], catalog: [])
    }
    let catalog = try await permitted("node:read") { try await agent().catalogNodes() }
    guard !catalog.isEmpty else { throw Self.missingRule("node:read", "the agent's ACLs hide the catalog") }
    return ReaperView(members: members, servers: servers, suspects: suspects, catalog: catalog)
  }

  private func permitted<Value>(_ rule: String, _ call: () async throws -> Value) async throws -> Value {
    do { return try await call() } catch AgentError.refused(status: 403, _) {
      throw Self.missingRule(rule, "the agent's ACLs forbid it")
    }
  }

  private static func missingRule(_ rule: String, _ message: String) -> Failure {
    Failure(.agentUnhealthy, message, hint: "set --agent-token to a token with \(rule)")
  }

  /// Counts since when each suspect has been one.
  func note(_ view: ReaperView, _ reaper: inout ReaperState) {
    let now = context.uptime(), keys = Set(view.suspects.map(\.key))
    reaper.hasDeadServer = view.suspects.contains(where: \.isRaftPeer)
    reaper.failedSince = reaper.failedSince.filter { keys.contains($0.key) }
    reaper.reasons = reaper.reasons.filter { keys.contains($0.key) }
    let new = keys.filter { reaper.failedSince[$0] == nil }
    for key in new { reaper.failedSince[key] = now }
    if keys.isEmpty {
      (reaper.answers, reaper.asksAt) = ((nil, nil), .zero)
    } else if !new.isEmpty {
      // About a new one EC2 is asked at once, but not within the interval of a proof.
      let earliest = reaper.answers.second.map { $0.answeredAt + reaper.rules.interval } ?? now
      reaper.asksAt = min(reaper.asksAt, max(now, earliest))
    }
  }

  // MARK: The removal

  /// One server, then clients. One that cannot be removed does not keep the others.
  private func remove(_ proven: [ProvenDead], _ instance: LocatedInstance) async throws {
    var errors: [any Error] = []
    if let server = proven.first(where: \.suspect.isRaftPeer), try await leads(instance) {
      do { try await removeServer(server, instance) } catch { errors.append(error) }
    }
    let others = Array(proven.filter { !$0.suspect.isRaftPeer && $0.suspect.isMember }.prefix(Self.clientsPerLook))
    for start in stride(from: 0, to: others.count, by: Self.clientsAtATime) {
      guard try await leads(instance) else { break }
      errors += await withTaskGroup(of: (any Error)?.self) { group in
        for dead in others[start..<min(start + Self.clientsAtATime, others.count)] {
          group.addTask {
            do {
              if try await self.forceLeave(dead, instance) {
                self.log(dead, "removed a dead member from the catalog")
              }
              return nil
            } catch {
              return error
            }
          }
        }
        return await group.reduce(into: []) { $0 += [$1].compactMap { $0 } }
      }
    }
    if let error = errors.first { throw error }
  }

  private func removeServer(_ dead: ProvenDead, _ instance: LocatedInstance) async throws {
    guard let id = dead.suspect.nodeID else { return }
    let servers = try await agent().raftConfiguration()
    let members = try await agent().members(wan: false).filter { $0.isServer && $0.isAlive }
    let alive = Set(servers.filter { server in members.contains { server.isOf($0) } }.map(\.address))
    // True by itself while this server leads.
    guard let server = servers.first(where: { $0.id == id }),
      keepsQuorum(servers, without: [server.address], alive: alive)
    else { return }
    try await removing(dead) { try await agent().removeRaftPeer(id: id) }
    log(dead, "removed a dead server from the raft configuration")
    guard dead.suspect.isMember else { return }
    _ = try await forceLeave(dead, instance)
  }

  /// Consul knows it by its name, and the calls before take minutes in a fleet: a replacement may have the name now.
  /// - Returns: false if it is not the failed member any more.
  private func forceLeave(_ dead: ProvenDead, _ instance: LocatedInstance) async throws -> Bool {
    let suspect = dead.suspect
    let named = try await agent().members(wan: false).filter { $0.name == suspect.node }
    guard named.count == 1, named[0].status == .failed, named[0].nodeID == suspect.nodeID,
      named[0].address == suspect.address
    else {
      context.log.info("a dead member has been replaced or removed before", ["node": .string(suspect.node)])
      return false
    }
    try await removing(dead) {
      try await agent(timeout: Self.forceLeaveTimeout).forceLeave(dead.suspect.node, instance.binary.version)
    }
    return true
  }

  private func removing(_ dead: ProvenDead, _ call: () async throws -> Void) async throws {
    try await permitted("operator:write") {
      do { try await call() } catch let error as AgentError {
        if case .refused(status: 403, _) = error { throw error }
        throw Failure(.agentUnhealthy, "cannot remove \(dead.suspect.node)", details: [error.explanation])
      }
    }
  }

  private func log(_ dead: ProvenDead, _ message: String) {
    context.log.info(
      message,
      [
        "node": .string(dead.suspect.node), "instance": .string(dead.instanceID), "evidence": .string(dead.evidence),
      ])
  }

  /// Logs once for each reason why a suspect is not removed.
  func log(_ verdicts: [JudgedSuspect], _ reaper: inout ReaperState) {
    for (suspect, instanceID, verdict) in verdicts {
      let reason: String
      switch verdict {
      case .gone: continue
      case .unknown(let words), .alive(let words): reason = words
      }
      guard let since = reaper.failedSince[suspect.key], context.uptime() - since >= Self.quietTime,
        reaper.reasons[suspect.key, default: ReportedReason()].isNew(reason)
      else { continue }
      context.log.info(
        "a failed member is not proven dead, and stays",
        ["node": .string(suspect.node), "instance": .string(instanceID ?? ""), "reason": .string(reason)])
    }
  }
}
