package import AWS
internal import Decisions
package import Model

/// This instance with a client for its region and the Consul that it runs.
package struct LocatedInstance: Sendable {
  package let identity: Identity
  package let client: AWSClient
  package let binary: MachineObserver.Binary

  /// Path of Consul, or of the Docker client that runs it.
  package var consulPath: String { binary.path }
}
