package import Base
internal import Consul
internal import Decisions
internal import Execution
package import Model
package import Observers

/// What comes before each start of an agent that has raft data: a server that the leader's raft configuration no longer
/// names would campaign with a higher term and take the leadership from the living, and one with the data of another
/// cluster would serve it.
///
/// It takes at most some seconds. Where no server can be asked, the agent starts as it is.
package struct StartGate: Sendable {
  private let settings: Settings
  private let context: RuntimeContext
  private let planner: Planner

  package init(settings: Settings, context: RuntimeContext, planner: Planner) {
    self.settings = settings.besideOtherFiles(context.files)
    self.context = context
    self.planner = planner
  }

  /// Of all looks. A later start, and the sidecar, look again.
  private static let timeout = Duration.seconds(5)
  /// For AWS to list the present servers: the configuration's may all be gone.
  private static let awsTimeout = Duration.seconds(3)

  /// - Throws: `Failure` if the data must be renamed and cannot; `FileError`, or `CancellationError`.
  package func run() async throws {
    let configuration = CurrentConfiguration(reading: settings.configurationPath, context.files)
    let data = configuration.dataDirectory(settings)
    guard settings.role == .server, RaftState(dataDirectory: data, files: context.files).mayBePresent else { return }
    guard let outcome = try await context.within(Self.timeout, { try await look(configuration) }) else { return }
    switch outcome.decision {
    case .keep(let reason): context.log.debug("the raft data stays", ["reason": .string(reason)])
    case .setAside(let reason):
      _ = try RaftData(settings: settings, context: context).setAside(
        configuration, servers: outcome.servers, life: outcome.life, reason: reason)
    }
  }

  private struct Outcome: Sendable {
    let decision: RaftDataDecision
    /// Why the data is renamed, in its new name.
    var life = "removed"
    /// Servers that know a leader.
    var servers: [IPv4Address] = []
  }

  private func look(_ configuration: CurrentConfiguration) async throws -> Outcome {
    let observer = PeerObserver(configuration, settings: settings, context: context)
    var answers = await observer.query(configuration.peers)
    var (decision, isNamed) = try decide(configuration, nil, answers)
    guard !isNamed else { return try await lookAtIdentity(configuration, decision, answers) }
    // AWS may list servers that know a leader, and metadata more addresses of this one.
    let found = await presentServersInTime()
    if let found {
      answers.merge(await observer.query(found.servers.filter { answers[$0] == nil })) { $1 }
      (decision, isNamed) = try decide(configuration, found.identity, answers)
    }
    guard !isNamed else { return try await lookAtIdentity(configuration, decision, answers) }
    guard case .setAside = decision else { return Outcome(decision: decision) }
    try await context.clock.sleep(for: settings.raftDataConfirmation)
    answers = await observer.query(Self.leaders(answers))
    (decision, isNamed) = try decide(configuration, found?.identity, answers)
    return Outcome(decision: decision, servers: Self.leaders(answers))
  }

  /// raft takes a server that its configuration names as one of its own, whatever data it has.
  private func lookAtIdentity(
    _ configuration: CurrentConfiguration, _ decision: RaftDataDecision, _ answers: [IPv4Address: PeerAnswer]
  ) async throws -> Outcome {
    let keep = Outcome(decision: decision), servers = Self.leaders(answers)
    guard let file = try context.files.clusterIdentity(settings) else { return keep }
    guard case .diverged = await compare(file, configuration, servers) else { return keep }
    try await context.clock.sleep(for: settings.raftDataConfirmation)
    guard case .diverged(let reason) = await compare(file, configuration, servers) else { return keep }
    return Outcome(decision: .setAside(reason: reason), life: "diverged", servers: servers)
  }

  /// With the first answer: each server asks the same leader.
  private func compare(
    _ file: ClusterIdentity, _ configuration: CurrentConfiguration, _ servers: [IPv4Address]
  ) async -> IdentityDecision {
    let observer = RaftPortObserver(configuration, settings: settings, context: context)
    for server in servers {
      do {
        guard let cluster = try await observer.clusterIdentity(of: server, configuration) else { continue }
        return IdentityDecision(cluster: cluster, own: nil, file: file, applied: nil, leaderLast: nil)
      } catch {
        context.log.debug(
          "no identity of the cluster", ["server": .string(server.description), "reason": .string(error.explained)])
      }
    }
    return .same
  }

  /// Servers that know a leader.
  private static func leaders(_ answers: [IPv4Address: PeerAnswer]) -> [IPv4Address] {
    answers.filter(\.value.knowsLeader).keys.sorted()
  }

  private func decide(
    _ configuration: CurrentConfiguration, _ identity: Identity?, _ answers: [IPv4Address: PeerAnswer]
  ) throws -> (decision: RaftDataDecision, isNamed: Bool) {
    let own = try OwnRaftAddresses(configuration, identity: identity, settings: settings, files: context.files)
    guard !own.addresses.isEmpty else { return (.keep(reason: "this server's own address is not known"), false) }
    let others = answers.filter { !own.addresses.contains($0.key) }
    let isNamed = others.values.contains { answer in
      if case .status(let status) = answer, status.leader != nil {
        !own.names.isDisjoint(with: status.peers)
      } else {
        false
      }
    }
    return (RaftDataDecision(ownAddresses: own.names, answers: others, port: own.port), isNamed)
  }

  /// Nil, too, where the options are lost, and with them the group or tags of the servers.
  private func presentServersInTime() async -> (identity: Identity, servers: [IPv4Address])? {
    guard settings.lostOptions == nil else { return nil }
    do {
      return try await context.within(Self.awsTimeout) { try await presentServers() }
    } catch {
      if !Task.isCancelled {
        context.log.info("cannot look at the present servers", ["reason": .string(error.explained)])
      }
      return nil
    }
  }

  private func presentServers() async throws -> (identity: Identity, servers: [IPv4Address]) {
    let instance = try await planner.locate()
    return (instance.identity, try await planner.readiness(at: instance).asked.compactMap(\.address))
  }
}
