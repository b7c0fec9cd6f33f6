package import Base

/// How far every source has been accepted: one file, written whole after each acceptance.
package actor CheckpointStore {
  private let path: String
  private let files: any FileStore
  private var marks: [String: Checkpoint]

  /// A file that cannot be read, or makes no sense, is the same as none: everything is sent again rather than lost.
  package init(path: String, files: any FileStore, log: Logger) {
    self.path = path
    self.files = files
    do {
      marks = try files.readIfPresent(path, limit: 16 << 20).map { try Self.parse($0) } ?? [:]
    } catch {
      log.warning(
        "the checkpoints at \(path) cannot be read; every log is sent from its beginning",
        ["reason": .string("\(error)")])
      marks = [:]
    }
  }

  package func mark(of source: String) -> Checkpoint? { marks[source] }

  /// Throws `FileError`.
  package func set(_ mark: Checkpoint, of source: String) throws {
    marks[source] = mark
    try write()
  }

  /// Of a source that is not there any more. Throws `FileError`.
  func remove(_ source: String) throws {
    marks[source] = nil
    try write()
  }

  private func write() throws {
    try files.write(path, Array(Self.json(marks).prettyText.utf8), mode: 0o600, owner: nil)
  }

  package static func json(_ marks: [String: Checkpoint]) -> JSONValue {
    .object(
      marks.mapValues { mark in
        switch mark {
        case .cursor(let text): ["cursor": .string(text)]
        case .spool(let position): ["segment": .integer(position.segment), "offset": .integer(position.offset)]
        case .file(let position):
          [
            // Unsigned numbers of 64 bits are texts: JSON's numbers are not that long everywhere.
            "device": .string(String(position.identity.device)), "inode": .string(String(position.identity.inode)),
            "offset": .integer(position.offset), "time": .integer(position.time),
            "fingerprint": .string(String(position.fingerprint)),
          ]
        }
      })
  }

  /// Entries that make no sense are left out. Throws `JSONSyntaxError`.
  package static func parse(_ bytes: [UInt8]) throws -> [String: Checkpoint] {
    (try JSONValue(parsing: bytes).object ?? [:]).compactMapValues { value in
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
