internal import AWS
internal import Base
internal import Consul
internal import Decisions
internal import Model

/// Observes the group repeatedly until the cluster decision is no longer to wait.
struct MembershipWaiter: Sendable {
  let settings: Settings
  let context: RuntimeContext
  let client: AWSClient
  /// Whether a new cluster's record is read first: a first boot claims it without reading.
  var readsRecord = true
  /// The first calls, if they are under way already.
  var early: EarlyGroup?

  /// A rejoin after a reboot uses AWS if it answers in this time, and the configuration on this machine otherwise.
  private static let rejoinTimeout = Duration.seconds(15)
  /// Auto Scaling lists an instance before it boots, but a new one may be missing for some time.
  private static let ownGroupPause = Duration.seconds(2)
  /// Between two polls.
  private static let backoff = Backoff(base: .seconds(1), cap: .seconds(5))
  /// An election takes a second or two.
  private static let electionPause = Duration.seconds(1)

  /// Maximum time to wait for AWS and for the group.
  static func timeout(_ settings: Settings, rejoins: Bool) -> Duration {
    rejoins ? min(rejoinTimeout, settings.waitTimeout) : settings.waitTimeout
  }

  /// The group of this instance, if that is the membership; nil otherwise.
  /// - Throws: `Failure` with status 12 or 13, or `CancellationError`.
  func ownGroup(_ identity: Identity, waits: Bool) async throws -> String? {
    guard settings.membership == .ownGroup else { return nil }
    let start = context.uptime()
    while true {
      let call = PatientCall(
        settings: settings, context: context, waits: waits,
        limit: settings.waitTimeout - (context.uptime() - start))
      do {
        let name = try await call("find the Auto Scaling group of this instance") {
          if let name = try await early?.takeName() { return name }
          return try await AutoScaling(client: client).groupName(ofInstance: identity.instanceID)
        }
        if let name { return name }
      } catch {
        throw error.asFailure("find the Auto Scaling group of \(identity.instanceID)")
      }
      guard waits, context.uptime() - start < settings.waitTimeout else { throw Failure.noGroup(of: identity) }
      context.log.progress("waiting for Auto Scaling to list \(identity.instanceID)")
      try await context.clock.sleep(for: Self.ownGroupPause)
    }
  }

  /// - Parameters:
  ///   - waits: false observes once.
  ///   - rejoins: this instance has joined before and does not depend on the group.
  /// - Returns: the observation with the group and the answers of its members' agents.
  /// - Throws: `Failure` with status 2, 12 or 13, or `CancellationError`.
  func wait(_ first: Observation, waits: Bool, rejoins: Bool) async throws -> Observation {
    var observation = first
    let observer = GroupObserver(
      membership: settings.membership, addressing: try AddressDecision(first.identity, settings).peers, client: client)
    let start = context.uptime()
    let timeout = Self.timeout(settings, rejoins: rejoins)
    var leaderlessSince: Duration?
    var attempt = 0
    while true {
      defer { attempt += 1 }
      let call = PatientCall(
        settings: settings, context: context, waits: waits, isRejoin: rejoins,
        limit: timeout - (context.uptime() - start))
      let group: GroupObservation
      do {
        group = try await call("describe \(subject(observation.identity))") {
          if let group = try await early?.takeGroup() { return group }
          return try await observer.observe(observation.identity, groupName: observation.identity.groupName)
        }
      } catch {
        throw error.asFailure("describe \(subject(observation.identity))")
      }
      observation.group = group
      let readiness = Readiness(group, identity: observation.identity, settings: settings)
      if settings.role == .server, !rejoins, let failure = readiness.expectationFailure { throw failure }
      observation.time = context.now()
      let decision = try await decide(&observation, readiness)
      guard waits else { return observation }
      let now = context.uptime(), elapsed = now - start
      leaderlessSince = isElection(decision) ? leaderlessSince ?? now : nil
      guard case .wait = decision else {
        guard waitsForOtherZones(decision, readiness, elapsed: elapsed) else { return observation }
        reportOtherZones(readiness, elapsed: elapsed)
        try await pause(attempt, limit: settings.wanWait - elapsed)
        continue
      }
      // What is gone does not come back.
      if case .wait(.clusterExisted(let refusal), _) = decision, refusal.isTotalLoss { throw refusal.failure }
      // A poll never begins after the timeout that it waits for.
      var limit = timeout - elapsed
      if let leaderlessSince {
        guard now - leaderlessSince < settings.leaderWait else {
          observation.leaderWaitIsOver = true
          return observation
        }
        limit = min(limit, Self.electionPause, settings.leaderWait - (now - leaderlessSince))
      }
      guard elapsed < timeout else { throw timeoutFailure(decision, readiness, observation, after: elapsed) }
      report(decision, readiness, observation, elapsed: elapsed)
      try await pause(attempt, limit: limit)
    }
  }

  private func pause(_ attempt: Int, limit: Duration) async throws {
    var generator = SystemRandomNumberGenerator()
    try await context.clock.sleep(for: min(Self.backoff.halfJitter(attempt, using: &generator), limit))
  }

  /// Queries the other members' agents, if the decision depends on them, and decides.
  private func decide(_ observation: inout Observation, _ readiness: Readiness) async throws -> ClusterDecision {
    if settings.role == .server {
      observation.peers = await PeerObserver(observation, settings: settings, context: context).query(
        readiness.asked.compactMap(\.address))
      try Task.checkCancellation()
    }
    let keepsData = DataDirectoryDecision(observation, settings).keepsData
    let decision = ClusterDecision(observation.withoutRecord, readiness, keepsData: keepsData, settings)
    guard case .newCluster = decision, let record = observation.record else { return decision }
    if readsRecord {
      observation.record = try await RecordObserver(context: context, client: client).observe(
        record, observation.group, observation.identity)
    }
    return ClusterDecision(observation, readiness, keepsData: keepsData, settings)
  }

