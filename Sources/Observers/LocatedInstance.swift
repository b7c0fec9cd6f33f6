package import AWS
internal import Decisions
package import Model

/// This instance with a client for its region and the Consul that it runs.
package struct LocatedInstance: Sendable {
  package let identity: Identity
  package let client: AWSClient
  package let binary: MachineObserver.Binary
  /// The run's first calls of AWS, while they are under way.
  var early: EarlyGroup?

  /// Path of Consul, or of the Docker client that runs it.
  package var consulPath: String { binary.path }
}
