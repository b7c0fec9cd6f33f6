package import Base

/// One entry of a cluster's record outside the cluster: that it is being formed, exists, or is given up.
///
/// The entries of a record are parameters that are created once and never changed; the one with the highest number is
/// the state. So a server whose peers all look empty can tell a first boot from the loss of a whole cluster.
package struct ClusterRecord: Sendable, Equatable {
  package enum State: String, Sendable, CaseIterable {
    /// The servers named bootstrap together.
    case forming
    /// The cluster exists: no server bootstraps again.
    case formed
    /// The cluster is given up: the next boot forms a new one.
    case closed
    /// A survivor recovers the quorum, or the cluster's data is restored: the others wait.
    case recovering, restoring
  }

  package struct Server: Sendable, Equatable {
    /// Nil for a server that is no known instance of EC2.
    package let instance: String?
    package let address: IPv4Address
    /// Consul's node ID, which a server keeps under another address; nil before its agent has started.
    package let node: String?

    package init(instance: String?, address: IPv4Address, node: String? = nil) {
      self.instance = instance
      self.address = address
      self.node = node
    }

    package var text: String { instance ?? address.description }
  }

  package let state: State
  /// A UUID that the cluster keeps for its life; empty only in a closed entry, which an operator may write by hand.
  package let cluster: String
  /// Counts the lives of the cluster, from 1.
  package let epoch: Int64
  /// Instance that wrote the entry.
  package let by: String?
  package let at: Timestamp?
  package let datacenter: String?
  package let servers: [Server]
  /// Raft index at the time of the entry.
  package let index: Int64?
  /// For people.
  package let why: String?

  package init(
    _ state: State, cluster: String, epoch: Int64, by: String?, at: Timestamp?, datacenter: String?,
    servers: [Server], index: Int64? = nil, why: String? = nil
  ) {
    self.state = state
    self.cluster = cluster
    self.epoch = epoch
    self.by = by
    self.at = at
    self.datacenter = datacenter
    self.servers = servers
    self.index = index
    self.why = why
  }

  /// The entry that follows once the cluster exists.
  /// - Parameter servers: nil for the same.
  package func formed(by instance: String, at time: Timestamp, servers: [Server]? = nil) -> ClusterRecord {
    ClusterRecord(
      .formed, cluster: cluster, epoch: epoch, by: instance, at: time, datacenter: datacenter,
      servers: servers ?? self.servers)
  }

  package func names(_ instance: String) -> Bool { servers.contains { $0.instance == instance } }
}

/// As a parameter's value.
extension ClusterRecord {
  /// A parameter of the standard tier holds 4 KB (Systems Manager User Guide, "Managing parameter tiers").
  package static let maximumBytes = 4096

  /// On one line.
  /// - Throws: `Failure` with status 14 for more servers than fit.
  package func text() throws(Failure) -> String {
    let text = json.compactText
    guard text.utf8.count <= Self.maximumBytes else {
      throw Failure(
        .configurationRejected, "the cluster record cannot hold \(servers.count) servers",
        details: ["it would have \(text.utf8.count) bytes; a parameter holds \(Self.maximumBytes)"],
        hint: "use fewer servers (Consul recommends 3 or 5), or omit --cluster-record")
    }
    return text
  }

  package var json: JSONValue {
    var members: [String: JSONValue] = ["state": .string(state.rawValue)]
    if !cluster.isEmpty { members["cluster"] = .string(cluster) }
    if epoch > 0 { members["epoch"] = .integer(epoch) }
    members["by"] = by.map(JSONValue.string)
    members["at"] = at.map { .string($0.iso8601) }
    members["datacenter"] = datacenter.map(JSONValue.string)
    if !servers.isEmpty {
      members["servers"] = .array(
        servers.map { server in
          var members: [String: JSONValue] = ["address": .string(server.address.description)]
          members["instance"] = server.instance.map(JSONValue.string)
          members["node_id"] = server.node.map(JSONValue.string)
          return .object(members)
        })
    }
    members["index"] = index.map(JSONValue.integer)
    members["why"] = why.map(JSONValue.string)
    return .object(members)
  }

  /// An entry that is not understood.
  package struct Malformed: ExplainedError, Equatable {
    package let explanation: String
  }

  /// Reads an entry. Unknown members are skipped; an unknown state is an error, for it may forbid a new cluster.
  package init(parsing text: String) throws(Malformed) {
    guard text.utf8.count <= Self.maximumBytes else {
      throw Malformed(explanation: "it has more than \(Self.maximumBytes) bytes")
    }
    let json: JSONValue
    do { json = try JSONValue(parsing: text) } catch { throw Malformed(explanation: "it is not JSON") }
    guard let word = try Self.text("state", json) else { throw Malformed(explanation: "it has no state") }
    guard let state = State(rawValue: word) else { throw Malformed(explanation: "its state \(word) is not known") }
    self.init(
      state, cluster: try Self.text("cluster", json) ?? "", epoch: try Self.number("epoch", json) ?? 0,
      by: try Self.text("by", json), at: try Self.time(json), datacenter: try Self.text("datacenter", json),
      servers: try Self.servers(json), index: try Self.number("index", json), why: try Self.text("why", json))
    guard state != .closed else { return }
    guard !cluster.isEmpty, epoch > 0 else { throw Malformed(explanation: "it has no cluster or no epoch") }
    guard at != nil, by != nil else {
      throw Malformed(explanation: "it does not say by which instance it is, and when")
    }
    guard !servers.isEmpty else { throw Malformed(explanation: "it names no servers") }
  }

  /// Nil for a member that is missing. Messages and logs quote these texts: control characters are an error.
  private static func text(_ key: String, _ json: JSONValue) throws(Malformed) -> String? {
    guard let member = json[key] else { return nil }
    guard let text = member.string, !text.isEmpty,
      text.unicodeScalars.allSatisfy({ $0.value >= 0x20 && !(0x7f...0x9f).contains($0.value) })
    else { throw Malformed(explanation: "its \(key) is not plain text") }
    return text
  }

  private static func number(_ key: String, _ json: JSONValue) throws(Malformed) -> Int64? {
    guard let member = json[key] else { return nil }
    guard let number = member.integer, number >= 0 else {
      throw Malformed(explanation: "its \(key) is not a number from 0")
    }
    return number
  }

  private static func time(_ json: JSONValue) throws(Malformed) -> Timestamp? {
    guard let text = try text("at", json) else { return nil }
    guard let time = Timestamp(iso8601: text) else { throw Malformed(explanation: "its at is not a time in ISO 8601") }
    return time
  }

  private static func servers(_ json: JSONValue) throws(Malformed) -> [Server] {
    guard let member = json["servers"] else { return [] }
    guard let list = member.array else { throw Malformed(explanation: "its servers are not a list") }
    return try list.map { server throws(Malformed) in
      guard let address = try text("address", server).flatMap({ IPv4Address($0) }) else {
        throw Malformed(explanation: "a server of it has no IPv4 address")
      }
      return Server(instance: try text("instance", server), address: address, node: try text("node_id", server))
    }
  }
}
