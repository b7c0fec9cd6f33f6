internal import Base
internal import Consul
internal import Decisions
internal import Execution
internal import Model
internal import Observers

/// Joins a client again after all its servers have been replaced.
extension Sidecar {
  /// An agent whose every known server is gone does not discover others (consul#5516).
  func rejoinServers(_ instance: LocatedInstance, _ pollState: inout PollState) async throws {
    guard let members = try await members(wan: false, &pollState) else { return }
    if members.contains(where: { $0.isServer && $0.isAlive }) {
      _ = pollState.isNew(nil, for: Self.search)
    } else {
      try await joinServers(instance, &pollState)
    }
    guard pollState.hasJoinedServers else { return }
    // So that a restarted agent finds them, too.
    let steps = try await planner.plan(at: instance, .stay).sidecarSteps
    try await StepExecutor(context: context).perform(steps.writeConfiguration)
    pollState.hasJoinedServers = false
  }

  private static let search = "find a living server"

  private func joinServers(_ instance: LocatedInstance, _ pollState: inout PollState) async throws {
    let servers = try await planner.readiness(at: instance).members.map(\.address)
    let list = servers.map(\.description)
    if pollState.isNew(list.joined(separator: " "), for: Self.search) {
      context.log.warning("the agent knows no living server; joining it again", ["servers": .strings(list)])
    }
    var joined = 0
    for address in servers {
      let purpose = "join \(address)"
      do {
        try await agent(timeout: Self.joinTimeout).join(address, wan: false)
        joined += 1
        _ = pollState.isNew(nil, for: purpose)
      } catch let error as AgentError {
        guard pollState.isNew(error.explanation, for: purpose) else { continue }
        context.log.warning("cannot \(purpose)", ["reason": .string(error.explanation)])
      }
    }
    guard joined > 0 else { return }
    context.log.info("joined the servers again", ["count": .integer(Int64(joined))])
    pollState.hasJoinedServers = true
  }
}
