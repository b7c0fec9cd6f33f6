internal import AWS
internal import Artifacts
internal import Base
internal import Consul
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
    var services: [AWSService] = []
    for action in IAMPermission.actions(for: settings) where !services.contains(action.service) {
      services.append(action.service)
    }
    return services
  }

  private func needs(_ action: AWSAction) -> Bool { IAMPermission.actions(for: settings).contains(action) }

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
    var knowsName = true, isKnown = true
    if needs(.describeAutoScalingInstances) {
      let name = await call(.describeAutoScalingInstances, "find this instance's group") {
        try await autoScaling.groupName(ofInstance: identity.instanceID)
      }
      identity.groupName = name ?? nil
      knowsName = name != nil
      if settings.membership == .ownGroup { isKnown = knowsName }
    }
    if needs(.describeAutoScalingGroups) {
      var groups = [identity.groupName].compactMap { $0 }
      if case .groups(let names) = settings.membership { groups = names }
      let described = await call(.describeAutoScalingGroups, "describe the group") {
        try await autoScaling.describeAutoScalingGroups(groups.isEmpty ? ["consul-bootstrap-doctor"] : groups)
      }
      if described == nil { isKnown = false }
    }
    let described = await call(.describeInstances, "describe the instances") {
      try await EC2(client: client).describeInstances([.init("instance-id", [identity.instanceID])])
    }
    if described == nil { isKnown = false }
    if let hook = settings.lifecycleHook { await tryHook(hook, autoScaling, identity, knowsName: knowsName) }
    await secrets()
    await record()
    await logs(identity, knowsName: knowsName)
    reportUntried()
    guard isKnown else { return nil }
    return await group(identity)
  }

  /// Why the doctor does not call an action that a run needs; nil if it calls it, or finds that it is not needed now.
  static func reasonNotToTry(_ action: AWSAction, _ settings: Settings) -> String? {
    if let agent = settings.logAgent, action.service == .logs, action != .describeLogStreams {
      return "\(agent.rawValue) needs it, not this program"
    }
    return action == .tagResource ? "it is part of CreateLogGroup with --log-tag" : nil
  }

  private func reportUntried() {
    for action in IAMPermission.actions(for: settings) {
      guard let reason = Self.reasonNotToTry(action, settings) else { continue }
      report(.note(action.iamAction, "not tried: \(reason)"))
    }
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

  private func tryHook(_ hook: String, _ autoScaling: AutoScaling, _ identity: Identity, knowsName: Bool) async {
    let subject = AWSAction.completeLifecycleAction.iamAction
    guard knowsName else {
      return report(.note(subject, "not tried: the Auto Scaling group of this instance is not known"))
    }
    guard let group = identity.groupName else {
      return report(
        .problem(
          subject, "this instance belongs to no Auto Scaling group, so no hook holds it",
          hint: "omit --lifecycle-hook"))
    }
    _ = await call(.completeLifecycleAction, "complete lifecycle hook \(hook)") {
      try await autoScaling.tryCompletingLifecycleAction(hook: hook, group: group)
    }
    _ = await call(.recordLifecycleActionHeartbeat, "record a heartbeat of lifecycle hook \(hook)") {
      try await autoScaling.tryRecordingHeartbeat(hook: hook, group: group)
    }
    let timeout = await call(.describeLifecycleHooks, "describe lifecycle hook \(hook)") {
      try await autoScaling.timeouts(ofHook: hook, group: group)
    }
    if timeout == .some(nil) {
      report(
        .problem(
          "lifecycle hook", "Auto Scaling group \(group) has no lifecycle hook \(hook)",
          hint: "correct --lifecycle-hook"))
    }
  }

  private func secrets() async {
    for (reference, only) in settings.separateSecrets {
      let reader = SecretReader(settings: only, context: context, client: client)
      do {
        let found = try await reader.read(missingKey: .tolerate)
        if found.gossipKeyIsMissing {
          _ = try await reader.read(missingKey: .create)
          report(.ok(AWSAction.putParameter.iamAction, "allowed"))
        } else if only.createsGossipKey {
          report(.ok(AWSAction.putParameter.iamAction, "not needed: \(reference) exists"))
        }
        report(.ok("secret", "\(reference) exists and is valid"))
      } catch {
        report(.problem("secret", error.asFailure("read \(reference)")))
      }
    }
  }

  /// Reads the cluster's record as a boot does that would form a new cluster.
  private func record() async {
    guard settings.role == .server else { return }
    guard let path = settings.clusterRecordPath(for: identity) else {
      return report(.note("record", Settings.withoutRecord, hint: "name a record with --cluster-record ssm:PATH"))
    }
    let newest: RecordEntry?
    do {
      let start = context.uptime()
      newest = try await RecordObserver(context: context, client: client).newest(below: path, for: nil)
      report(.ok(AWSAction.getParametersByPath.iamAction, "allowed", time: context.uptime() - start))
    } catch {
      let action = (error as? AWSError)?.action?.iamAction
      return report(.problem(action ?? "record", error.asFailure("read the cluster's record \(path)")))
    }
    guard let entry = newest else {
      report(.ok("record", "\(path) has no entry yet: the first boot creates one"))
      return report(.note(AWSAction.putParameter.iamAction, "not tried for \(path): it would create the record"))
    }
    let record = entry.record
    let servers = record.servers.isEmpty ? "" : ": \(record.servers.map(\.text).joined(separator: ", "))"
    if let failure = mismatch(entry, below: path) {
      report(.problem("record", failure))
    } else {
      report(.ok("record", "\(path)/\(entry.name) is \(record.state.rawValue)\(servers)"))
    }
    // AWS refuses a name that exists once it has checked the permission.
    _ = await call(.putParameter, "write the cluster's record \(path)") {
      try await ParameterStore(client: client).create("\(path)/\(entry.name)", text: try record.text())
    }
  }

  /// Whether the record is of another cluster than this server's data.
  private func mismatch(_ entry: RecordEntry, below path: String) -> Failure? {
    do {
      return try context.files.clusterIdentity(settings).flatMap { entry.mismatch($0, below: path) }
    } catch {
      // A file that cannot be read is no mismatch.
      return nil
    }
  }

  /// Creates groups and streams as the sidecar does.
  private func logs(_ identity: Identity, knowsName: Bool) async {
    guard !settings.logs.isEmpty else { return }
    guard knowsName || !settings.logNamesNeedGroup else {
      return report(.note("logs", "not tried: {group} in the names of the logs is not known"))
    }
    let logs = CloudWatchLogs(client: client)
    for destination in settings.logDestinations(
      identity, hostName: context.system.hostName, groupName: identity.groupName)
    {
      let (group, stream) = (destination.group, destination.stream)
      if settings.logAgent != nil {
        _ = await call(.describeLogStreams, "read the last event time of \(group)") {
          try await logs.lastEventTime(group: group, stream: stream)
        }
        continue
      }
      let exists = await call(.createLogStream, "create log stream \(stream) in \(group)") {
        do { try await logs.createLogStream(group: group, stream: stream) } catch let error as AWSError
          where error.code == "ResourceNotFoundException"
        { return false }
        return true
      }
      guard let exists else { continue }
      if exists {
        reportUnneeded(destination)
      } else {
        guard await create(destination, logs) else { continue }
      }
      _ = await call(.putLogEvents, "send events to \(group)") {
        try await logs.tryPuttingLogEvents(group: group)
      }
    }
  }

  /// - Returns: false if a call failed.
  private func create(_ destination: LogDestination, _ logs: CloudWatchLogs) async -> Bool {
    let group = destination.group
    let created: Void? = await call(.createLogGroup, "create log group \(group)") {
      try await logs.createLogGroup(group, tags: settings.tagsOfLogGroups)
      try await logs.createLogStream(group: group, stream: destination.stream)
    }
    guard created != nil else { return false }
    guard let days = destination.retention else { return true }
    let limited: Void? = await call(.putRetentionPolicy, "set the retention of \(group)") {
      try await logs.putRetentionPolicy(group: group, days: days)
    }
    return limited != nil
  }

  /// A run neither creates nor changes a log group that exists.
  private func reportUnneeded(_ destination: LogDestination) {
    let actions: [AWSAction] =
      destination.retention == nil ? [.createLogGroup] : [.createLogGroup, .putRetentionPolicy]
    for action in actions { report(.ok(action.iamAction, "not needed: log group \(destination.group) exists")) }
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
