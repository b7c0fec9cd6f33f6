internal import AWS
internal import Base
internal import Model

/// The termination hook that holds this instance while it leaves: heartbeats, and its completion.
struct TerminationHook: Sendable {
  let name: String
  let group: String
  private let timeouts: HookTimeouts
  private let instanceID: String
  private let client: AWSClient
  private let context: RuntimeContext

  /// Hooks last at least 30 s (Auto Scaling API, PutLifecycleHook).
  private static let shortestTimeout = 30
  /// AWS ends a hook after 48 h, or 100 times its time-out, whichever is shorter.
  private static let heartbeats = 100, longestTime = 172_800
  /// Before the end of all.
  private static let margin = 60
  private static let shortestPause = Duration.seconds(10)
  private static let completionBackoff = Backoff(base: .seconds(1), cap: .seconds(30))

  /// Where AWS does not tell the hook's time-outs, the shortest are assumed.
  init(_ name: String, group: String, instanceID: String, client: AWSClient, context: RuntimeContext) async {
    (self.name, self.group, self.instanceID) = (name, group, instanceID)
    (self.client, self.context) = (client, context)
    var timeouts = HookTimeouts(heartbeat: Self.shortestTimeout, global: nil)
    do {
      if let found = try await AutoScaling(client: client).timeouts(ofHook: name, group: group) {
        timeouts = found
      } else {
        context.log.error(
          "Auto Scaling group \(group) has no lifecycle hook \(name)", ["hint": "correct --termination-hook"])
      }
    } catch {
      context.log.warning(
        "cannot read the time-outs of lifecycle hook \(name); assuming \(Self.shortestTimeout) s",
        ["reason": .string(error.explained)])
    }
    self.timeouts = timeouts
  }

  private var heartbeat: Int { max(timeouts.heartbeat, Self.shortestTimeout) }

  /// So long the instance can be held, less a margin in which to complete the hook.
  var patience: Duration {
    let longest = min(heartbeat.saturatingMultiplied(by: Self.heartbeats), Self.longestTime)
    return .seconds(max(Self.shortestTimeout / 2, (timeouts.global ?? longest) - Self.margin))
  }

  /// Holds the instance until cancelled. Failures are logged once for each reason.
  func keepAlive() async {
    var reported = ReportedReason()
    while !Task.isCancelled {
      do {
        try await AutoScaling(client: client).recordLifecycleActionHeartbeat(
          hook: name, group: group, instanceID: instanceID)
        context.log.debug("recorded a heartbeat of lifecycle hook \(name)")
        _ = reported.isNew(nil)
      } catch {
        if !Task.isCancelled, reported.isNew(error.stableReason) {
          context.log.warning(
            "cannot record a heartbeat of lifecycle hook \(name)", ["reason": .string(error.explained)])
        }
      }
      do { try await context.clock.sleep(for: max(Self.shortestPause, .seconds(heartbeat) / 3)) } catch { return }
    }
  }

  /// Completes the hook, however long AWS refuses: an instance whose hook is not completed is held for nothing.
  /// - Throws: `CancellationError` only.
  func complete(_ result: AutoScaling.LifecycleActionResult) async throws {
    var generator = SystemRandomNumberGenerator(), reported = ReportedReason(), attempt = 0
    while true {
      do {
        try await AutoScaling(client: client).completeLifecycleAction(
          hook: name, group: group, instanceID: instanceID, result)
        context.log.warning("completed lifecycle hook \(name)", ["result": .string(result.rawValue)])
        return
      } catch let error as AWSError where error.isWithoutAction {
        context.log.info("lifecycle hook \(name) does not hold this instance any more")
        return
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
}
