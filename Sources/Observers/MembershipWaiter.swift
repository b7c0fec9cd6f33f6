internal import AWS
internal import Base
internal import Consul
internal import Decisions
internal import Model

/// Looks at the group, and again, until the decision is no longer to wait.
struct MembershipWaiter: Sendable {
  let settings: Settings
  let context: RuntimeContext
  let client: AWSClient

  /// A rejoin after a reboot uses AWS if it answers by then, and does without it otherwise.
  static let rejoinPatience = Duration.seconds(15)
  /// Auto Scaling lists a launched instance before it boots; a fresh one may still be missing for some seconds.
  private static let ownGroupPatience = Duration.seconds(30)

  /// The group of this instance, where that is the membership; nil otherwise.
  /// - Throws: `Failure` with status 12 or 13.
  func ownGroup(_ identity: Identity, waits: Bool) async throws -> String? {
    guard settings.membership == .ownGroup else { return nil }
    let start = context.uptime()
    while true {
      do {
        if let name = try await AutoScaling(client: client).groupName(ofInstance: identity.instanceID) { return name }
      } catch {
        guard let error = error as? AWSError, waits, error.isRetryable,
          context.uptime() - start < settings.waitTimeout
        else { throw error.asFailure("find the Auto Scaling group of \(identity.instanceID)") }
        context.log.warning("cannot find this instance's group yet", ["reason": .string(error.explanation)])
        try await context.clock.sleep(for: .seconds(2))
        continue
      }
      guard waits, context.uptime() - start < min(Self.ownGroupPatience, settings.waitTimeout) else {
        throw Failure(
          .groupIncomplete, "this instance belongs to no Auto Scaling group",
          details: ["DescribeAutoScalingInstances does not list \(identity.instanceID)"],
          hint: "name the servers' group with --group, or find them with --tag key=value")
      }
      context.log.progress("waiting for Auto Scaling to list \(identity.instanceID)")
      try await context.clock.sleep(for: .seconds(2))
    }
  }

  /// - Returns: the observation with the group and what its members' agents said.
  /// - Throws: `Failure` with status 2, 12 or 13.
  func wait(_ first: Observation, waits: Bool, rejoins: Bool) async throws -> Observation {
    var observation = first
    let observer = GroupObserver(
      membership: settings.membership, addressing: try AddressDecision(first.identity, settings).peers, client: client)
    let backoff = Backoff(base: .seconds(1), cap: .seconds(5))
    var generator = SystemRandomNumberGenerator()
    let start = context.uptime()
    var leaderlessSince: Duration?
    // Who has joined before can do without what it waits for.
    let patience = rejoins ? min(Self.rejoinPatience, settings.waitTimeout) : settings.waitTimeout
    for attempt in 0... {
      let elapsed = context.uptime() - start
      do {
        observation.group = try await observer.observe(observation.identity, groupName: observation.identity.groupName)
      } catch {
        guard let error = error as? AWSError, waits, error.isRetryable, elapsed < patience else {
          throw error.asFailure("look at \(subject(observation.identity))")
        }
        context.log.warning(
          "cannot look at \(subject(observation.identity)) now; trying again", ["reason": .string(error.explanation)])
      }
      if let group = observation.group {
        let readiness = Readiness(group, identity: observation.identity, settings: settings)
        if settings.role == .server, !rejoins, let failure = readiness.expectationFailure { throw failure }
        observation.time = context.now()
        if rejoins, settings.role == .server { return observation }
        if settings.role == .server {
          observation.peers = await PeerObserver(context: context, httpPort: settings.httpPort).ask(
            readiness.members.filter { $0.instanceID != observation.identity.instanceID }.map(\.address))
          try Task.checkCancellation()
        }
        let now = context.uptime()
        let decision = ClusterDecision(
          observation, readiness, keepsData: DataDirectoryDecision(observation, settings).keepsData, role: settings.role
        )
        guard waits else { return observation }
        if case .wait(let reason, _) = decision {
          let isLeaderless = observation.peers.values.contains { answer in
            if case .status(let status) = answer { !status.peers.isEmpty } else { false }
          }
          leaderlessSince = isLeaderless ? leaderlessSince ?? now : nil
          if let since = leaderlessSince, now - since >= settings.leaderWait {
            observation.leaderWaitIsOver = true
            return observation
          }
          if now - start >= patience { throw incomplete(readiness, observation, after: now - start) }
          report(readiness, observation, reason: isLeaderless ? reason : nil, elapsed: now - start)
        } else {
          guard waitsForOtherZones(decision, readiness, elapsed: now - start) else { return observation }
          reportOtherZones(readiness, elapsed: now - start)
        }
      } else if elapsed >= patience {
        throw Failure(.groupIncomplete, "the group could not be looked at in \(elapsed.humanReadable)")
      }
      let pause = min(backoff.halfJitter(attempt, using: &generator), patience - (context.uptime() - start))
      // An election is over in a second or two: no need to wait long between looks.
      try await context.clock.sleep(
        for: max(.milliseconds(10), leaderlessSince == nil ? pause : min(pause, .seconds(1))))
    }
    preconditionFailure("the loop above ends by return or throw")
  }

