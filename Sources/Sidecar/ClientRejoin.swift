internal import Decisions
internal import AWS
internal import Base
internal import Consul
internal import Execution
internal import Model
internal import Observers

/// Joins a client again after all its servers have been replaced.
extension Sidecar {
  /// An agent whose every known server is gone does not look for others (consul#5516).
  func rejoinServers(_ instance: LocatedInstance) async throws {
    let hasServer = try await agent().members(wan: false).contains { $0.isServer && $0.isAlive }
    guard !hasServer else { return }
    let servers = try await planner.readiness(at: instance).members.map(\.address)
    context.log.warning(
      "the agent knows no living server; joining it again", ["servers": .strings(servers.map(\.description))])
    var joined = 0
    for address in servers {
      do {
        try await agent(timeout: Self.joinTimeout).join(address, wan: false)
        joined += 1
      } catch let error as AgentError {
        context.log.warning("cannot join \(address)", ["reason": .string(error.explanation)])
      }
    }
    guard joined > 0 else { return }
    context.log.info("joined the servers again", ["count": .integer(Int64(joined))])
    // So that an agent that is restarted finds them, too.
    let steps = try await planner.plan(at: instance, .stay).sidecarSteps
    try await StepExecutor(context: context).perform(steps.writeConfiguration)
  }
}