  private func isElection(_ decision: ClusterDecision) -> Bool {
    if case .wait(.election, _) = decision { true } else { false }
  }

  /// A new datacenter waits for the others, so that its first configuration lists their servers. A server that joins an
  /// existing datacenter never does: the other zone may be the one that has just been lost.
  private func waitsForOtherZones(_ decision: ClusterDecision, _ readiness: Readiness, elapsed: Duration) -> Bool {
    guard case .newCluster = decision, settings.layout == .datacenterPerAZ, elapsed < settings.wanWait else {
      return false
    }
    return !readiness.knowsOtherZones
  }
}

/// Messages.
extension MembershipWaiter {
  /// What is described, to stand after a verb.
  func subject(_ identity: Identity) -> String {
    switch settings.membership {
    case .ownGroup: "Auto Scaling group \(identity.groupName ?? "")"
    case .groups(let names): "Auto Scaling group\(names.count == 1 ? "" : "s") \(names.joined(separator: ", "))"
    case .tags(let tags): "the instances tagged \(tags.map { "\($0.key)=\($0.value)" }.joined(separator: ", "))"
    }
  }

  private func report(
    _ decision: ClusterDecision, _ readiness: Readiness, _ observation: Observation, elapsed: Duration
  ) {
    guard case .wait(let reason, _) = decision else { return }
    let missing = readiness.missing(identity: observation.identity).joined(separator: ", ")
    let eligible = readiness.members.count, expected = settings.role == .client ? 1 : readiness.expected ?? 0
    let message: String
    switch reason {
    case .election, .unknownServers, .twoClusters, .record, .clusterExisted: message = reason.text
    case .recordUnavailable(let failure): message = "waiting for the cluster's record: \(failure.explanation)"
    case .noServer: message = "waiting for a server: none runs" + (missing.isEmpty ? "" : "; \(missing)")
    case .groupIncomplete:
      message =
        "waiting for the group: \(eligible) of \(expected) servers" + (missing.isEmpty ? "" : "; missing \(missing)")
    }
    context.log.progress(
      message,
      [
        "eligible": .integer(Int64(eligible)), "expected": .integer(Int64(expected)),
        "elapsed": .string(elapsed.humanReadable),
      ])
  }

  private func reportOtherZones(_ readiness: Readiness, elapsed: Duration) {
    let zones = readiness.otherZones.filter { !$0.isComplete }.map {
      "\($0.members.count) of \($0.expected ?? 1) in \($0.name)"
    }
    let list = zones.isEmpty ? "none discovered yet" : zones.joined(separator: ", ")
    context.log.progress(
      "the servers of this zone are complete; waiting up to \(settings.wanWait.humanReadable) for other zones: \(list)",
      ["elapsed": .string(elapsed.humanReadable)])
  }

  /// The error of a wait that exceeds its timeout.
  private func timeoutFailure(
    _ decision: ClusterDecision, _ readiness: Readiness, _ observation: Observation, after elapsed: Duration
  ) -> Failure {
    let time = elapsed.humanReadable
    let missing = readiness.missing(identity: observation.identity).joined(separator: ", ")
    guard case .wait(let reason, _) = decision else {
      return Failure(.groupIncomplete, "the wait ended after \(time)", details: decision.evidence)
    }
    var failure: Failure
    switch reason {
    case .election:
      failure = Failure(
        .groupIncomplete, "no leader was elected in \(time)", details: decision.evidence,
        hint: "raise --wait-timeout above --leader-wait (\(settings.leaderWait.humanReadable)): "
          + "after that this server joins without a leader")
    case .unknownServers(let servers):
      failure = Failure(
        .groupIncomplete, "no new cluster was formed in \(time): \(reason.text)", details: decision.evidence,
        hint: "repair or terminate \(servers.count == 1 ? "that instance" : "those instances"); if the data will not "
          + "come back, say so with --assume-dead INSTANCE")
    case .twoClusters:
      failure = Failure(
        .groupIncomplete, "no cluster was joined in \(time): \(reason.text)", details: decision.evidence,
        hint: "keep one of the two clusters, and terminate the servers of the other")
    case .record:
      return Failure(
        .groupIncomplete, "no new cluster was formed in \(time): \(reason.text)", details: decision.evidence,
        hint: "check the servers that the record names; terminate those that will not come back")
    case .recordUnavailable(let failure): return failure
    case .clusterExisted(let refusal): return refusal.failure
    case .noServer:
      return Failure(
        .groupIncomplete, "no server was running in \(time)",
        details: missing.isEmpty ? [] : ["not eligible: \(missing)"],
        hint: "check \(subject(observation.identity)), or raise --wait-timeout")
    case .groupIncomplete:
      return Failure(
        .groupIncomplete,
        "the group was not complete after \(time): \(readiness.members.count) of \(readiness.expected ?? 0) servers",
        details: missing.isEmpty ? [] : ["missing: \(missing)"],
        hint: "check the activities of the group (aws autoscaling describe-scaling-activities), "
          + "lower --expect, or raise --wait-timeout")
    }
    failure.needsRepair = true
    return failure
  }
}
