internal import AWS
internal import Base
internal import Decisions
internal import Execution
internal import Model
internal import Observers
internal import Synchronization

/// Takes a machine that is to go out of its cluster, and lets Auto Scaling end it then.
extension Sidecar {
  private static let timeoutsLimit = Duration.seconds(4)
  /// Auto Scaling retains an instance some seconds after its hook is abandoned.
  private static let retentionTimeout = Duration.seconds(60)
  private static let desiredCapacityTimeout = Duration.seconds(4)
  /// Before a spot instance ends: time for the shutdown.
  private static let spotMargin = Duration.seconds(20)
  /// The notice comes two minutes before; another time is that of a wrong clock.
  private static let longestSpotNotice = Duration.seconds(130), assumedSpotNotice = Duration.seconds(110)
  /// Clients end in fleets: this spreads the completions of their hooks.
  private static let clientJitter = Duration.seconds(5)

  /// As a task that the end of a supervised agent does not end.
  func departOnce(_ notice: TerminationNotice, _ instance: LocatedInstance) async throws {
    let departure = Task { try await depart(notice, instance) }
    state.withLock { $0.departure = departure }
    defer { state.withLock { $0.departure = nil } }
    try await withTaskCancellationHandler {
      try await departure.value
    } onCancel: {
      departure.cancel()
    }
  }

  private func depart(_ word: TerminationNotice, _ instance: LocatedInstance) async throws {
    await stopKeepingJoined()
    let hook = settings.terminationHook.map {
      TerminationHook(
        $0, group: word.membership?.group ?? instance.identity.groupName, instanceID: instance.identity.instanceID,
        client: instance.client, context: context)
    }
    let departure = Departure(
      settings: settings, context: context, desiredCapacity: desiredCapacity(at: instance),
      listedServers: listedServers(at: instance))
    let outcome = try await beside(hook, word, instance) { [settings] in
      let spot = { @Sendable in self.state.withLock { $0.spotNotice } }
      if let interruption = word.spot { return try await departure.run(self.notice(of: interruption), changed: spot) }
      guard let hook else { return try await departure.run(Notice(.termination, deadline: nil), changed: spot) }
      let since = departure.startOfTermination()
      await self.readTimeouts(of: hook)
      let deadline = since + hook.patience
      let notice = { @Sendable in
        Notice(
          .termination, since: since, deadline: deadline,
          patientUntil: min(since + settings.leaveWait, hook.heldUntil(since: since)))
      }
      return try await departure.run(notice(), changed: { spot() ?? notice() })
    }
    try await conclude(outcome, hook, departure)
  }

  private func readTimeouts(of hook: TerminationHook) async {
    do {
      _ = try await context.within(Self.timeoutsLimit) { try await hook.readTimeouts() }
    } catch {
      context.log.warning(
        "cannot read the time-outs of lifecycle hook \(hook.name)", ["reason": .string(error.explained)])
    }
  }

  private func notice(of spot: SpotInterruption) -> Notice {
    context.log.warning(
      "EC2 takes this spot instance back", ["action": .string(spot.action), "at": .string(spot.time.iso8601)])
    let left = spot.time - (spot.readAt ?? context.now())
    let isPlausible = left > .zero && left <= Self.longestSpotNotice
    return Notice(
      .spot,
      deadline: context.uptime() + max(.seconds(1), (isPlausible ? left : Self.assumedSpotNotice) - Self.spotMargin))
  }

  /// Works while the hook is held, and while word of a spot interruption may still come.
  private func beside<Value: Sendable>(
    _ hook: TerminationHook?, _ word: TerminationNotice, _ instance: LocatedInstance,
    _ work: @escaping @Sendable () async throws -> Value
  ) async throws -> Value {
    try await withThrowingTaskGroup(of: Value?.self) { group in
      group.addTask {
        await hook?.keepAlive(isActive: word.spot == nil || word.membership != nil)
        return nil
      }
      group.addTask {
        if word.spot == nil { await self.watchSpot() }
        return nil
      }
      group.addTask { try await work() }
      defer { group.cancelAll() }
      while let value = try await group.next() { if let value { return value } }
      throw CancellationError()
    }
  }

  /// Until word comes, or it is cancelled.
  private func watchSpot() async {
    while !Task.isCancelled {
      do {
        try await context.clock.sleep(for: Self.noticePause)
        if let spot = try await planner.metadata.spotInterruption() {
          let notice = notice(of: spot)
          return state.withLock { $0.spotNotice = notice }
        }
      } catch {
        context.log.debug("cannot read the spot instance's notice", ["reason": .string(error.explained)])
      }
    }
  }

  private func conclude(
    _ outcome: Departure.Outcome, _ hook: TerminationHook?, _ departure: Departure
  ) async throws {
    if case .left = outcome { await supervisor?.left() }
    guard let hook else { return }
    if settings.role == .client {
      var generator = SystemRandomNumberGenerator()
      try await context.clock.sleep(for: Self.clientJitter * Double.random(in: 0...1, using: &generator))
      try await hook.complete(.proceed)
      return
    }
    switch outcome {
    case .left, .nothingToLeave, .lastOne:
      // A process before this one has abandoned the hook, and has waited since.
      if try await !hook.complete(.proceed), try await hook.isRetained() { try await powerOff() }
    case .kept:
      // A spot instance stays a voter to its end: its leave would not be better for the others than its death.
      try await hook.complete(.abandon)
      try await leaveWhenRetained(hook, departure)
    }
  }

  /// With a retention trigger Auto Scaling keeps an instance whose hook was abandoned, and counts it no more. It leaves
  /// once that is safe, and ends.
  private func leaveWhenRetained(_ hook: TerminationHook, _ departure: Departure) async throws {
    let end = context.uptime() + Self.retentionTimeout
    while try await !hook.isRetained() {
      guard context.uptime() < end else { return }
      try await context.clock.sleep(for: Self.noticePause)
    }
    context.log.warning("this instance is retained, and leaves once that is safe")
    if case .kept = try await departure.run(Notice(.termination, deadline: nil)) { return }
    try await powerOff()
  }

  /// Nothing else ends a retained instance that has left.
  private func powerOff() async throws {
    guard context.system.isBootedBySystemd else {
      context.log.error("this instance has left and is retained: without systemd it is not shut down, terminate it")
      return
    }
    context.log.warning("this instance has left, and is shut down")
    _ = try await context.launcher.run(.systemctl("poweroff"), timeout: .seconds(10))
  }

  /// For a departure whose others may all have been replaced.
  private func listedServers(at instance: LocatedInstance) -> Departure.ListedServers {
    let planner = planner, context = context
    return {
      do {
        let readiness = try await context.within(Self.desiredCapacityTimeout) {
          try await planner.readiness(at: instance)
        }
        return readiness?.asked.compactMap(\.address) ?? []
      } catch {
        context.log.info("the present servers are not known", ["reason": .string(error.explained)])
        return []
      }
    }
  }

  /// For a departure: how many servers the groups want.
  private func desiredCapacity(at instance: LocatedInstance) -> Departure.DesiredCapacity {
    let planner = planner, context = context
    return {
      do {
        return try await context.within(Self.desiredCapacityTimeout) {
          try await planner.desiredCapacity(at: instance)
        } ?? nil
      } catch {
        context.log.info("the desired capacity is not known", ["reason": .string(error.explained)])
        return nil
      }
    }
  }
}
