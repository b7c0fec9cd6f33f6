internal import AWS
internal import Base
internal import Decisions
internal import Model
internal import Observers

/// Checks AWS: endpoints, clock, and every call of a run with these options.
struct AWSChecks: Sendable {
  let settings: Settings
  let context: RuntimeContext
  let client: AWSClient
  let identity: Identity
  let report: @Sendable (Finding) -> Void

  /// Seconds. Services refuse signatures that are more than five minutes off; a run corrects from four on.
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

  /// - Returns: whether any endpoint can be reached.
  func endpoints() async -> Bool {
    var offset: Duration?, reached = false
    for service in services {
      let start = context.uptime()
      do {
        let found = try await client.probe(service)
        reached = true
        offset = offset ?? found
        report(.ok("endpoint \(service.name)", client.url(of: service), time: context.uptime() - start))
      } catch {
        report(.problem("endpoint \(service.name)", error.asFailure("reach \(client.url(of: service))")))
      }
    }
    if let seconds = offset?.components.seconds {
      if abs(seconds) > Self.tolerableSkew {
        report(
          .problem(
            "clock",
            "this machine's clock is \(skew(seconds)); AWS refuses signatures that are more than 5 min off",
            hint: "set it (timedatectl, chronyc makestep), and synchronize it with 169.254.169.123, "
              + "the Amazon Time Sync Service"))
      } else {
        report(.ok("clock", abs(seconds) <= 1 ? "in sync with AWS" : skew(seconds)))
      }
    }
    return reached
  }

  private func skew(_ seconds: Int64) -> String { "\(abs(seconds)) s \(seconds > 0 ? "behind" : "ahead of") AWS" }

  /// - Returns: the group; nil if a call that shows it failed.
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
      let described = await call(.describeAutoScalingGroups, "describe the group") {
        try await autoScaling.describeAutoScalingGroups(groups.isEmpty ? ["consul-bootstrap-doctor"] : groups)
      }
      if described == nil { isKnown = false }
    }
    let described = await call(.describeInstances, "describe the instances") {
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
    do {
      return try await GroupObserver(
        membership: settings.membership, addressing: try AddressDecision(identity, settings).peers, client: client
      ).observe(identity, groupName: identity.groupName)
    } catch {
      report(.problem("group", error.asFailure("describe the group")))
    }
    return nil
  }

  /// Whether the group is what a run waits for.
  func evaluate(_ readiness: Readiness) {
    if settings.role == .server, let failure = readiness.expectationFailure {
      return report(.problem("group", failure))
    }
    let count = readiness.members.count
    if settings.role == .client {
      report(
        count > 0
          ? .ok("group", count == 1 ? "1 server is eligible" : "\(count) servers are eligible")
          : .problem("group", "no server is eligible", hint: "a client waits for a server: check --group or --tag"))
      return
    }
    let eligible = "\(count) of \(readiness.expected ?? 0) servers are eligible"
    if !readiness.isComplete {
      let missing = readiness.missing(identity: identity)
      report(
        .problem(
          "group",
          eligible + (missing.isEmpty ? "" : "; missing: \(missing.joined(separator: ", "))"),
          hint: "a run waits for them up to --wait-timeout (\(settings.waitTimeout.humanReadable)); "
            + "see aws autoscaling describe-scaling-activities"))
    } else {
      report(.ok("group", eligible))
    }
    for zone in readiness.otherZones where !zone.isComplete {
      report(
        .note(
          "group",
          "\(zone.members.count) of \(zone.expected.map(String.init) ?? "?") servers are eligible in \(zone.name)"
        ))
    }
  }

  private func tryHook(_ hook: String, _ autoScaling: AutoScaling, _ identity: Identity) async {
    guard let group = identity.groupName else {
      report(
        .problem(
          AWSAction.completeLifecycleAction.iamAction,
          "this instance belongs to no Auto Scaling group, so no hook holds it",
          hint: "omit --lifecycle-hook"))
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
        report(.ok("secret", "\(reference) exists and is valid"))
      } catch {
        report(.problem("secret", error.asFailure("read \(reference)")))
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

  /// Creates groups and streams as the sidecar does.
  private func logs(_ identity: Identity) async {
    guard !settings.logs.isEmpty else { return }
    let logs = CloudWatchLogs(client: client)
    var groupName: String?
    if settings.logNamesNeedGroup {
      do {
        groupName = try await AutoScaling(client: client).groupName(ofInstance: identity.instanceID)
      } catch {
        report(
          .problem(
            "logs", "cannot expand {group} in the names of the logs: \(error.explained)",
            hint: "allow \(AWSAction.describeAutoScalingInstances.iamAction)"))
        return
      }
    }
    let destinations = settings.logDestinations(identity, hostName: context.system.hostName, groupName: groupName)
    for destination in destinations {
      let (group, stream, retention) = (destination.group, destination.stream, destination.retention)
      if settings.logAgent != nil {
        _ = await call(.describeLogStreams, "read the last event time of \(group)") {
          try await logs.lastEventTime(group: group, stream: stream)
        }
        continue
      }
      let created: Void? = await call(.createLogStream, "create log stream \(stream) in \(group)") {
        do { try await logs.createLogStream(group: group, stream: stream) } catch let error as AWSError
          where error.code == "ResourceNotFoundException"
        {
          try await logs.createLogGroup(group, tags: settings.tagsOfLogGroups)
          if let retention { try await logs.putRetentionPolicy(group: group, days: retention) }
          try await logs.createLogStream(group: group, stream: stream)
        }
      }
      guard created != nil else { continue }
      _ = await call(.putLogEvents, "send events to \(group)") {
        try await logs.tryPuttingLogEvents(group: group)
      }
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
      report(.ok(action.iamAction, "allowed", time: context.uptime() - start))
      return result
    } catch {
      let failed = (error as? AWSError)?.action ?? action
      report(.problem(failed.iamAction, error.asFailure(purpose)))
    }
    return nil
  }
}
