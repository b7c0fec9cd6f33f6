package import Base
package import Consul
package import Model

extension FileReader {
  /// This server's copy of its cluster's identity; nil if there is none, or if it is damaged: the sidecar writes it
  /// again from the cluster's own.
  /// - Throws: `FileError`.
  package func clusterIdentity(_ settings: Settings) throws(FileError) -> ClusterIdentity? {
    guard let bytes = try readIfPresent(settings.clusterIdentityPath) else { return nil }
    do {
      return ClusterIdentity(json: try JSONValue(parsing: bytes))
    } catch {
      return nil
    }
  }
}
