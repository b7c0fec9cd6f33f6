package import Base

/// A container that this program runs.
package struct DockerContainer: Sendable, Equatable {
  package let name: String
  package let image: String
  /// Path of the Docker client.
  package let docker: String
  package let run: Command
  /// Value of the label: the whole command, so that a changed command replaces the container.
  package let fingerprint: String

  /// Label of the containers that this program created.
  package static let label = "consul-bootstrap"
  package static let agentName = "consul"
  package static let registratorName = "registrator"

  package init(name: String, image: String, docker: String, run: Command, fingerprint: String) {
    self.name = name
    self.image = image
    self.docker = docker
    self.run = run
    self.fingerprint = fingerprint
  }
}
