/// What runs the agent, as the source of reasons when it does not come up.
package protocol AgentMonitor: Sendable {
  /// Why the agent will not come up; nil while it may.
  func crashReason() async -> String?
  /// The last lines of the agent's output, oldest first.
  func lastLines() async -> [String]
}
