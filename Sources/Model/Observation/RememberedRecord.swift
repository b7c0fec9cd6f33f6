package import Base
package import Consul

/// What this server knows of the cluster's record, in a file of the state directory: so that neither a poll of the
/// sidecar nor a reboot reads the record as long as nothing changes.
package struct RememberedRecord: Sendable, Equatable {
  /// The newest entry when it was last read or written.
  package var entry: RecordEntry?
  /// Why the record is not the one of this server's cluster; nil if it is.
  package var problem: String?

  package init(entry: RecordEntry? = nil, problem: String? = nil) {
    self.entry = entry
    self.problem = problem
  }

  package static let limit = 1 << 14

  package var text: String {
    var members: [String: JSONValue] = [:]
    if let entry {
      members["number"] = .integer(Int64(entry.number))
      members["entry"] = entry.record.json
    }
    members["problem"] = problem.map(JSONValue.string)
    return JSONValue.object(members).prettyText
  }

  /// An entry that is not understood is none: the record is read again.
  /// - Throws: `JSONSyntaxError`
  package init(parsing bytes: [UInt8]) throws {
    let json = try JSONValue(parsing: bytes)
    problem = json["problem"]?.string
    guard let number = json["number"]?.integer.flatMap({ Int(exactly: $0) }), let text = json["entry"]?.compactText,
      (1...RecordEntry.maximumNumber).contains(number)
    else { return }
    do {
      entry = RecordEntry(number: number, record: try ClusterRecord(parsing: text))
    } catch {
      entry = nil
    }
  }

  /// What needs attention, a line each.
  /// - Parameter path: of the file.
  package static func problems(at path: String, _ files: any FileReader) -> [String] {
    do {
      guard let bytes = try files.readIfPresent(path, limit: limit) else { return [] }
      return try RememberedRecord(parsing: bytes).problem.map { ["the cluster's record: \($0)"] } ?? []
    } catch {
      return ["cannot read what the sidecar knows of the cluster's record: \(error.explained)"]
    }
  }
}

extension RecordEntry {
  /// Whether the entry is of another cluster than the key-value store: two clusters may share a record, or one may have
  /// two names.
  /// - Parameter identity: of the key-value store.
  /// - Returns: the failure to report, with status 14; nil if the two have one name, or the entry needs none.
  package func mismatch(_ identity: ClusterIdentity, below path: String) -> Failure? {
    guard [.forming, .formed].contains(record.state), record.cluster != identity.cluster else { return nil }
    return Failure(
      .configurationRejected,
      "\(path)/\(name) is of cluster \(record.cluster), but the cluster names itself \(identity.cluster)",
      details: ["the record names \(record.servers.map(\.text).joined(separator: ", "))"],
      hint:
        "if those are this cluster's servers, create the next entry with the cluster \(identity.cluster); otherwise "
        + "give this cluster a --cluster-record of its own (docs/operations.md)")
  }
}
