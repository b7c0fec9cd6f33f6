package import Base

/// The checkpoint of every source, in one file that is replaced as a whole after each acknowledgement.
package actor CheckpointStore {
  private let path: String
  private let files: any FileStore
  private var checkpoints: [String: Checkpoint]

  /// A file that is unreadable or malformed counts as none: everything is sent again rather than lost.
  package init(path: String, files: any FileStore, log: Logger) {
    self.path = path
    self.files = files
    do {
      let value = try files.readIfPresent(path, limit: 16 << 20).map { try JSONValue(parsing: $0) } ?? [:]
      checkpoints = Self.checkpoints(in: value)
      let malformed = (value.object?.count ?? 1) - checkpoints.count
      if malformed > 0 {
        log.warning(
          "checkpoints in \(path) are malformed; their logs are sent from the beginning",
          ["count": .integer(Int64(malformed))])
      }
    } catch {
      log.warning(
        "cannot read the checkpoints in \(path); every log is sent from its beginning",
        ["reason": .string(error.explained)])
      checkpoints = [:]
    }
  }

  package func checkpoint(of source: String) -> Checkpoint? { checkpoints[source] }

  /// Throws `FileError`.
  package func save(_ checkpoint: Checkpoint, of source: String) throws {
    checkpoints[source] = checkpoint
    try write()
  }

  /// Forgets a source that no longer exists. Throws `FileError`.
  func remove(_ source: String) throws {
    checkpoints[source] = nil
    try write()
  }

  private func write() throws {
    try files.write(path, Array(Self.json(checkpoints).prettyText.utf8), mode: 0o600, owner: nil)
  }

  package static func json(_ checkpoints: [String: Checkpoint]) -> JSONValue {
    .object(
      checkpoints.mapValues { checkpoint in
        switch checkpoint {
        case .cursor(let text): ["cursor": .string(text)]
        case .spool(let position): ["segment": .integer(position.segment), "offset": .integer(position.offset)]
        case .file(let position):
          [
            // Unsigned numbers of 64 bits are strings: JSON's numbers are not that long everywhere.
            "device": .string(String(position.identity.device)), "inode": .string(String(position.identity.inode)),
            "offset": .integer(position.offset), "time": .integer(position.time),
            "fingerprint": .string(String(position.fingerprint)),
          ]
        }
      })
  }

  /// Malformed entries are ignored. Throws `JSONSyntaxError`.
  package static func parse(_ bytes: [UInt8]) throws -> [String: Checkpoint] {
    checkpoints(in: try JSONValue(parsing: bytes))
  }

  private static func checkpoints(in value: JSONValue) -> [String: Checkpoint] {
    (value.object ?? [:]).compactMapValues { value in
      if let cursor = value["cursor"]?.string { return .cursor(cursor) }
      if let segment = value["segment"]?.integer, let offset = value["offset"]?.integer, segment >= 0, offset >= 0 {
        return .spool(SpoolPosition(segment: segment, offset: offset))
      }
      let number = { (key: String) in value[key]?.string.flatMap { UInt64($0) } }
      guard let device = number("device"), let inode = number("inode"), let fingerprint = number("fingerprint"),
        let offset = value["offset"]?.integer, offset >= 0, let time = value["time"]?.integer
      else { return nil }
      return .file(
        FilePosition(
          identity: FileIdentity(device: device, inode: inode), offset: offset, time: time, fingerprint: fingerprint))
    }
  }
}
