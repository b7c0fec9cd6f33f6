/// Explains why an agent does not come up; one for each way to run an agent.
package protocol AgentMonitor: Sendable {
  /// Why the agent will not come up; nil while it still may.
  func crashReason() async -> String?
  /// The last lines of the agent's output, oldest first.
  func lastLines() async -> [String]
}
