package import Base
package import Consul

/// The bytes of a Consul server's answers to `Status.Leader`, `Status.Peers` and `Status.RaftStats`.
package enum RaftPortAnswer {
  package static func status(_ status: ClusterStatus) -> [UInt8] {
    let last = status.lastLog ?? LogPosition(term: 0, index: 0)
    return values([
      .text(status.leader ?? ""), .array(status.peers.map { .text($0) }),
      .map(["LastContact": .text("0s"), "LastTerm": .unsigned(last.term), "LastIndex": .unsigned(last.index)]),
    ])
  }

  /// To `KVS.Get`.
  /// - Parameters:
  ///   - value: nil if there is no such key.
  ///   - token: that the call needs; nil without ACLs.
  package static func key(_ value: JSONValue?, token: String?, _ call: [UInt8]) throws -> [UInt8] {
    var rest = call.dropFirst()
    _ = try MessagePackValue(decoding: &rest)
    let request = try MessagePackValue(decoding: &rest).map
    guard token == nil || request?["Token"]?.text == token else { return error("Permission denied") }
    guard case .bytes(let key)? = request?["Key"] else { return error("missing key") }
    // Go writes an empty list as nil.
    let entries: MessagePackValue =
      value.map { .array([.map(["Key": .bytes(key), "Value": .text($0.compactText), "Flags": .unsigned(0)])]) } ?? .null
    return values([.map(["Entries": entries, "Index": .unsigned(7), "KnownLeader": .bool(true)])])
  }

  /// Results in the order of the calls.
  package static func values(_ results: [MessagePackValue]) -> [UInt8] {
    results.enumerated().flatMap { index, result in header(index + 1).encoded + result.encoded }
  }

  /// The server refuses the first call.
  package static func error(_ words: String) -> [UInt8] {
    header(1, error: words).encoded + MessagePackValue.map([:]).encoded
  }

  private static func header(_ number: Int, error: String = "") -> MessagePackValue {
    .map(["Error": .text(error), "Seq": .unsigned(UInt64(number)), "ServiceMethod": .text("")])
  }
}
