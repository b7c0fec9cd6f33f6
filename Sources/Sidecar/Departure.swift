package import Base
package import Consul
package import Decisions
package import Model
internal import Observers

/// Takes this server out of its cluster without harm to the others, or this client out of its datacenter.
///
/// Servers leave one at a time, by a lock in Consul, and only while the others keep their quorum. Whatever cannot be
/// seen makes it wait. It keeps no state of its own: a process that takes over looks at the same lock and the same
/// servers.
package struct Departure: Sendable {
  package enum Outcome: Sendable, Equatable {
    /// Another server has reported a raft configuration without this one, or the client's agent has left.
    case left
    /// No agent runs that could leave, and the others do without it.
    case nothingToLeave(reason: String)
    /// The last server of a group that is to be empty.
    case lastOne(reason: String)
    /// It stays a member: leaving was not safe until the deadline.
    case kept(reason: String)
  }

  /// How many servers the groups want; nil if that is not known.
  package typealias DesiredCapacity = @Sendable () async -> Int?

  /// The addresses of the servers that AWS lists now; empty if that is not known.
  package typealias ListedServers = @Sendable () async -> [IPv4Address]

  let settings: Settings
  let context: RuntimeContext
  let desiredCapacity: DesiredCapacity
  let listedServers: ListedServers

  package init(
    settings: Settings, context: RuntimeContext, desiredCapacity: @escaping DesiredCapacity = { nil },
    listedServers: @escaping ListedServers = { [] }
  ) {
    self.settings = settings.besideOtherFiles(context.files)
    self.context = context
    self.desiredCapacity = desiredCapacity
    self.listedServers = listedServers
  }

  static let pause = Duration.seconds(1)
  static let agentTimeout = Duration.seconds(2)
  /// A leave drains for 5 s, and the agent ends some ten seconds later (measured with 1.8.7: 12 to 14 s).
  static let leaveTimeout = Duration.seconds(30)
  static let confirmationPause = Duration.milliseconds(500)
  /// A crashed agent is started again after 2 s.
  static let silenceLimit = Duration.seconds(30)
  /// A leader that cannot hand over lets the followers go first: each of its elections costs the writers seconds.
  static let leaderPause = Duration.seconds(5)
  /// A stop does not wait longer for a leader.
  static let electionTimeout = Duration.seconds(5)
  /// Ten seconds less than systemd gives the unit (`TimeoutStopSec`).
  static let stopTimeout = Duration.seconds(50)
  static let handoverTimeout = Duration.seconds(3)
  /// Twice as long as an agent takes from its leave to its end.
  static let leaverTimeout = Duration.seconds(30)
  /// From a leave to the removal, with room for a loaded machine.
  static let removalTime = Duration.seconds(15)
  static let maximumHandovers = 3
  /// From the lock to the leave: a process that was paused may have lost its lock, and what it saw.
  static let lookTimeout = Duration.seconds(5)
  /// Between two questions of AWS, and between the two that prove a teardown.
  static let cloudPause = Duration.seconds(15)

  /// What a look leaves for the next.
  struct Progress {
    let start: Duration
    var session = LeaveSession()
    var reason = "the agent has not answered yet"
    var reported: (report: String, at: Duration)?
    var silentSince: Duration?
    /// Others that were alive at the last look, by raft's ID.
    var alive: Set<String> = []
    /// Addresses of the others.
    var others: Set<IPv4Address> = []
    /// The groups' desired capacity, when it was asked, and how often in a row it was 0.
    var desired: Int?
    var desiredAt: Duration?
    var zeros = 0
    /// Others that have left, and when this one noticed.
    var left: [IPv4Address: Duration] = [:]
    /// When AWS was asked for the servers.
    var listedAt: Duration?
    /// Whether the leader can hand over; nil: not tried.
    var handsOver: Bool?
    var failedHandovers = 0
  }

  /// Before the agent is stopped.
  /// - Throws: `CancellationError` only.
  package func runBeforeStop() async throws -> Outcome {
    try await run(Notice(.stopping, deadline: context.uptime() + Self.stopTimeout))
  }

  /// Until it has left, or has to stay. Cancelled, it keeps the lock: another process of this machine may go on.
  /// - Parameter changed: a notice that has come since, and is more urgent; nil without one.
  /// - Throws: `CancellationError` only.
  package func run(_ first: Notice, changed: @Sendable () -> Notice? = { nil }) async throws -> Outcome {
    context.log.warning("leaving the cluster", ["notice": .string(first.source.rawValue)])
    if settings.role == .client {
      let outcome = try await leaveAsClient(first)
      report(first, outcome)
      return outcome
    }
    var progress = Progress(start: context.uptime())
    progress.others = knownOthers()
    while true {
      let notice = changed() ?? first
      if let outcome = try await step(notice, &progress) {
        report(notice, outcome, progress.others)
        return outcome
      }
      report(notice, .waiting, &progress)
      if let deadline = notice.deadline, context.uptime() >= deadline {
        await release(&progress)
        let outcome = Outcome.kept(reason: progress.reason)
        report(notice, outcome, progress.others)
        return outcome
      }
      var generator = SystemRandomNumberGenerator()
      let pause = pause(notice, progress) * Double.random(in: 0.7...1.3, using: &generator)
      let rest = notice.deadline.map { $0 - context.uptime() } ?? pause
      try await context.clock.sleep(for: min(max(.milliseconds(1), rest), pause))
    }
  }

  var configuration: CurrentConfiguration {
    CurrentConfiguration(reading: settings.configurationPath, context.files)
  }

  func agent(_ configuration: CurrentConfiguration, timeout: Duration = agentTimeout) -> AgentClient {
    AgentClient(
      address: configuration.agentAddress(settings), token: configuration.agentToken, transport: context.transport,
      timeout: timeout)
  }

  /// - Returns: nil if it has to wait.
  private func step(_ notice: Notice, _ progress: inout Progress) async throws -> Outcome? {
    let configuration = configuration
    do {
      let own = try OwnRaftAddresses(configuration, identity: nil, settings: settings, files: context.files)
      do {
        return try await look(notice, configuration, own, &progress)
      } catch AgentError.transport(let error) {
        let absence = error == .refused ? Absence.gone(error) : .silent(error)
        return await withoutAgent(notice, configuration, own, absence, &progress)
      }
    } catch AgentError.refused(status: 403, _) {
      progress.silentSince = nil
      progress.reason =
        "the agent's ACLs forbid it: its token needs session:write, operator:write, agent:write and "
        + "key:write on consul-bootstrap/"
    } catch let error as CancellationError {
      throw error
    } catch {
      progress.silentSince = nil
      progress.reason = error.explained
    }
    return nil
  }

  /// What `leave --dry-run` shows; nothing changes.
  package struct Preview: Sendable {
    /// Nil if raft does not name this server.
    package let view: QuorumView?
    package let decision: LeaveDecision
    package let lock: LeaveLock
  }

  /// - Throws: `AgentError` or `FileError`; `Failure` where this server's address is not known.
  package func preview() async throws -> Preview {
    let configuration = configuration, client = agent(configuration)
    let own = try OwnRaftAddresses(configuration, identity: nil, settings: settings, files: context.files)
    var progress = Progress(start: context.uptime())
    guard knows(own, configuration) else { throw Failure(.configurationRejected, unknownAddress) }
    guard let mine = try await find(in: try await client.raftConfiguration(), own, configuration, client) else {
      return Preview(
        view: nil, decision: .leave(reason: "raft does not name this server"), lock: try await client.leaveLock())
    }
    // One look has nothing to compare gossip with.
    let view = await answering(
      try await view(from: mine, client, &progress, comparesGossip: false), configuration)
    return Preview(
      view: view, decision: LeaveDecision(view, desiredCapacity: nil, isPatient: false, isTeardown: false),
      lock: try await client.leaveLock())
  }

  private func look(
    _ notice: Notice, _ configuration: CurrentConfiguration, _ own: OwnRaftAddresses, _ progress: inout Progress
  ) async throws -> Outcome? {
    let client = agent(configuration)
    let servers: [RaftServer]
    do {
      // Without a leader everything else is answered late, and may not be answered in time.
      guard try await client.leader() != nil else { throw AgentError.refused(status: 500, message: "no leader") }
      servers = try await client.raftConfiguration()
    } catch AgentError.refused(let status, _) where status >= 500 {
      return await withoutAgent(notice, configuration, own, .leaderless, &progress)
    }
    progress.silentSince = nil
    guard knows(own, configuration) else {
      progress.reason = unknownAddress
      // Nothing that a stop, or a person, could wait for.
      return [.stopping, .manual].contains(notice.source) ? .kept(reason: progress.reason) : nil
    }
    guard let mine = try await find(in: servers, own, configuration, client) else {
      progress.reason = "raft does not name this server"
      return try await leave(notice, configuration, own, &progress)
    }
    let own = own.including(mine.address)
    if mine.isLeader, notice.source != .manual, progress.handsOver == nil, servers.count > 1,
      context.uptime() - progress.start < Self.leaderPause
    {
      progress.reason = "this server leads: the others may leave first"
      return nil
    }
    let instance = try recordedInstance()
    switch try await progress.session.acquire(client, instance: instance, context) {
    case .held: break
    case .heldBy(let holder):
      progress.reason =
        holder.map { "\($0) leaves" } ?? "another server has just left: some seconds pass between two departures"
      return nil
    }
    // With the lock: what is seen now, no departure of another changes any more. The look at those that have left takes
    // a second, in which others may die.
    let leaver = mine.isLeader ? try await runningLeaver(client, own, &progress) : nil
    let view = await answering(try await view(from: mine, client, &progress), configuration)
    let isPatient = context.uptime() < notice.patientUntil
    if view.well <= view.quorumAfter { await askGroups(&progress) }
    switch LeaveDecision(
      view, desiredCapacity: progress.desired, isPatient: isPatient, isTeardown: progress.zeros >= 2)
    {
    case .wait(let reason):
      progress.reason = reason
      // Nothing that a stop could wait for.
      if notice.source == .stopping, view.others.isEmpty {
        await release(&progress)
        return .kept(reason: reason)
      }
      try await progress.session.yield(client)
    case .stayAsLast(let reason):
      // For the stop that follows.
      await release(&progress)
      return .lastOne(reason: reason)
    case .leave(let reason):
      progress.reason = reason
      if view.isLeader {
        if try await handOver(view, client, own, &progress) { return nil }
        let rest = notice.deadline.map { $0 - context.uptime() }
        if let leaver, rest.map({ $0 > Self.removalTime }) ?? true {
          progress.reason = "this server leads, and the agent of \(leaver), which has left, still runs"
          try await progress.session.yield(client)
          return nil
        }
      }
      return try await leave(notice, configuration, own, &progress, lockedAt: progress.session.heldAt)
    }
    return nil
  }

  enum Place: Equatable {
    case removed
    /// - Parameters:
    ///   - well: of the others in it, that know the same leader.
    ///   - servers: in the leader's raft configuration, which names this server.
    case named(well: Int, servers: Int)
    /// No other server that knows a leader names this one, or proves its removal.
    case unknown
  }

  /// What the others say of this server.
  func place(
    _ configuration: CurrentConfiguration, _ own: OwnRaftAddresses, _ others: Set<IPv4Address>
  ) async -> Place {
    guard knows(own, configuration) else { return .unknown }
    let answers = await PeerObserver(configuration, settings: settings, context: context).query(
      others.subtracting(own.addresses).sorted())
    switch RaftDataDecision(ownAddresses: own.names, answers: answers, port: own.port) {
    case .setAside: return .removed
    case .keep:
      let reports = answers.compactMap { address, answer -> (name: String, status: ClusterStatus)? in
        guard case .status(let status) = answer, status.leader != nil else { return nil }
        return ("\(address):\(own.port)", status)
      }.sorted { $0.name < $1.name }
      let naming = reports.filter { !own.names.isDisjoint(with: $0.status.peers) }
      guard let report = naming.first(where: { $0.name == $0.status.leader }) ?? naming.first else { return .unknown }
      let well = reports.count { report.status.peers.contains($0.name) && $0.status.leader == report.status.leader }
      return .named(well: well, servers: report.status.peers.count)
    }
  }

  // MARK: Without an agent, or without its leader

  private enum Absence {
    case gone(TransportError), silent(TransportError), leaderless

    var isGone: Bool { if case .gone = self { true } else { false } }
    var text: String { if case .leaderless = self { "the agent knows no leader" } else { "the agent does not answer" } }
    var explanation: String {
      switch self {
      case .gone(let error), .silent(let error): "\(text): \(error.explanation)"
      case .leaderless: "\(text): this server may hold data that the others need"
      }
    }
  }

  private func withoutAgent(
    _ notice: Notice, _ configuration: CurrentConfiguration, _ own: OwnRaftAddresses, _ absence: Absence,
    _ progress: inout Progress
  ) async -> Outcome? {
    let now = context.uptime(), since = progress.silentSince ?? now
    progress.silentSince = since
    progress.reason = absence.explanation
    var place = await confirmedPlace(configuration, own, progress.others)
    if place == .removed { return .left }
    let state = RaftState(dataDirectory: configuration.dataDirectory(settings), files: context.files)
    switch notice.source {
    case .stopping, .manual:
      // What is stopped already has nothing to leave: a person, or a recovery, may have killed it. But after a leave by
      // hand the machine ends, and an agent that has crashed is started again.
      if absence.isGone {
        guard notice.source == .manual, place != .unknown || state.mayBePresent else {
          return .nothingToLeave(reason: progress.reason)
        }
        progress.reason +=
          place == .unknown
          ? "; whether the others still count it is not known" : "; the others still count it, and it may run again"
        return nil
      }
      guard notice.source == .stopping, case .leaderless = absence else { return nil }
      // One that was never in a cluster has no leader to wait for.
      let isOver = now - progress.start >= Self.electionTimeout || !state.mayBePresent
      return isOver ? .kept(reason: progress.reason) : nil
    case .termination, .spot:
      if isReleased(notice, progress) { return .nothingToLeave(reason: "leave --force has released this server") }
    }
    guard now - since >= Self.silenceLimit else { return nil }
    if place == .unknown { place = await placeByList(configuration, own, &progress) }
    if place == .removed { return .left }
    if case .named(let well, let servers) = place {
      let quorum = servers / 2 + 1
      // A process that runs may still vote, however late it answers here.
      let mayVote = if absence.isGone { await hasOpenRaftPort(configuration, own) } else { true }
      guard !mayVote || well >= quorum else {
        progress.reason += "; it may still vote, and \(well) of the others are well, where a quorum needs \(quorum)"
        return nil
      }
      return .nothingToLeave(reason: "\(absence.text), and the others have a leader")
    }
    let isEmpty = !state.mayBePresent || absence.isGone && isOfNoLeader(configuration)
    if isEmpty { return .nothingToLeave(reason: "\(absence.text), and has no data") }
    let reason = "no other server knows one: this server's data may be the last"
    progress.reason = "\(absence.text), and \(knows(own, configuration) ? reason : unknownAddress)"
    return nil
  }
}
