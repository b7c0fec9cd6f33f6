internal import AWS
internal import Base
internal import Decisions
internal import Model
internal import Observers

/// The doctor's look at AWS: endpoints, clock, every call of a run with these options.
struct AWSChecks: Sendable {
  let settings: Settings
  let context: RuntimeContext
  let planner: Planner
  let client: AWSClient
  let identity: Identity
  let tell: @Sendable (Finding) -> Void

  /// Services refuse signatures that are more than five minutes off; a run corrects from four on.
  private static let tolerableSkew: Int64 = 240

  private var services: [AWSService] {
    var services = [AWSService.ec2]
    if case .tags = settings.membership, settings.lifecycleHook == nil {} else { services.append(.autoScaling) }
    let references = settings.secretReferences
    if references.contains(where: { if case .ssm = $0 { true } else { false } }) { services.append(.ssm) }
    if references.contains(where: { if case .secretsManager = $0 { true } else { false } }) {
      services.append(.secretsManager)
    }
    if !settings.logs.isEmpty { services.append(.logs) }
    return services
  }

  /// - Returns: whether any can be reached.
  func endpoints() async -> Bool {
    var offset: Duration?, reached = false
    for service in services {
      let start = context.uptime()
      do {
        let found = try await client.probe(service)
        reached = true
        offset = offset ?? found
        tell(.ok("endpoint \(service.name)", client.url(of: service), time: context.uptime() - start))
      } catch {
        tell(.wrong("endpoint \(service.name)", error.asFailure("reach \(client.url(of: service))")))
      }
    }
    if let seconds = offset?.components.seconds {
      if abs(seconds) > Self.tolerableSkew {
        tell(
          .wrong(
            "clock",
            "this machine's clock is \(abs(seconds)) s \(seconds > 0 ? "behind" : "ahead of") AWS's; AWS refuses signatures that are 5 min off",
            hint: "set it (timedatectl, chronyc makestep) and keep it: 169.254.169.123 is Amazon's time server"))
      } else {
        tell(
          .ok(
            "clock", abs(seconds) <= 1 ? "as AWS's" : "\(abs(seconds)) s \(seconds > 0 ? "behind" : "ahead of") AWS's"))
      }
    }
    return reached
  }

  /// - Returns: the group, if it could be seen.
  func calls() async -> GroupObservation? {
    var identity = identity
    let autoScaling = AutoScaling(client: client)
    let asksForGroup = settings.membership == .ownGroup || settings.lifecycleHook != nil
    var isKnown = true
    if asksForGroup {
      let name = await call(.describeAutoScalingInstances, "find this instance's group") {
        try await autoScaling.groupName(ofInstance: identity.instanceID)
      }
      identity.groupName = name ?? nil
      isKnown = name != nil
    }
    var groups: [String] = []
    switch settings.membership {
    case .ownGroup: groups = [identity.groupName].compactMap { $0 }
    case .groups(let names): groups = names
    case .tags: break
    }
    if case .tags = settings.membership {
    } else {
      let described = await call(.describeAutoScalingGroups, "look at the group") {
        try await autoScaling.describeAutoScalingGroups(groups.isEmpty ? ["consul-bootstrap-doctor"] : groups)
      }
      if described == nil { isKnown = false }
    }
    let described = await call(.describeInstances, "look at the instances") {
      try await EC2(client: client).describeInstances([.init("instance-id", [identity.instanceID])])
    }
    if described == nil { isKnown = false }
    if let hook = settings.lifecycleHook { await tryHook(hook, autoScaling, identity) }
    await secrets()
    await logs(identity)
    guard isKnown else { return nil }
    return await group(identity)
  }

  private func group(_ identity: Identity) async -> GroupObservation? {
    if settings.membership == .ownGroup, identity.groupName == nil {
      tell(
        .wrong(
          "group", "this instance belongs to no Auto Scaling group",
          hint: "name the servers' group with --group, or find them with --tag key=value"))
      return nil
    }
    do {
      return try await GroupObserver(
        membership: settings.membership, addressing: try AddressDecision(identity, settings).peers, client: client
      ).observe(identity, groupName: identity.groupName)
    } catch {
      tell(.wrong("group", error.asFailure("look at the group")))
    }
    return nil
  }

