internal import Base
internal import Consul
internal import Model

/// What a health check does while its agent knows no leader: it compares the numbers that the servers wait for, and
/// looks at the servers again where a restart of this agent may help.
struct LeaderWait {
  private let context: RuntimeContext
  private let agreement: HealthCheck.Agreement?
  /// Uptime of the next look.
  private var looksAt: Duration
  private var foundersLookedAt: Duration
  /// When this server began to know as many servers as all of them wait for; nil if it does not know them.
  private var completeSince: Duration?
  /// Looks at whether the leader adds this server.
  private var additions = 0
  private var conflict: [String] = []
  private var waitsFor: [String] = []
  /// Servers that have raft data, none of which knows a leader, for people.
  private var survivors: [String] = []
  /// Whether the last look after the timeout found such servers.
  private(set) var isForRecovery = false

  /// Without a leader after this long, and then each time after it, the servers' numbers are compared: a tuned election
  /// takes little more than a second, and servers that look again together have different numbers for a moment.
  private static let agreementInterval = Duration.seconds(2)
  /// Servers that all wait for as many as are there bootstrap at once. After this long, the one with the lowest address
  /// starts again, which makes it look at all of them; the second one after twice as long, and so on.
  private static let bootstrapGrace = Duration.seconds(5)
  /// Without a leader after this long, and then each time after it, the founders are looked at although their numbers
  /// agree. It calls AWS, which reports a death after 10 to 60 s.
  private static let founderInterval = Duration.seconds(15)
  /// Between two looks at whether the leader adds this server: up to three AWS calls each.
  private static let additionBackoff = Backoff(base: .seconds(4), cap: .seconds(30))

  init(since start: Duration, context: RuntimeContext, agreement: HealthCheck.Agreement?) {
    self.context = context
    self.agreement = agreement
    looksAt = start + Self.agreementInterval
    foundersLookedAt = start
  }

  /// What keeps the servers from a leader, for people, as of the last look.
  var missing: [String] { conflict + waitsFor + survivors }

  /// Nil if the last look found nothing.
  var hint: String? {
    if !conflict.isEmpty { return "start all servers with the same --expect" }
    guard survivors.isEmpty else {
      return "bring back the missing servers with their data, or if they are lost, run consul-bootstrap "
        + "recover on a server that has data"
    }
    guard !waitsFor.isEmpty else { return nil }
    return "repair the servers that the error names, or terminate them: once EC2 reports them as terminated and the "
      + "group is complete, the servers that are left form the cluster, in this run or the next"
  }

  /// Looks again if it is time.
  /// - Returns: the requirements of an agent that has been started again; nil if it has not.
  /// - Throws: `CancellationError`.
  mutating func look(
    _ health: Health, _ requirements: HealthRequirements, _ client: AgentClient
  ) async throws -> HealthRequirements? {
    let now = context.uptime()
    guard now >= looksAt else { return nil }
    looksAt = now + Self.agreementInterval
    var reason: HealthCheck.NoLeader?
    if let own = requirements.bootstrapExpect {
      (conflict, reason) = try await compareNumbers(own, requirements, client)
      if now - foundersLookedAt >= Self.founderInterval { reason = reason ?? .someAreMissing }
    } else if health.isEmpty, requirements.raftAddress != nil {
      reason = .notAdded
      looksAt = now + Self.additionBackoff.bound(additions)
      additions += 1
    }
    guard let reason else { return nil }
    foundersLookedAt = now
    return try await lookAgain(reason)
  }

  /// - Returns: the servers that wait for another number than this agent, for people; and why to look again now.
  private mutating func compareNumbers(
    _ own: Int, _ requirements: HealthRequirements, _ client: AgentClient
  ) async throws -> (conflict: [String], reason: HealthCheck.NoLeader?) {
    let servers: [SerfMember]
    do {
      servers = try await client.members(wan: false).filter { $0.isAlive && $0.isServer }
    } catch is AgentError {
      completeSince = nil
      return ([], nil)
    }
    let others = servers.filter { $0.bootstrapExpect.map { $0 != Int64(own) } ?? false }
    guard others.isEmpty else {
      completeSince = nil
      let list = others.map { "\($0.name) has \($0.bootstrapExpect ?? 0)" }.sorted().joined(separator: ", ")
      let conflict = "bootstrap_expect is \(own) here, but \(list)"
      context.log.progress("the servers disagree: \(conflict)", [:])
      return ([conflict], .numbersDiffer)
    }
    // One that expects only itself bootstraps when it starts.
    guard own > 1, servers.count >= own, let rank = rank(of: requirements.raftAddress, in: servers) else {
      completeSince = nil
      return ([], nil)
    }
    let now = context.uptime(), since = completeSince ?? now
    completeSince = since
    guard now - since >= Self.bootstrapGrace * (rank + 1) else { return ([], nil) }
    completeSince = now
    return ([], .allAreThere)
  }

  /// The number of servers with a lower address; nil if this one is not among them.
  private func rank(of raftAddress: String?, in servers: [SerfMember]) -> Int? {
    let own = raftAddress.flatMap { IPv4Address(raftAddress: $0) }
    return servers.compactMap(\.address).sorted().firstIndex { $0 == own }
  }

  /// Looks, after the timeout, at whether the cluster waits for a recovery.
  /// - Returns: false also where it is not known yet; a look that fails leaves what was known.
  /// - Throws: `CancellationError`.
  mutating func looksForRecovery(_ health: Health, _ requirements: HealthRequirements) async throws -> Bool {
    if requirements.raftAddress != nil {
      _ = try await lookAgain(.timedOut)
    } else {
      // The servers answer a client's requests.
      survivors = health.isEmpty ? [] : ["the servers have raft data and no leader"]
      isForRecovery = !survivors.isEmpty
    }
    return isForRecovery
  }

  /// - Returns: whether a cluster that waited for a recovery has a leader.
  mutating func hasRecovered() -> Bool {
    defer { (isForRecovery, survivors) = (false, []) }
    return isForRecovery
  }

  private mutating func lookAgain(_ reason: HealthCheck.NoLeader) async throws -> HealthRequirements? {
    do {
      let look = try await agreement?(reason) ?? .unchanged()
      survivors = if case .waitsForRecovery(let found) = look { found } else { [] }
      if reason == .timedOut {
        // What founders wait for is known from their own looks.
        isForRecovery = !survivors.isEmpty
        return nil
      }
      waitsFor = if case .unchanged(let found) = look { found } else { [] }
      if case .changed(let new) = look { return new }
    } catch let failure as Failure {
      context.log.warning("cannot look again at the servers", ["reason": .string(failure.explanation)])
    }
    return nil
  }
}
