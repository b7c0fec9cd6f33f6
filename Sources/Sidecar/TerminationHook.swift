internal import AWS
internal import Base
internal import Model
internal import Synchronization

/// The termination hook that holds this instance while it leaves: heartbeats, and its completion. Where AWS does not
/// answer, it asks again; nothing of the departure waits for it.
final class TerminationHook: Sendable {
  let name: String
  private let instanceID: String
  private let client: AWSClient
  private let context: RuntimeContext
  /// Of this process's part, by uptime.
  private let start: Duration
  private let state: Mutex<State>

  private struct State {
    /// Nil until AWS has told it.
    var group: String?
    var timeouts: HookTimeouts?
    /// Uptime of the last heartbeat that AWS has recorded.
    var heldAt: Duration?
    var isComplete = false
  }

  /// Hooks last at least 30 s (Auto Scaling API, PutLifecycleHook).
  private static let shortestTimeout = 30
  /// Before the end of all.
  private static let margin = 60
  private static let shortestPause = Duration.seconds(10)
  private static let completionBackoff = Backoff(base: .seconds(1), cap: .seconds(30))

  /// - Parameter group: of the instance, if it is known.
  init(_ name: String, group: String?, instanceID: String, client: AWSClient, context: RuntimeContext) {
    (self.name, self.instanceID) = (name, instanceID)
    (self.client, self.context) = (client, context)
    start = context.uptime()
    state = Mutex(State(group: group))
  }

  private var autoScaling: AutoScaling { AutoScaling(client: client) }

  /// - Throws: `AWSError` and the like; `Failure` for an instance without a group.
  private func group() async throws -> String {
    if let known = state.withLock({ $0.group }) { return known }
    guard let found = try await autoScaling.membership(ofInstance: instanceID)?.group else {
      throw Failure(.awsFailed, "this instance is in no Auto Scaling group", hint: "omit --termination-hook")
    }
    state.withLock { $0.group = found }
    return found
  }

  /// Until they are known the shortest are assumed.
  private var timeouts: HookTimeouts {
    state.withLock { $0.timeouts } ?? HookTimeouts(heartbeat: Self.shortestTimeout, global: nil)
  }

  /// So long the instance can be held, less a margin in which to complete the hook.
  var patience: Duration { .seconds(max(Self.shortestTimeout / 2, timeouts.longest - Self.margin)) }

  /// Until when, by uptime, the hook certainly holds the instance, less a margin: where AWS refuses heartbeats, it ends
  /// after one time-out, and the instance with it, as a voter.
  /// - Parameter notice: when the hook began.
  func heldUntil(since notice: Duration) -> Duration {
    let (heldAt, heartbeat) = (state.withLock { $0.heldAt }, timeouts.heartbeat)
    let end = (heldAt ?? notice) + .seconds(max(heartbeat / 2, heartbeat - Self.margin))
    // The first heartbeat of a process that goes on has not been answered yet.
    return max(end, start + Self.shortestPause)
  }

  /// Asks for the hook's time-outs.
  /// - Throws: `AWSError` and the like, or `Failure`.
  func readTimeouts() async throws {
    guard state.withLock({ $0.timeouts == nil }) else { return }
    let group = try await group()
    guard let found = try await autoScaling.timeouts(ofHook: name, group: group) else {
      throw Failure(
        .awsFailed, "Auto Scaling group \(group) has no lifecycle hook \(name)", hint: "correct --termination-hook")
    }
    state.withLock { $0.timeouts = found }
  }

  /// Holds the instance until cancelled. Failures are logged once for each reason.
  /// - Parameter isActive: whether the hook holds the instance already. That of a spot interruption may come later.
  func keepAlive(isActive: Bool) async {
    var reported = ReportedReason()
    while !Task.isCancelled {
      do {
        try await autoScaling.recordLifecycleActionHeartbeat(
          hook: name, group: try await group(), instanceID: instanceID)
        let now = context.uptime()
        state.withLock { $0.heldAt = now }
        context.log.debug("recorded a heartbeat of lifecycle hook \(name)")
        try await readTimeouts()
        _ = reported.isNew(nil)
      } catch let error as AWSError where error.isWithoutAction && !isActive {
        context.log.debug("lifecycle hook \(name) does not hold this instance yet")
      } catch {
        if !Task.isCancelled, reported.isNew(error.stableReason) {
          context.log.warning("cannot hold lifecycle hook \(name)", ["reason": .string(error.explained)])
        }
      }
      do { try await context.clock.sleep(for: max(Self.shortestPause, .seconds(timeouts.heartbeat) / 3)) } catch {
        return
      }
    }
  }

  /// Completes the hook once, however long AWS refuses: an instance whose hook is not completed is held for nothing.
  /// - Returns: false if the hook does not hold this instance any more.
  /// - Throws: `CancellationError` only.
  @discardableResult
  func complete(_ result: AutoScaling.LifecycleActionResult) async throws -> Bool {
    guard state.withLock({ !$0.isComplete }) else { return true }
    var generator = SystemRandomNumberGenerator(), reported = ReportedReason(), attempt = 0
    while true {
      do {
        try await autoScaling.completeLifecycleAction(
          hook: name, group: try await group(), instanceID: instanceID, result)
        context.log.warning("completed lifecycle hook \(name)", ["result": .string(result.rawValue)])
        state.withLock { $0.isComplete = true }
        return true
      } catch let error as AWSError where error.isWithoutAction {
        context.log.info("lifecycle hook \(name) does not hold this instance any more")
        return false
      } catch let error as CancellationError {
        throw error
      } catch {
        if reported.isNew(error.stableReason) {
          context.log.warning(
            "cannot complete lifecycle hook \(name); retrying", ["reason": .string(error.explained)])
        }
      }
      try await context.clock.sleep(for: Self.completionBackoff.halfJitter(attempt, using: &generator))
      attempt += 1
    }
  }

  /// Whether Auto Scaling keeps the instance although its hook was abandoned, because of a retention trigger.
  /// - Throws: `AWSError` and the like.
  func isRetained() async throws -> Bool {
    try await autoScaling.membership(ofInstance: instanceID)?.lifecycleState.hasPrefix("Terminating:Retained") == true
  }
}
