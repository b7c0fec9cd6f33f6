/// The steps of a plan by phase, in the order in which they run.
package struct Steps: Sendable, Equatable {
  /// Everything that the agent needs before it starts. A failure ends the run.
  package var prepare: [Step] = []
  /// Starts the agent. A failure ends the run.
  package var start: [Step] = []
  /// Ends with a healthy agent or with a failure of the run.
  package var verify: [Step] = []
  /// What needs a healthy agent. A failure is reported; it never stops the agent.
  package var after: [Step] = []

  package init() {}

  package var all: [Step] { phases.flatMap(\.steps) }

  /// With the name of each phase, for reports.
  package var phases: [(name: String, steps: [Step])] {
    [("prepare", prepare), ("start", start), ("verify", verify), ("after", after)]
  }
}

/// What the sidecar does to an agent that has been set up, a step each.
package struct SidecarSteps: Sendable, Equatable {
  package let configuration: ConfigurationFile
  /// Starts the agent's container if it does not run; nil unless Docker runs the agent.
  package let startContainer: Step?
  /// Restarts the agent; nil where the sidecar does not control it.
  package let restartAgent: Step?

  package init(configuration: ConfigurationFile, startContainer: Step?, restartAgent: Step?) {
    self.configuration = configuration
    self.startContainer = startContainer
    self.restartAgent = restartAgent
  }

  package var writeConfiguration: Step { .writeConfiguration(configuration) }
}
