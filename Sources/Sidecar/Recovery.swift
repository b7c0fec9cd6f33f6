internal import Base
internal import Consul
internal import Decisions
internal import Execution
internal import Model
internal import Observers

/// Makes this server the leader of a cluster whose quorum is lost for good. Its agent starts with a `raft/peers.json`
/// that names it alone; what other servers run then joins it, survivors with their data and empty ones without.
extension Sidecar {
  /// Of the copy, which a supervised agent may still be waiting for, and of an election.
  private static let recoveryTimeout = OnlyVoter.copyTimeout + .seconds(60)
  private static let recoveryPause = Duration.milliseconds(500)

  /// - Returns: whether this server leads now.
  /// - Throws: `Failure`, `AgentError`, `FileError` or `CancellationError`; then no `peers.json` is left that a later
  ///   start of the agent would find.
  func recover(_ own: OutageServer, of servers: [OutageServer], _ instance: LocatedInstance) async throws -> Bool {
    let configuration = current
    let others = Set(servers.filter { !$0.isGone && $0 != own }.compactMap(\.address)).sorted()
    guard let address = own.address else { return false }
    let names = try OwnRaftAddresses(
      configuration, identity: instance.identity, settings: settings, files: context.files)
    guard
      let voter = try await agent().raftConfiguration(isStale: true).first(where: { names.names.contains($0.address) })
    else {
      throw Failure(
        .agentUnhealthy, "cannot recover the cluster from \(address)",
        details: ["its own raft configuration does not name it"], hint: "recover it from another server")
    }
    let raft = configuration.dataDirectory(settings) + "/raft"
    let claim = try await claimRecovery(own, instance)
    context.log.error("recovering the cluster: this server becomes its only voter", ["index": index(own)])
    let only = OnlyVoter(
      server: voter, raft: raft, others: others, configuration: configuration, settings: settings, context: context)
    do {
      try await StepExecutor(context: context).withoutAgent(runner(instance), supervisor: supervisor) {
        await only.prepare()
      }
      guard try await leadsAgain(names) else {
        try only.setAside()
        return false
      }
    } catch {
      try only.setAside()
      if error is CancellationError { throw error }
      // It is not tried again by itself: each attempt copies the data.
      context.log.error("cannot recover the cluster", ["reason": .string(error.explained)])
      return false
    }
    context.log.warning("recovered the cluster: this server leads it")
    if let claim { try await conclude(claim, own, node: voter.id, instance) }
    return true
  }

  private func index(_ own: OutageServer) -> JSONValue { .integer(Int64(clamping: own.log?.index ?? 0)) }

  private func leadsAgain(_ names: OwnRaftAddresses) async throws -> Bool {
    let end = context.uptime() + Self.recoveryTimeout
    while context.uptime() < end {
      try await context.clock.sleep(for: Self.recoveryPause)
      do {
        if let leader = try await agent().leader() { return names.names.contains(leader) }
      } catch is AgentError {
        // It is starting.
      }
    }
    return false
  }

  // MARK: The record

  /// So that only one server recovers the cluster, and boots wait for it.
  /// - Returns: nil without a record.
  private func claimRecovery(_ own: OutageServer, _ instance: LocatedInstance) async throws -> RecordEntry? {
    guard let path = settings.clusterRecordPath(for: instance.identity) else { return nil }
    let observer = RecordObserver(context: context, client: instance.client)
    let newest: RecordEntry?
    do { newest = try await observer.newest(below: path, for: nil) } catch {
      throw error.asFailure("read the cluster's record \(path)")
    }
    guard let newest else { return nil }
    let id = instance.identity.instanceID
    // A process of this server before this one.
    if newest.record.state == .recovering, newest.record.by == id { return newest }
    guard newest.record.state == .formed, newest.number < RecordEntry.maximumNumber else {
      throw Failure(
        .configurationRejected, "\(path)/\(newest.name) says that the cluster is \(newest.record.state.rawValue)",
        details: ["by \(newest.record.by ?? "an operator")"], hint: "wait for that server, or terminate it")
    }
    let old = newest.record
    let claim = RecordEntry(
      number: newest.number + 1,
      record: ClusterRecord(
        .recovering, cluster: old.cluster, epoch: old.epoch, by: id, at: context.now(), datacenter: old.datacenter,
        servers: old.servers, index: own.log.map { Int64(clamping: $0.index) }, why: "the quorum is lost"))
    guard try await RecordWriter(client: instance.client).create("\(path)/\(claim.name)", try claim.record.text())
    else {
      throw Failure(
        .configurationRejected, "another server recovers the cluster",
        details: ["it has created \(path)/\(claim.name)"],
        hint: "wait for it")
    }
    return claim
  }

  private func conclude(
    _ claim: RecordEntry, _ own: OutageServer, node: String, _ instance: LocatedInstance
  ) async throws {
    guard let path = settings.clusterRecordPath(for: instance.identity), let address = own.address else { return }
    let formed = claim.record.formed(
      by: instance.identity.instanceID, at: context.now(),
      servers: [.init(instance: own.instance, address: address, node: node)])
    let entry = RecordEntry(number: claim.number + 1, record: formed)
    _ = try await RecordWriter(client: instance.client).create("\(path)/\(entry.name)", try formed.text())
  }
}

/// The files by which an agent that does not run becomes the only voter at its next start.
private struct OnlyVoter: Sendable {
  let server: RaftServer
  /// Directory of the raft data.
  let raft: String
  /// That may still know a leader.
  let others: [IPv4Address]
  let configuration: CurrentConfiguration
  let settings: Settings
  let context: RuntimeContext

  /// 5 GB at 50 MB/s.
  static let copyTimeout = Duration.seconds(100)

  private var path: String { raft + "/peers.json" }

  /// Copies the data first. Whatever speaks against it leaves the agent as it was, and is logged.
  func prepare() async {
    do {
      let answers = await PeerObserver(configuration, settings: settings, context: context).query(others)
      guard !answers.values.contains(where: \.knowsLeader) else {
        return context.log.warning("another server knows a leader: the agent starts as it was")
      }
      let copy = "\(raft).recovered.\(context.now().basic)"
      let result = try await context.launcher.run(
        Command("/bin/cp", ["-a", "--reflink=auto", raft, copy]), timeout: Self.copyTimeout)
      guard result.succeeded else {
        return context.log.error(
          "cannot copy the raft data: the agent starts as it was", ["reason": .string(result.output)])
      }
      let owner = try context.files.status(raft).map {
        FileOwner(user: $0.user, group: $0.group, userName: String($0.user), groupName: String($0.group))
      }
      let peers: JSONValue = [["id": .string(server.id), "address": .string(server.address), "non_voter": false]]
      try context.files.write(path, Array(peers.prettyText.utf8), mode: 0o640, owner: owner)
      context.log.warning("copied the raft data, and made this server its only voter", ["copy": .string(copy)])
    } catch {
      context.log.error("cannot recover: the agent starts as it was", ["reason": .string(error.explained)])
    }
  }

  /// What the agent has not used: it would use it at any later start.
  func setAside() throws {
    guard try context.files.status(path) != nil else { return }
    try context.files.rename(path, to: "\(path).failed.\(context.now().basic)")
  }
}
