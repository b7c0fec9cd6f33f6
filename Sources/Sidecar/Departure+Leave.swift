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
    let outcome =
      switch settings.role {
      case .client: try await leaveAsClient(notice)
      case .server:
        try await leave(notice, configuration, own, &progress, isForced: true) ?? .kept(reason: progress.reason)
      }
    // Only now: the sidecar ends the machine once it knows.
    report(notice, outcome, progress.others, isRelease: true)
    return outcome
  }

  /// Whether a person has released this server since its notice came, whatever the others lose by its end.
  func isReleased(_ notice: Notice, _ progress: Progress) -> Bool {
    before?.releasedAt.map { $0 >= notice.since ?? progress.start } ?? false
  }

  /// From the call on nothing is undone.
  /// - Parameter lockedAt: by uptime, when it had the lock; nil without one.
  func leave(
    _ notice: Notice, _ configuration: CurrentConfiguration, _ own: OwnRaftAddresses, _ progress: inout Progress,
    lockedAt: Duration? = nil, isForced: Bool = false
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
    let isRemoved = try await confirm(configuration, own, progress.others, isForced: isForced)
    guard isRemoved else {
      let result = await call.value
      if case .failure(AgentError.refused(let status, let message)) = result {
        throw AgentError.refused(status: status, message: message)
      }
      if isForced, await hasEnded(configuration) {
        // There may be no other that could confirm it.
        if case .failure(AgentError.transport(.refused)) = result {
          return .nothingToLeave(reason: "the agent does not run")
        }
        return .left
      }
      progress.reason = "no other server has confirmed yet that this one has left"
      return nil
    }
    try await leaveGossip(configuration, own)
    // A stop that came now would cut off the requests that the agent still answers, and its end would be a failure.
    if notice.source == .stopping { _ = await call.value }
    return .left
  }

  private func hasEnded(_ configuration: CurrentConfiguration) async -> Bool {
    do {
      _ = try await agent(configuration).leader()
      return false
    } catch {
      return error as? AgentError == .transport(.refused)
    }
  }

  private static func result(_ work: () async throws -> Void) async -> Result<Void, any Error> {
    do {
      try await work()
      return .success(())
    } catch {
      return .failure(error)
    }
  }

  /// Whether another server with a leader reports a raft configuration without this one. By force it is enough that the
  /// agent has ended.
  private func confirm(
    _ configuration: CurrentConfiguration, _ own: OwnRaftAddresses, _ others: Set<IPv4Address>,
    isForced: Bool
  ) async throws -> Bool {
    let end = context.uptime() + Self.leaveTimeout
    repeat {
      try await context.clock.sleep(for: Self.confirmationPause)
      if case .removed = await place(configuration, own, others) { return true }
      if isForced, await hasEnded(configuration) { return false }
    } while context.uptime() < end
    return false
  }
}
