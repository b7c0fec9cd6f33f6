internal import Base
package import Consul
internal import Model

/// The releases that the servers of a cluster run beside each other.
extension NodeStatus.Agent {
  /// Of each alive server that gossip reports one of, by name.
  package var serverVersions: [(name: String, version: ConsulVersion)] {
    (aliveServers ?? []).compactMap { server in server.version.map { (server.name, $0) } }.sorted { $0.name < $1.name }
  }

  /// `1.8.7: a, b; 1.9.0: c`.
  package var versionText: String {
    Dictionary(grouping: serverVersions, by: \.version).sorted { $0.key < $1.key }
      .map { version, servers in "\(version): \(servers.map(\.name).joined(separator: ", "))" }.joined(separator: "; ")
  }

  /// A server reads the log that another release has written: Consul promises that for adjacent releases only
  /// ("Upgrading Consul"). Nil if the releases are adjacent.
  var versionNote: String? {
    let versions = serverVersions.map(\.version)
    guard let oldest = versions.min(), let newest = versions.max() else { return nil }
    guard oldest.major != newest.major || newest.minor - oldest.minor > 1 else { return nil }
    return "the servers run releases of Consul that are more than one minor release apart (\(versionText)): "
      + "upgrade by one minor release at a time"
  }

  /// The release of the agent that runs on this server; nil if it is not known.
  private var runningVersion: ConsulVersion? {
    guard let own = running.value?.raftAddress else { return nil }
    let host = own[..<(own.lastIndex(of: ":") ?? own.endIndex)]
    return aliveServers?.first { $0.address.map { "\($0)" == host } ?? false }?.version
  }

  /// Why a restart would go back to an older release; nil if it would not.
  func downgradeNote(installed: ConsulVersion) -> String? {
    guard let running = runningVersion, installed < running else { return nil }
    return "the agent runs Consul \(running), and \(installed) is installed: a restart would go backwards, and an "
      + "older release may not read the raft data of a newer one"
  }
}
