internal import Base
internal import Consul
internal import Model
internal import Observers

/// The leave itself.
extension Departure {
  /// Without the lock, and whatever the others lose by it.
  /// - Throws: `AgentError`, `FileError` or `CancellationError`.
  package func force() async throws -> Outcome {
    let configuration = configuration
    let own = try OwnRaftAddresses(configuration, identity: nil, settings: settings, files: context.files)
    var progress = Progress(start: context.uptime())
    progress.others = knownOthers()
    progress.reason = "by force"
    let notice = Notice(.manual, deadline: nil)
    let outcome: Outcome
    if settings.role == .client {
      outcome = try await leaveAsClient(notice)
    } else {
      outcome = try await leave(notice, configuration, own, &progress) ?? .kept(reason: progress.reason)
    }
    report(notice, outcome)
    return outcome
  }

  /// From the call on nothing is undone.
  /// - Parameter lockedAt: by uptime, when it had the lock; nil without one.
  func leave(
    _ notice: Notice, _ configuration: CurrentConfiguration, _ own: OwnRaftAddresses, _ progress: inout Progress,
    lockedAt: Duration? = nil
  ) async throws -> Outcome? {
    report(notice, .leaving, &progress)
    if let lockedAt, context.uptime() - lockedAt > Self.lookTimeout {
      progress.reason = "what this server saw of the others is too old: looking again"
      return nil
    }
    context.log.warning("this server leaves", ["reason": .string(progress.reason)])
    let client = agent(configuration, timeout: Self.leaveTimeout)
    // The agent ends some ten seconds after its removal; it answers the call before, or not at all.
    let call = Task { await Self.result { try await client.leave() } }
    let isRemoved = try await confirm(configuration, own, progress.others)
    guard isRemoved else {
      if case .failure(AgentError.refused(let status, let message)) = await call.value {
        throw AgentError.refused(status: status, message: message)
      }
      progress.reason = "no other server has confirmed yet that this one has left"
      return nil
    }
    try await leaveGossip(configuration, own)
    return .left
  }

  private static func result(_ work: () async throws -> Void) async -> Result<Void, any Error> {
    do {
      try await work()
      return .success(())
    } catch {
      return .failure(error)
    }
  }

  /// Whether another server with a leader reports a raft configuration without this one.
  private func confirm(
    _ configuration: CurrentConfiguration, _ own: OwnRaftAddresses, _ others: Set<IPv4Address>
  ) async throws -> Bool {
    let end = context.uptime() + Self.leaveTimeout
    repeat {
      try await context.clock.sleep(for: Self.confirmationPause)
      if case .removed = await place(configuration, own, others) { return true }
    } while context.uptime() < end
    return false
  }
}
