/// The steps of a plan by phase, in the order in which they run.
package struct Steps: Sendable, Equatable {
  /// What the agent needs before it starts. A failure ends the run.
  package var prepare: [Step] = []
  /// Starts the agent. A failure ends the run.
  package var start: [Step] = []
  /// Verifies that the agent is healthy. A failure ends the run.
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

/// Steps that the sidecar takes for an agent that a run has set up.
package struct SidecarSteps: Sendable, Equatable {
  package let configuration: ConfigurationFile
  /// Starts the agent's container unless it runs already; nil unless Docker runs the agent.
  package let startContainer: Step?
  /// Restarts the agent; nil if the sidecar does not control it.
  package let restartAgent: Step?
  /// Restarts an agent that waits for its first bootstrap.
  package let restartEmptyAgent: Step
  /// Remembers the entry of the cluster's record by which this server founds; nil if it does not, or has no record.
  package let rememberRecord: Step?

  package init(
    configuration: ConfigurationFile, startContainer: Step?, restartAgent: Step?, restartEmptyAgent: Step,
    rememberRecord: Step?
  ) {
    self.configuration = configuration
    self.startContainer = startContainer
    self.restartAgent = restartAgent
    self.restartEmptyAgent = restartEmptyAgent
    self.rememberRecord = rememberRecord
  }

  package var writeConfiguration: Step { .writeConfiguration(configuration) }
}