  /// A new datacenter gives the others some time, so that its first configuration names them. A server that joins one that
  /// is there never waits for another zone: that may be the zone that has just been lost.
  private func waitsForOtherZones(_ decision: ClusterDecision, _ readiness: Readiness, elapsed: Duration) -> Bool {
    guard case .newCluster = decision, settings.layout == .datacenterPerAZ, elapsed < settings.wanWait else {
      return false
    }
    return !readiness.knowsOtherZones
  }

  /// For messages.
  func subject(_ identity: Identity) -> String {
    switch settings.membership {
    case .ownGroup: "Auto Scaling group \(identity.groupName ?? "")"
    case .groups(let names): "Auto Scaling group \(names.joined(separator: ", "))"
    case .tags(let tags): "the instances tagged \(tags.map { "\($0.key)=\($0.value)" }.joined(separator: ", "))"
    }
  }

  private func report(_ readiness: Readiness, _ observation: Observation, reason: String?, elapsed: Duration) {
    let missing = readiness.missing(identity: observation.identity)
    let expected = settings.role == .client ? 1 : readiness.expected ?? 0
    var message = "waiting for the group: \(readiness.members.count) of \(expected) members"
    if let reason {
      message = reason
    } else if !missing.isEmpty {
      message += "; missing \(missing.joined(separator: ", "))"
    }
    context.log.progress(
      message,
      [
        "counted": .integer(Int64(readiness.members.count)), "expected": .integer(Int64(expected)),
        "elapsed": .string(elapsed.humanReadable),
      ])
  }

  private func reportOtherZones(_ readiness: Readiness, elapsed: Duration) {
    let zones = readiness.otherZones.filter { !$0.isComplete }.map {
      "\($0.members.count) of \($0.expected ?? 1) in \($0.name)"
    }
    context.log.progress(
      "this zone is complete; waiting up to \(settings.wanWait.humanReadable) for the others: \(zones.isEmpty ? "none is known" : zones.joined(separator: ", "))",
      ["elapsed": .string(elapsed.humanReadable)])
  }

  private func incomplete(_ readiness: Readiness, _ observation: Observation, after elapsed: Duration) -> Failure {
    let missing = readiness.missing(identity: observation.identity)
    if settings.role == .client {
      return Failure(
        .groupIncomplete, "no server was running in \(elapsed.humanReadable)",
        details: missing.isEmpty ? [] : ["not counted: \(missing.joined(separator: ", "))"],
        hint: "check \(subject(observation.identity)), or wait longer with --wait-timeout")
    }
    return Failure(
      .groupIncomplete,
      "the group did not fill in \(elapsed.humanReadable): \(readiness.members.count) of \(readiness.expected ?? 0) members",
      details: missing.isEmpty ? [] : ["missing: \(missing.joined(separator: ", "))"],
      hint: "look at the group's activity (aws autoscaling describe-scaling-activities), "
        + "or expect fewer with --expect, or wait longer with --wait-timeout")
  }
}
