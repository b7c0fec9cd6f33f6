internal import Base
internal import Consul
internal import Decisions
internal import Execution
internal import Model
internal import Observers

/// Keeps the cluster's record current: it names the voters, so that a boot that finds none of them knows which servers
/// have to be gone before a new cluster may be formed.
extension Sidecar {
  /// What the leader's sidecar knows of the record: a file in the state directory, so that neither a poll nor a reboot
  /// reads the record as long as nothing changes.
  struct RecordMemory: Sendable {
    var known = RememberedRecord()
    var hasRead = false
    /// Voters that the record does not name so, and since when.
    var change: (voters: Set<Voter>, since: Duration)?
    /// After an error the record is read only as often as the group.
    var hasFailed = false
  }

  /// A server of the raft configuration. One that has replaced another may have its address.
  struct Voter: Hashable, Sendable {
    let address: IPv4Address
    let node: String?
  }

  /// A server that is replaced is gone for some seconds, and the record must not name half of a rolling replacement.
  private static let settlingTime = Duration.seconds(60)

  /// - Parameter callsAWS: whether this poll calls AWS also after an error.
  func keepRecord(_ instance: LocatedInstance, callsAWS: Bool, _ pollState: inout PollState) async throws {
    if !pollState.record.hasRead {
      pollState.record.known = remembered()
      pollState.record.hasRead = true
    }
    guard let path = settings.clusterRecordPath(for: instance.identity), let voters = try await votersAsLeader() else {
      pollState.record.change = nil
      return note(nil, &pollState)
    }
    do {
      try await keepRecord(of: voters, below: path, instance, callsAWS: callsAWS, &pollState)
    } catch let failure as Failure where failure.status == .configurationRejected {
      note(failure.message, &pollState)
      throw failure
    }
  }

  private func keepRecord(
    of voters: Set<Voter>, below path: String, _ instance: LocatedInstance, callsAWS: Bool, _ pollState: inout PollState
  ) async throws {
    let identity = try context.files.clusterIdentity(settings)
    if let entry = pollState.record.known.entry, entry.record.state == .formed,
      identity.flatMap({ entry.mismatch($0, below: path) }) == nil
    {
      guard entry.record.voters != voters else {
        pollState.record.change = nil
        return note(nil, &pollState)
      }
      guard hasSettled(voters, &pollState.record) else { return }
    }
    guard callsAWS || !pollState.record.hasFailed else { return }
    pollState.record.hasFailed = true
    try await record(voters, below: path, instance, &pollState)
    pollState.record.hasFailed = false
    note(nil, &pollState)
  }

  /// The voters of the raft configuration; nil unless this agent leads.
  private func votersAsLeader() async throws -> Set<Voter>? {
    let current = current
    guard let own = current.advertiseAddress ?? current.bindAddress else { return nil }
    let port = current.merged.port("server", otherwise: settings.serverPort)
    let servers: [RaftServer]
    do {
      servers = try await agent().raftConfiguration()
    } catch AgentError.refused(status: 403, _) {
      throw Failure(
        .agentUnhealthy, "the agent's ACLs hide the raft configuration",
        hint: "set --agent-token to a token with operator:read")
    }
    guard servers.contains(where: { $0.isLeader && $0.address == "\(own):\(port)" }) else { return nil }
    let voters = servers.filter(\.isVoter).map { server in
      IPv4Address(raftAddress: server.address).map { Voter(address: $0, node: server.id) }
    }
    let known = voters.compactMap { $0 }
    // An address that is not understood would be left out of the record.
    return known.count == voters.count ? Set(known) : nil
  }

  private func hasSettled(_ voters: Set<Voter>, _ memory: inout RecordMemory) -> Bool {
    let now = context.uptime()
    guard let change = memory.change, change.voters == voters else {
      memory.change = (voters, now)
      return false
    }
    return now - change.since >= Self.settlingTime
  }

  private func record(
    _ voters: Set<Voter>, below path: String, _ instance: LocatedInstance, _ pollState: inout PollState
  ) async throws {
    let observer = RecordObserver(context: context, client: instance.client)
    let newest: RecordEntry?
    do { newest = try await observer.newest(below: path, for: nil) } catch {
      throw error.asFailure("read the cluster's record \(path)")
    }
    let known = pollState.record.known.entry
    if let newest { try check(newest, voters, path, isKnown: try await isOwn(newest.record, known, voters)) }
    if let newest, newest.record.state == .formed, newest != known {
      remember(newest, &pollState)
      // Another leader has recorded these voters, or the present ones have to settle first.
      guard newest.record.voters != voters, hasSettled(voters, &pollState.record) else { return }
    }
    let servers = try await servers(voters, instance)
    let own = instance.identity.instanceID
    let formed: ClusterRecord
    if let newest {
      guard newest.number < RecordEntry.maximumNumber else { return }
      formed = newest.record.formed(by: own, at: context.now(), servers: servers)
    } else {
      // A cluster that is older than its record, and has a name, or gets one in a moment.
      guard let name = try await presentName() else { return }
      formed = ClusterRecord(
        .formed, cluster: name.cluster, epoch: max(1, name.epoch), by: own, at: context.now(),
        datacenter: try settings.datacenterName(for: instance.identity), servers: servers)
    }
    let entry = RecordEntry(number: (newest?.number ?? 0) + 1, record: formed)
    // Lost to another server: the next poll reads what it has written.
    guard
      try await RecordWriter(client: instance.client).create("\(path)/\(entry.name)", try formed.text())
    else { return }
    context.log.info(
      "recorded the cluster's servers",
      ["parameter": .string("\(path)/\(entry.name)"), "servers": .integer(Int64(servers.count))])
    remember(entry, &pollState)
    pollState.record.change = nil
  }