  /// Is the group what a run waits for?
  func judge(_ readiness: Readiness) {
    if settings.role == .server, let failure = readiness.expectationFailure { return tell(.wrong("group", failure)) }
    let count = readiness.members.count
    if settings.role == .client {
      tell(
        count > 0
          ? .ok("group", "\(count) \(count == 1 ? "server counts" : "servers count")")
          : .wrong("group", "no server runs", hint: "a client waits for one: check --group or --tag"))
      return
    }
    let expected = readiness.expected ?? 0
    if !readiness.isComplete {
      let missing = readiness.missing(identity: identity)
      tell(
        .wrong(
          "group",
          "\(count) of \(expected) servers count"
            + (missing.isEmpty ? "" : "; missing: \(missing.joined(separator: ", "))"),
          hint:
            "a run waits for them up to --wait-timeout (\(settings.waitTimeout.humanReadable)); see aws autoscaling describe-scaling-activities"
        ))
    } else if !readiness.includesThisInstance {
      tell(
        .note(
          "group",
          "\(count) of \(expected) servers count; this instance is none of them, and a server that is none waits"))
    } else {
      tell(.ok("group", "\(count) of \(expected) servers count"))
    }
    for zone in readiness.otherZones where !zone.isComplete {
      tell(
        .note(
          "group", "\(zone.members.count) of \(zone.expected.map(String.init) ?? "?") servers are known in \(zone.name)"
        ))
    }
  }

  private func tryHook(_ hook: String, _ autoScaling: AutoScaling, _ identity: Identity) async {
    guard let group = identity.groupName else {
      tell(
        .wrong(
          AWSAction.completeLifecycleAction.iamAction, "this instance is in no group and has no lifecycle hook",
          hint: "leave out --lifecycle-hook"))
      return
    }
    _ = await call(.completeLifecycleAction, "complete lifecycle hook \(hook)") {
      try await autoScaling.tryCompletingLifecycleAction(hook: hook, group: group)
    }
  }

  private func secrets() async {
    func one(_ reference: SecretReference?, _ change: (inout Settings) -> Void) async {
      guard let reference else { return }
      var only = Settings()
      change(&only)
      do {
        _ = try await SecretReader(settings: only, context: context, client: client).read(missingKey: .create)
        tell(.ok("secret", "\(reference) is there and of the right form"))
      } catch {
        tell(.wrong("secret", error.asFailure("read \(reference)")))
      }
    }
    await one(settings.gossipKey) {
      $0.gossipKey = settings.gossipKey
      $0.createsGossipKey = settings.createsGossipKey
    }
    await one(settings.agentToken) { $0.agentToken = settings.agentToken }
    await one(settings.tls.ca) { $0.tls.ca = settings.tls.ca }
    await one(settings.tls.cert) { $0.tls.cert = settings.tls.cert }
    await one(settings.tls.key) { $0.tls.key = settings.tls.key }
  }

  /// As the sidecar makes them, one after another.
  private func logs(_ identity: Identity) async {
    guard !settings.logs.isEmpty else { return }
    let logs = CloudWatchLogs(client: client)
    var groupName: String?
    if settings.logNamesNeedGroup {
      do {
        groupName = try await AutoScaling(client: client).groupName(ofInstance: identity.instanceID)
      } catch {
        tell(
          .wrong(
            "logs", "the log group's name needs this instance's group, which is not known: \(error.explained)",
            hint: "allow \(AWSAction.describeAutoScalingInstances.iamAction)"))
        return
      }
    }
    let destinations = settings.logDestinations(identity, hostName: context.system.hostName, groupName: groupName)
    for destination in destinations {
      let (group, stream, retention) = (destination.group, destination.stream, destination.retention)
      if settings.logAgent != nil {
        _ = await call(.describeLogStreams, "see what the agent sends to \(group)") {
          try await logs.lastEventTime(group: group, stream: stream)
        }
        continue
      }
      let made: Void? = await call(.createLogStream, "make stream \(stream) in \(group)") {
        do { try await logs.createLogStream(group: group, stream: stream) } catch let error as AWSError
          where error.code == "ResourceNotFoundException"
        {
          try await logs.createLogGroup(group, tags: settings.tagsOfLogGroups)
          if let retention { try await logs.putRetentionPolicy(group: group, days: retention) }
          try await logs.createLogStream(group: group, stream: stream)
        }
      }
      guard made != nil else { continue }
      _ = await call(.putLogEvents, "send to \(group)") { try await logs.tryPuttingLogEvents(group: group) }
    }
  }

  /// Names the finding by the action, or by the one that failed where several are called.
  /// - Returns: nil if it failed.
  private func call<Result: Sendable>(_ action: AWSAction, _ purpose: String, _ body: () async throws -> Result) async
    -> Result?
  {
    let start = context.uptime()
    do {
      let result = try await body()
      tell(.ok(action.iamAction, "allowed", time: context.uptime() - start))
      return result
    } catch {
      let failed = (error as? AWSError)?.action ?? action
      tell(.wrong(failed.iamAction, error.asFailure(purpose)))
    }
    return nil
  }
}
