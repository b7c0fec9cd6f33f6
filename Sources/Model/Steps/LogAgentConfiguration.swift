package import Base

/// The configuration of one of AWS's own log agents: the same sources, groups and streams as the built-in forwarding.
package struct LogAgentConfiguration: Sendable, Equatable {
  /// One agent, wherever its distribution installs it.
  package struct Agent: Sendable, Equatable {
    package let name: String
    /// The configuration file.
    package let path: String
    /// Names of its unit by distribution; the first that exists is used.
    package let units: [String]
    /// Reads the configuration and starts the agent; nil if a restart of the unit does.
    package let command: Command?

    package init(name: String, path: String, units: [String], command: Command?) {
      self.name = name
      self.path = path
      self.units = units
      self.command = command
    }
  }

  /// A file or a pattern to forward, with the names filled in.
  package struct File: Sendable, Equatable {
    package let source: String
    package let path: String
    package let group: String
    package let stream: String
    package let retention: Int?
    package let multilineStart: String?

    package init(
      source: String, path: String, group: String, stream: String, retention: Int?, multilineStart: String?
    ) {
      self.source = source
      self.path = path
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
