package import Base

/// The configuration of one of AWS's log agents: the same sources, groups and streams as the built-in forwarding.
package struct LogAgentConfiguration: Sendable, Equatable {
  /// The agent that reads the configuration.
  package struct Agent: Sendable, Equatable {
    package let name: String
    /// Path of the configuration file.
    package let path: String
    /// Names of the agent's unit in different distributions; the first that exists is used.
    package let units: [String]
    /// Applies the configuration and starts the agent; nil if a restart of the unit does.
    package let command: Command?

    package init(name: String, path: String, units: [String], command: Command?) {
      self.name = name
      self.path = path
      self.units = units
      self.command = command
    }
  }

  /// A file or pattern to forward, with its expanded names.
  package struct File: Sendable, Equatable {
    package let source: String
    package let pattern: FilePattern
    package let group: String
    package let stream: String
    package let retention: Int?
    package let multilineStart: String?

    package init(
      source: String, pattern: FilePattern, group: String, stream: String, retention: Int?, multilineStart: String?
    ) {
      self.source = source
      self.pattern = pattern
      self.group = group
      self.stream = stream
      self.retention = retention
      self.multilineStart = multilineStart
    }
  }

  package let agent: Agent
  package let files: [File]
  package let text: String

  package init(agent: Agent, files: [File], text: String) {
    self.agent = agent
    self.files = files
    self.text = text
  }
}
