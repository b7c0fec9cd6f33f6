internal import AWS
internal import Base
internal import Decisions
internal import Execution
internal import Model
package import Observers
internal import Synchronization

/// Watches the metadata for word that this machine is to go, and takes it out of its cluster then.
extension Sidecar {
  private struct NoticeState {
    /// Readings in a row of a target state that says that the instance terminates.
    var readings = 0
    var checks = 0
    var rebalances = false
    /// A spot instance that had to stay is not asked again.
    var isOver = false
  }

  private static let noticePause = Duration.seconds(5)
  private static let purpose = "watch for the termination of this instance"
  private static let awsTimeout = Duration.seconds(4)
  /// Two readings are enough where AWS does not answer.
  private static let sufficientReadings = 2
  /// Before a spot instance ends: time for the shutdown.
  private static let spotMargin = Duration.seconds(20)
  /// The notice comes two minutes before; another time is that of a wrong clock.
  private static let longestSpotNotice = Duration.seconds(130), assumedSpotNotice = Duration.seconds(110)
  /// Clients end in fleets: this spreads the completions of their hooks.
  private static let clientJitter = Duration.seconds(5)
  /// Once a minute.
  private static let checksPerRebalance = 12

  /// Until cancelled.
  func watchNotices(at instance: LocatedInstance) async {
    var state = NoticeState(), pollState = PollState()
    while !Task.isCancelled {
      await attempt(Self.purpose, &pollState) { _ in
        guard let word = try await notice(at: instance, &state) else { return }
        try await departOnce(word, instance)
        state.isOver = true
      }
      do { try await context.clock.sleep(for: Self.noticePause) } catch { return }
    }
  }

  /// What the metadata says; where it does not answer, it says nothing.
  private enum Word {
    case terminates(AutoScaling.Membership?)
    case spot(SpotInterruption)
  }

  private func notice(at instance: LocatedInstance, _ state: inout NoticeState) async throws -> Word? {
    defer { state.checks += 1 }
    guard !state.isOver else { return nil }
    let metadata = planner.metadata
    if let spot = try await metadata.spotInterruption() { return .spot(spot) }
    if state.checks % Self.checksPerRebalance == 0 {
      let rebalances = try await metadata.recommendsRebalance()
      if rebalances, !state.rebalances {
        context.log.warning("EC2 recommends to replace this spot instance; it may be interrupted soon")
      }
      state.rebalances = rebalances
    }
    guard try await metadata.targetLifecycleState() == "Terminated" else {
      state.readings = 0
      return nil
    }
    state.readings += 1
    do {
      let client = instance.client, id = instance.identity.instanceID
      let membership = try await context.within(Self.awsTimeout) {
        try await AutoScaling(client: client).membership(ofInstance: id)
      }
      if let membership = membership ?? nil {
        guard membership.lifecycleState.hasPrefix("Terminating") else {
          context.log.progress(
            "the metadata says that this instance terminates, Auto Scaling that it is \(membership.lifecycleState)")
          return nil
        }
        return .terminates(membership)
      }
    } catch let error as CancellationError {
      throw error
    } catch {
      context.log.info("cannot confirm the termination of this instance", ["reason": .string(error.explained)])
    }
    return state.readings >= Self.sufficientReadings ? .terminates(nil) : nil
  }

  /// As a task that the end of a supervised agent does not end.
  private func departOnce(_ word: Word, _ instance: LocatedInstance) async throws {
    let departure = Task { try await depart(word, instance) }
    state.withLock { $0.departure = departure }
    defer { state.withLock { $0.departure = nil } }
    try await withTaskCancellationHandler {
      try await departure.value
    } onCancel: {
      departure.cancel()
    }
  }

