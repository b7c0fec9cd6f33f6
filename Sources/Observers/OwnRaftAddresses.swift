package import Base
internal import Consul
package import Model

/// The addresses under which raft may name this server.
package struct OwnRaftAddresses: Sendable, Equatable {
  package private(set) var addresses: Set<IPv4Address>
  /// Of raft, on every server.
  package let port: Int64

  /// serf compacts its snapshot above 128 KB for each thousand members.
  private static let snapshotLimit = 16 << 20

  /// Those of the configuration, those of the instance, and those of the agent's gossip snapshot: under raft protocol 3
  /// a server keeps its vote at a new address, and the leader names the old one until it has joined from the new.
  /// - Parameter identity: nil if the metadata could not be read.
  package init(
    _ configuration: CurrentConfiguration, identity: Identity?, settings: Settings, files: any FileReader
  ) throws(FileError) {
    var found = [configuration.bindAddress, configuration.advertiseAddress, identity?.privateIP].compactMap { $0 }
    found += (identity?.interfaces ?? []).flatMap { $0.privateIPs + $0.publicIPs.keys }
    let snapshot = configuration.dataDirectory(settings) + "/serf/local.snapshot"
    if let name = configuration.document?["node_name"]?.string,
      let bytes = try files.readIfPresent(snapshot, limit: Self.snapshotLimit)
    {
      // `alive: NAME ADDRESS:PORT` for every member, this one included.
      let start = "alive: \(name) "
      for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") where line.hasPrefix(start) {
        let address = line.dropFirst(start.count).split(separator: ":").first
        if let address = address.flatMap({ IPv4Address(String($0)) }) { found.append(address) }
      }
    }
    addresses = Set(found.filter { !$0.isUnspecified && !$0.isLoopback })
    port = configuration.merged.port("server", otherwise: settings.serverPort)
  }

  /// With the address by which raft names this server.
  package func including(_ raftAddress: String) -> Self {
    var all = self
    if let address = IPv4Address(raftAddress: raftAddress) { all.addresses.insert(address) }
    return all
  }

  /// `address:port`, as raft writes them.
  package var names: Set<String> { Set(addresses.map { "\($0):\(port)" }) }
}
