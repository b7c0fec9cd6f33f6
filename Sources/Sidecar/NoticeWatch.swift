internal import AWS
internal import Base
internal import Model
package import Observers

/// Watches the metadata for word that this machine is to go. A service that does not answer says nothing.
extension Sidecar {
  /// What a look leaves for the next.
  struct NoticeState {
    /// Readings in a row of a target state that says that the instance terminates.
    var readings = 0
    var looks = 0
    /// IDs of the notices that have been logged, and of those for which leadership has been handed over.
    var logged: Set<String> = []
    var handedOver: Set<String> = []
    /// The target lifecycle state as last read.
    var target: String?
  }

  /// A group terminates this instance, or EC2 takes it back, or both.
  struct TerminationNotice: Sendable {
    /// Nil where only the metadata says that the group terminates it.
    var membership: AutoScaling.Membership?
    var spot: SpotInterruption?
  }

  static let noticePause = Duration.seconds(5)
  /// Auto Scaling ends an instance seconds after its launch hook.
  private static let longestNotice = Duration.seconds(120)
  private static let purpose = "watch for the termination of this instance"
  private static let noticesPurpose = "read the scheduled events of this instance"
  private static let confirmationTimeout = Duration.seconds(4)
  /// Enough where AWS does not answer.
  private static let sufficientReadings = 2
  /// Once a minute.
  private static let looksPerMinute = 12

  /// Until cancelled. Once it has departed, other options begin it again.
  func watchNotices(at instance: LocatedInstance) async {
    var state = NoticeState(), pollState = PollState(), concluded: Settings?
    while !Task.isCancelled {
      let settings = settings
      if concluded != settings {
        await attempt(Self.purpose, &pollState) { _ in
          guard let notice = try await notice(at: instance, &state) else { return }
          // A reload cancels it, and the end of a supervised agent.
          do { try await departOnce(notice, instance) } catch is CancellationError {}
          concluded = settings
        }
        if state.looks % Self.looksPerMinute == 0, concluded != settings {
          await attempt(Self.noticesPurpose, &pollState) { _ in try await readNotices(&state) }
        }
        state.looks += 1
      }
      do { try await context.clock.sleep(for: Self.noticePause) } catch { return }
    }
  }

  /// A boot has failed, and its launch hook is abandoned, or runs out: the group ends this instance, and the
  /// termination hook would hold it to its time-out, as nothing else runs here that could complete it.
  /// - Parameter time: of the launch hook, without heartbeats.
  package func endFailedBoot(at instance: LocatedInstance, heldFor time: Duration) async {
    guard let hook = settings.terminationHook else { return }
    context.log.warning("this boot has failed; completing lifecycle hook \(hook) once Auto Scaling ends this instance")
    do {
      let notice = try await context.within(time + Self.longestNotice) { try await self.awaitNotice(at: instance) }
      guard let notice else {
        return context.log.warning("lifecycle hook \(hook) is left to its time-out: no word of a termination comes")
      }
      try await departOnce(notice, instance)
    } catch {
      context.log.info("the departure was interrupted", ["reason": .string(error.explained)])
    }
  }

  private func awaitNotice(at instance: LocatedInstance) async throws -> TerminationNotice {
    var state = NoticeState(), reported = ReportedReason()
    while true {
      do {
        if let notice = try await notice(at: instance, &state) { return notice }
      } catch let error as CancellationError {
        throw error
      } catch {
        if reported.isNew(error.stableReason) {
          context.log.info("cannot \(Self.purpose) yet; retrying", ["reason": .string(error.explained)])
        }
      }
      try await context.clock.sleep(for: Self.noticePause)
    }
  }

  private func notice(at instance: LocatedInstance, _ state: inout NoticeState) async throws -> TerminationNotice? {
    let metadata = planner.metadata
    // A document that cannot be read does not hide the other, and is no word that the instance stays.
    var target: String?, spot: SpotInterruption?, failure: (any Error)?
    do {
      target = try await metadata.targetLifecycleState()
      if let target, !Self.isState(target) {
        throw MetadataError.malformed(
          "target lifecycle state", path: "autoscaling/target-lifecycle-state", reason: "it is the name of no state")
      }
      state.target = target
      state.readings = target == "Terminated" ? state.readings + 1 : 0
    } catch {
      failure = error
    }
    do { spot = try await metadata.spotInterruption() } catch { failure = error }
    if target == "Terminated", let membership = try await confirm(instance, state.readings) {
      return TerminationNotice(membership: membership.found, spot: spot)
    }
    if let spot { return TerminationNotice(membership: nil, spot: spot) }
    if let failure { throw failure }
    return nil
  }

  /// For example `InService` or `Warmed:Stopped`.
  private static func isState(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.count <= 64 && text.allSatisfy { $0.isASCII && ($0.isLetter || $0 == ":") }
  }

  /// - Returns: nil if this is no termination, or not yet known to be one.
  private func confirm(
    _ instance: LocatedInstance, _ readings: Int
  ) async throws -> (found: AutoScaling.Membership?, Void)? {
    let client = instance.client, id = instance.identity.instanceID
    do {
      let membership =
        try await context.within(Self.confirmationTimeout) {
          try await AutoScaling(client: client).membership(ofInstance: id)
        } ?? nil
      if let membership {
        if membership.lifecycleState.hasPrefix("Terminating") { return (membership, ()) }
        context.log.progress(
          "the metadata says that this instance terminates, Auto Scaling that it is \(membership.lifecycleState)")
        return nil
      }
    } catch let error as CancellationError {
      throw error
    } catch {
      context.log.info("cannot confirm the termination of this instance", ["reason": .string(error.explained)])
    }
    return readings >= Self.sufficientReadings ? (nil, ()) : nil
  }
}