  /// Whether the record is known to be of this cluster although all of its servers may have been replaced since, as an
  /// instance refresh does within minutes: by an earlier entry, or by the cluster's own name.
  private func isOwn(_ record: ClusterRecord, _ known: RecordEntry?, _ voters: Set<Voter>) async throws -> Bool {
    if known?.record.cluster == record.cluster { return true }
    guard !record.names(voters) else { return false }
    return try await presentName()?.cluster == record.cluster
  }

  /// Checks that the newest entry is of this cluster.
  /// - Parameter isKnown: whether that is known even if it names none of the voters.
  /// - Throws: `Failure` for the entry of another one, or of one that is closed or being recovered; `FileError`.
  private func check(
    _ newest: RecordEntry, _ voters: Set<Voter>, _ path: String, isKnown: Bool
  ) throws {
    let record = newest.record
    let identity = try context.files.clusterIdentity(settings)
    // A recovery is over once its cluster has a leader: its own process may have been killed before it said so.
    let isRecovered = record.state == .recovering && record.cluster == identity?.cluster
    guard [.forming, .formed].contains(record.state) || isRecovered else {
      throw Failure(
        .configurationRejected,
        "\(path)/\(newest.name) says that the cluster is \(record.state.rawValue), but it has a leader",
        hint: "if the cluster is to live on, create the next entry with the state of the one before")
    }
    guard isKnown || record.names(voters) else {
      throw Failure(
        .configurationRejected, "\(path)/\(newest.name) names none of this cluster's servers",
        details: ["it names \(record.servers.map(\.text).joined(separator: ", "))"],
        hint: "give each cluster a --cluster-record of its own")
    }
    if let identity, let failure = newest.mismatch(identity, below: path) {
      throw failure
    }
  }

  /// The name of the cluster in its key-value store; nil if it has none yet. Where ACLs hide it, that of this server's
  /// copy, or a new one, which the store gets once it may be written.
  private func presentName() async throws -> ClusterIdentity? {
    do {
      return try await agent().clusterIdentity(.consistent)
    } catch AgentError.refused(status: 403, _) {
      if let copy = try context.files.clusterIdentity(settings) { return copy }
      var generator = SystemRandomNumberGenerator()
      return ClusterIdentity.random(using: &generator)
    }
  }

  /// The name by which the record knows the cluster that this agent leads; nil if there is no record, or no entry yet.
  /// - Throws: `Failure` if the record cannot be read, or its newest entry is not of this cluster; `FileError`.
  func recordedName(_ instance: LocatedInstance) async throws -> ClusterIdentity? {
    guard let path = settings.clusterRecordPath(for: instance.identity) else { return nil }
    guard let voters = try await votersAsLeader() else {
      throw Failure(.agentUnhealthy, "this server does not lead the cluster any more")
    }
    // Another entry replaces that of the founders only once one of them is gone: these all vote.
    if let known = remembered().entry, known.record.state == .forming,
      Set(known.record.servers.map(\.address)) == Set(voters.map(\.address))
    {
      try check(known, voters, path, isKnown: true)
      return known.record.identity
    }
    let observer = RecordObserver(context: context, client: instance.client)
    let newest: RecordEntry?
    do { newest = try await observer.newest(below: path, for: nil) } catch {
      throw error.asFailure("read the cluster's record \(path)")
    }
    guard let newest else { return nil }
    try check(newest, voters, path, isKnown: false)
    return newest.record.identity
  }

  /// With the instances that have the addresses now: an address may be that of a new instance.
  private func servers(_ voters: Set<Voter>, _ instance: LocatedInstance) async throws -> [ClusterRecord.Server] {
    let instances = try await planner.readiness(at: instance).evaluated.map(\.instance)
    return voters.sorted { $0.address < $1.address }.map { voter in
      let found = instances.filter { $0.privateIP == voter.address && $0.instanceState != "terminated" }
      return ClusterRecord.Server(
        instance: found.count == 1 ? found[0].instanceID : nil, address: voter.address, node: voter.node)
    }
  }

  // MARK: Memory

  /// Empty if nothing is remembered, or nothing that is understood: then the record is read.
  private func remembered() -> RememberedRecord {
    do {
      let path = settings.rememberedRecordPath
      guard let bytes = try context.files.readIfPresent(path, limit: RememberedRecord.limit) else {
        return RememberedRecord()
      }
      return try RememberedRecord(parsing: bytes)
    } catch {
      context.log.debug("the remembered entry of the record is not understood", ["reason": .string(error.explained)])
      return RememberedRecord()
    }
  }

  private func remember(_ entry: RecordEntry, _ pollState: inout PollState) {
    pollState.record.known = RememberedRecord(entry: entry)
    write(pollState.record.known)
  }

  /// For `status` and `doctor`.
  private func note(_ problem: String?, _ pollState: inout PollState) {
    guard pollState.record.known.problem != problem else { return }
    pollState.record.known.problem = problem
    write(pollState.record.known)
  }

  private func write(_ known: RememberedRecord) {
    do {
      try context.files.write(settings.rememberedRecordPath, Array(known.text.utf8), mode: 0o644, owner: nil)
    } catch {
      context.log.debug("cannot remember the entry of the record", ["reason": .string(error.explained)])
    }
  }
}

extension ClusterRecord {
  fileprivate var identity: ClusterIdentity { ClusterIdentity(cluster: cluster, epoch: epoch) }

  /// Whether it has the address of one of these.
  fileprivate func names(_ voters: Set<Sidecar.Voter>) -> Bool {
    !Set(servers.map(\.address)).isDisjoint(with: voters.map(\.address))
  }

  fileprivate var voters: Set<Sidecar.Voter> {
    Set(servers.map { Sidecar.Voter(address: $0.address, node: $0.node) })
  }
}
