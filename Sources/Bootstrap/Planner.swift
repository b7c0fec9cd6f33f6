package import AWS
internal import Base
internal import Consul
package import Decisions

/// Observes, and waits if it may, until a plan can be made.
package struct Planner: Sendable {
  private let settings: Settings
  private let world: World
  private let metadata: MetadataClient
  private let credentials: CredentialCache

  package init(settings: Settings, world: World, metadata: MetadataClient, credentials: CredentialCache) {
    self.settings = settings
    self.world = world
    self.metadata = metadata
    self.credentials = credentials
  }

  /// Where this run takes place: what the metadata service says, and a client for the region.
  package struct Place: Sendable {
    package let identity: Identity
    package let client: AWSClient
    fileprivate let binary: MachineObserver.Binary
  }

  /// A rejoin after a reboot uses AWS if it answers by then, and does without it otherwise.
  private static let rejoinPatience = Duration.seconds(15)
  /// Auto Scaling lists a launched instance before it boots; a fresh one may still be missing for some seconds.
  private static let ownGroupPatience = Duration.seconds(30)

  /// - Throws: `Failure` with status 10 or 15, or `CancellationError`.
  package func locate() async throws -> Place {
    async let binary = MachineObserver(settings: settings, world: world).binary()
    let own = try await metadata.identity()
    async let vpcID = metadata.vpcID()
    let identity = Identity(
      instanceID: own.instanceID, region: own.region, availabilityZone: own.availabilityZone, privateIP: own.privateIP,
      vpcID: try await vpcID)
    world.log.info(
      "this is \(own.instanceID)",
      ["address": .string(own.privateIP.description), "zone": .string(own.availabilityZone)])
    let client = AWSClient(
      region: region(own), endpoints: EndpointResolver(environment: world.environment), credentials: credentials,
      transport: world.transport, retries: RetrySettings(environment: world.environment), clock: world.clock, now: world.now,
      log: world.log)
    return Place(identity: identity, client: client, binary: try await binary)
  }

  /// - Parameter waits: false for `--dry-run`, which takes one look.
  /// - Throws: `Failure`, or `CancellationError`.
  package func plan(at place: Place, waits: Bool) async throws -> Plan {
    var identity = place.identity
    let client = place.client
    let machine = try await MachineObserver(settings: settings, world: world).observe(place.binary, identity: identity)
    var observation = Observation(identity: identity, machine: machine, group: nil, time: world.now())

    let rejoins = machine.dataDirectory.raftState.mayBePresent && DataDirectoryDecision(observation, settings).keepsData
    do {
      identity.groupName = try await ownGroup(identity, client, waits: waits && !rejoins)
      observation.identity = identity
      observation = try await observe(observation, client, waits: waits, rejoins: rejoins)
    } catch let error as Failure where rejoins && [.awsFailed, .noCredentials, .groupIncomplete].contains(error.status) {
      world.log.warning("going on without the group: this data directory has raft state", ["reason": .string(error.lines.joined(separator: " "))])
    }
    return try Plan(observation, settings)
  }

  private func region(_ own: InstanceIdentity) -> String {
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
      if let region = world.environment[name], !region.isEmpty { return region }
    }
    return own.region
  }

  private func ownGroup(_ identity: Identity, _ client: AWSClient, waits: Bool) async throws -> String? {
    guard settings.membership == .ownGroup else { return nil }
    let start = world.uptime()
    while true {
      do {
        if let name = try await AutoScaling(client: client).groupName(ofInstance: identity.instanceID) { return name }
      } catch let error as AWSError {
        guard waits, error.mayPass, world.uptime() - start < settings.waitTimeout else {
          throw error.failure("find the Auto Scaling group of \(identity.instanceID)", role: await client.roleName())
        }
        world.log.warning("cannot find this instance's group yet", ["reason": .string(error.explanation)])
        try await world.clock.sleep(for: .seconds(2))
        continue
      }
      guard waits, world.uptime() - start < min(Self.ownGroupPatience, settings.waitTimeout) else {
        throw Failure(
          .groupIncomplete, "this instance belongs to no Auto Scaling group",
          details: ["DescribeAutoScalingInstances does not list \(identity.instanceID)"],
          hint: "name the servers' group with --group, or find them with --tag key=value")
      }
      world.log.progress("waiting for Auto Scaling to list \(identity.instanceID)")
      try await world.clock.sleep(for: .seconds(2))
    }
  }

  /// Looks, and looks again until the decision is no longer to wait.
  private func observe(
    _ first: Observation, _ client: AWSClient, waits: Bool, rejoins: Bool
  ) async throws -> Observation {
    var observation = first
    let observer = GroupObserver(membership: settings.membership, client: client)
    let backoff = Backoff(base: .seconds(1), cap: .seconds(5))
    var generator = SystemRandomNumberGenerator()
    let start = world.uptime()
    var leaderlessSince: Duration?
    for attempt in 0... {
      let elapsed = world.uptime() - start
      do {
        observation.group = try await observer.observe(observation.identity, groupName: observation.identity.groupName)
      } catch let error as AWSError {
        let patience = rejoins ? Self.rejoinPatience : settings.waitTimeout
        guard waits, error.mayPass, elapsed < patience else {
          throw error.failure("look at \(subject(observation.identity))", role: await client.roleName())
        }
        world.log.warning("cannot look at \(subject(observation.identity)) now; trying again", ["reason": .string(error.explanation)])
      }
      if let group = observation.group {
        let readiness = Readiness(group, identity: observation.identity, expect: settings.expect)
        guard readiness.expected != nil else {
          throw Failure(
            .usage, "how many servers to expect is not known", details: ["tags carry no desired capacity"],
            hint: "say it with --expect N")
        }
        observation.time = world.now()
        if rejoins { return observation }
        observation.peers = await PeerObserver(world: world, httpPort: settings.httpPort).ask(
          readiness.members.filter { $0.instanceID != observation.identity.instanceID }.map(\.address))
        try Task.checkCancellation()
        let now = world.uptime()
        let decision = ClusterDecision(
          observation, readiness, keepsData: DataDirectoryDecision(observation, settings).keepsData)
        guard case .wait(let reason, _) = decision, waits else { return observation }
        let isLeaderless = observation.peers.values.contains { answer in
          if case .status(let status) = answer { !status.peers.isEmpty } else { false }
        }
        leaderlessSince = isLeaderless ? leaderlessSince ?? now : nil
        if let since = leaderlessSince, now - since >= settings.leaderWait {
          observation.leaderWaitIsOver = true
          return observation
        }
        if now - start >= settings.waitTimeout { throw incomplete(readiness, observation, after: now - start) }
        report(readiness, observation, reason: isLeaderless ? reason : nil, elapsed: now - start)
      } else if elapsed >= settings.waitTimeout {
        throw Failure(.groupIncomplete, "the group could not be looked at in \(elapsed.spoken)")
      }
      let pause = min(backoff.halfJitter(attempt, using: &generator), settings.waitTimeout - (world.uptime() - start))
      // An election is over in a second or two: no need to wait long between looks.
      try await world.clock.sleep(for: max(.milliseconds(10), leaderlessSince == nil ? pause : min(pause, .seconds(1))))
    }
    preconditionFailure("the loop above ends by return or throw")
  }

  private func subject(_ identity: Identity) -> String {
    switch settings.membership {
    case .ownGroup: "Auto Scaling group \(identity.groupName ?? "")"
    case .groups(let names): "Auto Scaling group \(names.joined(separator: ", "))"
    case .tags(let tags): "the instances tagged \(tags.map { "\($0.key)=\($0.value)" }.joined(separator: ", "))"
    }
  }

  private func report(_ readiness: Readiness, _ observation: Observation, reason: String?, elapsed: Duration) {
    let missing = readiness.missing(identity: observation.identity)
    let expected = readiness.expected ?? 0
    var message = "waiting for the group: \(readiness.members.count) of \(expected) members"
    if let reason { message = reason } else if !missing.isEmpty { message += "; missing \(missing.joined(separator: ", "))" }
    world.log.progress(
      message,
      [
        "counted": .integer(Int64(readiness.members.count)), "expected": .integer(Int64(expected)),
        "elapsed": .string(elapsed.spoken),
      ])
  }

  private func incomplete(_ readiness: Readiness, _ observation: Observation, after elapsed: Duration) -> Failure {
    let missing = readiness.missing(identity: observation.identity)
    return Failure(
      .groupIncomplete, "the group did not fill in \(elapsed.spoken): \(readiness.members.count) of \(readiness.expected ?? 0) members",
      details: missing.isEmpty ? [] : ["missing: \(missing.joined(separator: ", "))"],
      hint: "look at the group's activity (aws autoscaling describe-scaling-activities), "
        + "or expect fewer with --expect, or wait longer with --wait-timeout")
  }
}
