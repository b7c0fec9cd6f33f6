package import AWS
package import Base
internal import Model

/// The launch hook that holds this instance: heartbeats during a long boot, and its completion.
package struct LifecycleHooks: Sendable {
  private let context: RuntimeContext
  private let client: AWSClient
  private let instanceID: String
  private let refusalLimit: Duration
  private let start: Duration

  /// - Parameter waitTimeout: bounds the wait for permissions that a new role may not have yet.
  package init(context: RuntimeContext, client: AWSClient, instanceID: String, waitTimeout: Duration) {
    self.context = context
    self.client = client
    self.instanceID = instanceID
    refusalLimit = min(waitTimeout, Self.longestRefusal)
    start = context.uptime()
  }

  /// Auto Scaling starts the hook some seconds after the instance.
  private static let pendingLimit = Duration.seconds(60)
  private static let pendingPause = Duration.seconds(1)
  /// Lifecycle states of an instance whose launch hook has not begun.
  private static let statesBefore: Set = ["Pending", "Warmed:Pending"]
  private static let statesHeld: Set = ["Pending:Wait", "Warmed:Pending:Wait"]
  /// A new role may be refused for some seconds; with the last call's own attempts, at most 90 s.
  private static let longestRefusal = Duration.seconds(85)
  private static let refusalBackoff = Backoff(base: .seconds(1), cap: .seconds(5))

  package enum Completion: Sendable, Equatable {
    case completed
    /// There is no hook to complete (any more): the instance is in this state.
    case alreadyOver(state: String)
  }

  /// Completes the hook with CONTINUE, once it holds this instance. One that is over already is no error.
  ///
  /// A hook that is not completed would end a healthy instance: what may be "not yet" is retried.
  /// - Throws: `Failure` with status 10, 11 or 12, or `CancellationError`.
  package func proceed(_ hook: String) async throws -> Completion {
    let start = context.uptime()
    var generator = SystemRandomNumberGenerator(), reported = ReportedReason(), attempt = 0
    while true {
      do {
        if let completion = try await tryProceeding(hook, since: start) { return completion }
        try await context.clock.sleep(for: Self.pendingPause)
      } catch let error as AWSError where error.isRetryable || error.mayBeNew {
        let left = refusalLimit - (context.uptime() - start)
        guard left > .zero else { throw error.asFailure("complete lifecycle hook \(hook)") }
        if reported.isNew(error.stableReason) {
          context.log.warning(
            "cannot complete lifecycle hook \(hook) yet; retrying", ["reason": .string(error.explained)])
        } else {
          context.log.progress("cannot complete lifecycle hook \(hook) yet: \(error.explained)")
        }
        try await context.clock.sleep(for: min(left, Self.refusalBackoff.halfJitter(attempt, using: &generator)))
        attempt += 1
      } catch {
        throw error.asFailure("complete lifecycle hook \(hook)")
      }
    }
  }

  /// - Returns: nil if the hook does not hold the instance yet.
  private func tryProceeding(_ hook: String, since start: Duration) async throws -> Completion? {
    let membership = try await membership(hook), state = membership.lifecycleState
    if Self.statesBefore.contains(state), context.uptime() - start < Self.pendingLimit {
      context.log.progress("waiting for lifecycle hook \(hook): the instance is in state \(state)")
      return nil
    }
    guard Self.statesBefore.contains(state) || Self.statesHeld.contains(state) else {
      return .alreadyOver(state: state)
    }
    do {
      try await AutoScaling(client: client).completeLifecycleAction(
        hook: hook, group: membership.group, instanceID: instanceID, .proceed)
      return .completed
    } catch let error as AWSError where error.isWithoutAction {
      return .alreadyOver(state: state)
    }
  }

  /// Completes the hook with ABANDON: Auto Scaling terminates the instance.
  /// - Throws: `Failure` with status 10, 11 or 12, or `CancellationError`.
  @discardableResult
  package func abandon(_ hook: String) async throws -> Completion {
    do {
      let membership = try await membership(hook)
      do {
        try await AutoScaling(client: client).completeLifecycleAction(
          hook: hook, group: membership.group, instanceID: instanceID, .abandon)
        return .completed
      } catch let error as AWSError where error.isWithoutAction {
        return .alreadyOver(state: membership.lifecycleState)
      }
    } catch {
      throw error.asFailure("complete lifecycle hook \(hook)")
    }
  }

  /// How long the hook holds this instance without heartbeats; nil unless the instance is known to be on its way into
  /// or out of its group, as one whose boot fails is.
  package func holdTime(_ hook: String) async -> Duration? {
    do {
      let membership = try await membership(hook), state = membership.lifecycleState
      guard state.hasPrefix("Pending") || state.hasPrefix("Terminating") else { return nil }
      return .seconds(max(await timeouts(hook, membership.group).heartbeat, Self.shortestTimeout))
    } catch {
      context.log.debug("cannot read the state of this instance", ["reason": .string(error.explained)])
      return nil
    }
  }

  private func membership(_ hook: String) async throws -> AutoScaling.Membership {
    guard let membership = try await AutoScaling(client: client).membership(ofInstance: instanceID) else {
      throw Failure(
        .awsFailed, "cannot complete lifecycle hook \(hook): this instance is in no Auto Scaling group",
        hint: "omit --lifecycle-hook")
    }
    return membership
  }

  // MARK: Heartbeats

  /// A boot that is over by then needs no heartbeat: the shortest time-out that a hook may have is 30 s.
  private static let firstHeartbeat = Duration.seconds(10)
  private static let shortestTimeout = 30

  /// Holds the hook open until cancelled: a heartbeat each third of its time-out. Failures are reported once each.
  package func keepAlive(_ hook: String) async {
    var reported = ReportedReason(), interval: Duration?
    var pause = Self.firstHeartbeat
    while !Task.isCancelled {
      do {
        try await context.clock.sleep(for: pause)
        let group = try await membership(hook).group
        if interval == nil { interval = await heartbeatInterval(hook, group) }
        pause = interval ?? pause
        try await AutoScaling(client: client).recordLifecycleActionHeartbeat(
          hook: hook, group: group, instanceID: instanceID)
        context.log.debug("recorded a heartbeat of lifecycle hook \(hook)")
      } catch let error as AWSError where error.isWithoutAction {
        // It does not hold the instance yet, or no longer.
        context.log.debug("lifecycle hook \(hook) does not hold this instance")
      } catch {
        guard !Task.isCancelled, reported.isNew(error.stableReason) else { continue }
        context.log.warning(
          "cannot record a heartbeat of lifecycle hook \(hook)", ["reason": .string(error.explained)])
      }
    }
  }

  private func heartbeatInterval(_ hook: String, _ group: String) async -> Duration {
    .seconds(max(await timeouts(hook, group).heartbeat, Self.shortestTimeout)) / 3
  }

  private func timeouts(_ hook: String, _ group: String) async -> HookTimeouts {
    let shortest = HookTimeouts(heartbeat: Self.shortestTimeout, global: nil)
    do {
      return try await AutoScaling(client: client).timeouts(ofHook: hook, group: group) ?? shortest
    } catch {
      context.log.debug("cannot read the time-outs of lifecycle hook \(hook)", ["reason": .string(error.explained)])
      return shortest
    }
  }

  /// For how long heartbeats can still hold the instance: until the hook's global time-out, counted from the start of
  /// this run; zero once the hook is over, which AWS then has ended with its default result.
  package func timeLeft(_ hook: String) async -> Duration {
    var limit = HookTimeouts(heartbeat: Self.shortestTimeout, global: nil)
    do {
      let membership = try await membership(hook), state = membership.lifecycleState
      guard Self.statesBefore.contains(state) || Self.statesHeld.contains(state) else { return .zero }
      limit = await timeouts(hook, membership.group)
    } catch {
      context.log.debug("cannot read the state of lifecycle hook \(hook)", ["reason": .string(error.explained)])
    }
    return .seconds(limit.longest) - (context.uptime() - start)
  }
}