  private func depart(_ word: Word, _ instance: LocatedInstance) async throws {
    await stopKeepingJoined()
    let hook = try await hook(word, instance)
    let now = context.uptime()
    let notice: Notice
    switch word {
    case .terminates:
      notice = Notice(
        .termination, deadline: hook.map { now + $0.patience },
        patientUntil: hook == nil ? .zero : now + settings.leaveWait)
    case .spot(let spot):
      context.log.warning(
        "EC2 takes this spot instance back",
        ["action": .string(spot.action), "at": .string(spot.time.iso8601)])
      let left = spot.time - context.now()
      let isPlausible = left > .zero && left <= Self.longestSpotNotice
      notice = Notice(
        .spot, deadline: now + max(.seconds(1), (isPlausible ? left : Self.assumedSpotNotice) - Self.spotMargin))
    }
    let departure = Departure(settings: settings, context: context, desiredCapacity: desiredCapacity(at: instance))
    let outcome = try await withHeartbeats(hook) { try await departure.run(notice) }
    try await conclude(outcome, notice, hook, instance, departure)
  }

  /// The hook that holds this instance; nil without one.
  private func hook(_ word: Word, _ instance: LocatedInstance) async throws -> TerminationHook? {
    guard let name = settings.terminationHook else { return nil }
    var membership: AutoScaling.Membership?
    if case .terminates(let found) = word { membership = found }
    if membership == nil {
      do {
        let client = instance.client, id = instance.identity.instanceID
        membership =
          try await context.within(Self.awsTimeout) {
            try await AutoScaling(client: client).membership(ofInstance: id)
          } ?? nil
      } catch let error as CancellationError {
        throw error
      } catch {
        context.log.warning("cannot read the group of this instance", ["reason": .string(error.explained)])
      }
    }
    guard let group = membership?.group ?? instance.identity.groupName else {
      context.log.warning("lifecycle hook \(name) is not completed: this instance's group is not known")
      return nil
    }
    return await TerminationHook(
      name, group: group, instanceID: instance.identity.instanceID, client: instance.client, context: context)
  }

  private func withHeartbeats<Value: Sendable>(
    _ hook: TerminationHook?, _ work: @escaping @Sendable () async throws -> Value
  ) async throws -> Value {
    try await withThrowingTaskGroup(of: Value?.self) { group in
      if let hook {
        group.addTask {
          await hook.keepAlive()
          return nil
        }
      }
      group.addTask { try await work() }
      defer { group.cancelAll() }
      while let value = try await group.next() { if let value { return value } }
      throw CancellationError()
    }
  }

  private func conclude(
    _ outcome: Departure.Outcome, _ notice: Notice, _ hook: TerminationHook?, _ instance: LocatedInstance,
    _ departure: Departure
  ) async throws {
    guard let hook else { return }
    if settings.role == .client {
      var generator = SystemRandomNumberGenerator()
      try await context.clock.sleep(for: Self.clientJitter * Double.random(in: 0...1, using: &generator))
      return try await hook.complete(.proceed)
    }
    switch outcome {
    case .left, .nothingToLeave, .lastOne: try await hook.complete(.proceed)
    // It stays a voter to its end: a leave would not be better for the others than its death.
    case .kept where notice.source == .spot: break
    case .kept:
      try await hook.complete(.abandon)
      try await leaveWhenRetained(instance, departure)
    }
  }

  /// With a retention trigger Auto Scaling keeps an instance whose hook was abandoned, and counts it no more. It leaves
  /// once that is safe, and ends.
  private func leaveWhenRetained(_ instance: LocatedInstance, _ departure: Departure) async throws {
    let membership = try await AutoScaling(client: instance.client).membership(
      ofInstance: instance.identity.instanceID)
    guard membership?.lifecycleState.hasPrefix("Terminating:Retained") == true else { return }
    context.log.warning("this instance is retained, and leaves once that is safe")
    if case .kept = try await departure.run(Notice(.termination, deadline: nil)) { return }
    context.log.warning("this instance has left, and is shut down")
    _ = try await context.launcher.run(.systemctl("poweroff"), timeout: .seconds(10))
  }

  /// For a departure: how many servers the groups want.
  package func desiredCapacity(at instance: LocatedInstance) -> Departure.DesiredCapacity {
    let planner = planner, context = context
    return {
      do {
        return try await context.within(Self.awsTimeout) { try await planner.desiredCapacity(at: instance) } ?? nil
      } catch {
        context.log.info("the desired capacity is not known", ["reason": .string(error.explained)])
        return nil
      }
    }
  }
}
