internal import AWS
internal import Base
internal import Model

/// How long an error may still be "not yet", in the first minutes of an instance's life.
enum Patience: Sendable {
  /// Metadata, credentials and permissions of a new instance, role or policy are there after some seconds, or never.
  case firstMinutes
  /// What other machines or AWS bring about: as long as a run waits for its group.
  case wholeWait

  /// In all at most 90 s, with the last call's own attempts.
  private static let firstMinutesLimit = Duration.seconds(85)

  fileprivate func limit(_ settings: Settings) -> Duration {
    switch self {
    case .firstMinutes: min(Self.firstMinutesLimit, settings.waitTimeout)
    case .wholeWait: settings.waitTimeout
    }
  }

  /// Nil for an error that no wait removes.
  init?(_ error: any Error) {
    switch error {
    case let error as MetadataError:
      switch error {
      case .noAnswer, .missing: self = .firstMinutes
      case .noToken(_, let status) where Self.mayPass(status): self = .firstMinutes
      case .refused(_, _, let status) where Self.mayPass(status): self = .firstMinutes
      case .disabled, .noTokenAnswer, .noToken, .refused, .malformed, .noIPv4Address: return nil
      }
    case let error as CredentialError:
      switch error {
      case .noneFound, .noRole, .roleDocument, .containerEndpoint, .containerDocument: self = .firstMinutes
      case .incompleteEnvironment, .unsupportedProfile, .noProfile, .unreadableConfiguration,
        .untrustedContainerEndpoint, .unreadableContainerToken:
        return nil
      }
    case let error as AWSError:
      if error.isRetryable { self = .wholeWait } else if error.mayBeNew { self = .firstMinutes } else { return nil }
    case let error as SecretError: self = error.patience
    default: return nil
    }
  }

  private static func mayPass(_ status: Int) -> Bool { status == 429 || status >= 500 }
}

/// Repeats a call of a first boot while its error may be "not yet".
struct PatientCall: Sendable {
  let settings: Settings
  let context: RuntimeContext
  /// False calls once: a dry run and the sidecar do.
  let waits: Bool
  /// A server that rejoins waits for AWS only while it does not answer: it has all that it needs on its disk.
  var isRejoin = false
  /// Of all calls; nil: as long as a run waits for its group.
  var limit: Duration?

  private static let backoff = Backoff(base: .seconds(1), cap: .seconds(5))

  /// - Parameter purpose: what the call is for, to follow `cannot`.
  /// - Throws: the error of the last call.
  func callAsFunction<Result>(_ purpose: String, _ body: () async throws -> Result) async throws -> Result {
    let start = context.uptime()
    var generator = SystemRandomNumberGenerator(), reported = ReportedReason(), attempt = 0
    while true {
      do { return try await body() } catch {
        let elapsed = context.uptime() - start
        guard waits, let limit = limit(for: error), elapsed < limit else { throw error }
        if reported.isNew(error.stableReason) {
          context.log.warning("cannot \(purpose) yet; retrying", ["reason": .string(error.explained)])
        } else {
          context.log.progress(
            "cannot \(purpose) yet: \(error.explained)", ["elapsed": .string(elapsed.humanReadable)])
        }
        let pause = Self.backoff.halfJitter(attempt, using: &generator)
        attempt += 1
        try await context.clock.sleep(for: min(pause, limit - elapsed))
      }
    }
  }

  private func limit(for error: any Error) -> Duration? {
    if isRejoin, (error as? AWSError)?.isRetryable != true { return nil }
    guard let patience = Patience(error) else { return nil }
    return min(patience.limit(settings), limit ?? settings.waitTimeout)
  }
}
