package import Base

/// The systemd unit that runs the agent.
package struct SystemdUnit: Sendable, Equatable {
  package static let name = "consul.service"
  package static let path = "/etc/systemd/system/consul.service"
  /// First line of every file that this program writes for systemd and resolvers. A file without it is another
  /// program's.
  package static let header = "# Written by consul-bootstrap"

  package let text: String

  package init(text: String) { self.text = text }
}

/// The systemd unit of the sidecar.
package struct SidecarUnit: Sendable, Equatable {
  package static let name = "consul-bootstrap.service"
  package static let path = "/etc/systemd/system/consul-bootstrap.service"

  package let text: String
  package let optionsPath: String
  /// The options of this run as a configuration file, which the sidecar reads at each start.
  package let options: String

  package init(text: String, optionsPath: String, options: String) {
    self.text = text
    self.optionsPath = optionsPath
    self.options = options
  }
}

extension Command {
  package static func systemctl(_ arguments: String...) -> Command { Command("/bin/systemctl", arguments) }
}
