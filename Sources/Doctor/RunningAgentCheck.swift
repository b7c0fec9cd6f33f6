internal import Base
internal import Consul
internal import Model

/// Compares the agent that runs on this machine with the configuration on disk.
struct RunningAgentCheck {
  let configuration: CurrentConfiguration
  let client: AgentClient

  /// A line for each value that the agent does not use. Empty if it uses them all, if there is no configuration of ours
  /// to compare with, or if the agent does not report what it uses: others report why an agent does not answer.
  ///
  /// `bootstrap_expect` is left out: a run removes it from the file once the server has data.
  func differences() async -> [String] {
    guard configuration.document != nil else { return [] }
    let agent: RunningAgent
    do { agent = try await client.runningAgent() } catch { return [] }
    return ExpectedAgent(configuration.merged, bootstrapExpect: nil).differences(from: agent).map(\.description)
  }

  static let hint = "restart the agent, and check the options of its command line"
}
