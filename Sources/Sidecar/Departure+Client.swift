internal import Base
internal import Consul
internal import Model
internal import Observers

/// A client loses nothing by leaving, and the others lose nothing by it.
extension Departure {
  private static let maintenanceReason = "terminating"

  /// Services leave DNS and health queries at once; the agent leaves after `--drain`.
  func leaveAsClient(_ notice: Notice) async throws -> Outcome {
    let configuration = configuration
    do {
      // The agent keeps its maintenance mode over a restart: only one that does not come back gets it.
      if [.termination, .spot].contains(notice.source) { try await drain(configuration, notice) }
      try await agent(configuration, timeout: Self.leaveTimeout).leave()
      return .left
    } catch AgentError.transport(let error) {
      return .nothingToLeave(reason: "the agent does not answer: \(error.explanation)")
    } catch let error as CancellationError {
      throw error
    } catch {
      return .kept(reason: error.explained)
    }
  }

  func drain(_ configuration: CurrentConfiguration, _ notice: Notice) async throws {
    do {
      try await agent(configuration).startMaintenance(reason: Self.maintenanceReason)
    } catch let error as AgentError {
      context.log.warning(
        "cannot take the services out of DNS; leaving at once", ["reason": .string(error.explanation)])
      return
    }
    let left = notice.deadline.map { max(.zero, $0 - context.uptime()) }
    let drain = min(settings.drain, left ?? settings.drain)
    guard drain > .zero else { return }
    context.log.info("draining", ["for": .string(drain.humanReadable)])
    try await context.clock.sleep(for: drain)
  }
}
