internal import Base

/// One open file of a `FileTail`, read from an offset on.
struct TailedFile {
  let file: any OpenFile
  /// Bytes before this offset have been fed to the splitter.
  private(set) var offset: Int64
  private var splitter: LineSplitter
  /// Of the bytes before `offset`, to notice that the file's contents were replaced.
  private var fingerprint: UInt64
  /// Modification time at the last scan.
  private(set) var modified: Int64
  /// Size at the last scan, and fingerprint of the first bytes: they identify contents that are not read yet.
  private var size: Int64
  private var head: (length: Int64, fingerprint: UInt64)
  /// Bytes before those that the splitter holds, as far as a fingerprint reaches.
  private var before: [UInt8]

  /// - Parameters:
  ///   - offset: the beginning of a line.
  ///   - limit: of a line, see `LineSplitter`.
  /// - Throws: `FileError`.
  init(_ file: any OpenFile, offset: Int64, limit: Int) throws {
    self.file = file
    self.offset = offset
    splitter = LineSplitter(offset: offset, limit: limit)
    fingerprint = try Fingerprint.of(file, before: offset)
    modified = try file.modified()
    size = try file.size()
    head = try Fingerprint.head(of: file, size: size)
    before = try Fingerprint.bytes(of: file, before: offset)
  }

  /// The same position in a copy.
  init(_ other: TailedFile, in copy: any OpenFile) {
    file = copy
    offset = other.offset
    splitter = other.splitter
    fingerprint = other.fingerprint
    modified = other.modified
    size = other.size
    head = other.head
    before = other.before
  }

  var identity: FileIdentity { file.identity }

  /// Bytes that are written but not read yet. Throws `FileError`.
  func unreadBytes() throws -> Int64 { max(0, try file.size() - offset) }

  /// Records the state of the file, whose contents are still the same. Throws `FileError`.
  mutating func update(_ file: any OpenFile, modified: Int64) throws {
    self.modified = modified
    size = max(size, try file.size())
    if head.length < Fingerprint.length, head.length < size { head = try Fingerprint.head(of: file, size: size) }
  }

  /// Whether a file has the same contents: the same first bytes, and the bytes before the offset are those that were
  /// read. Throws `FileError`.
  func isContained(in file: any OpenFile) throws -> Bool {
    guard try file.size() >= max(offset, size) else { return false }
    return try Fingerprint.of(file, before: head.length) == head.fingerprint
      && Fingerprint.of(file, before: offset) == fingerprint
  }

  /// The lines of the next chunk; none at the end of the file, or if the next line is incomplete. Throws `FileError`.
  /// - Parameter time: of the checkpoints after the lines; nil if they must not become checkpoints.
  mutating func read(_ count: Int, time: Int64?) throws -> LineChunk {
    while true {
      let bytes = try file.read(at: offset, count: count)
      guard !bytes.isEmpty else { return LineChunk() }
      offset += Int64(bytes.count)
      var chunk = splitter.feed(bytes)
      // Includes an incomplete line, which the next scan compares too. It is computed from the bytes that were read:
      // the file may have other contents by now.
      let own = chunk.bytes[..<chunk.ownCount]
      fingerprint = Fingerprint.of(Fingerprint.last(before, own))
      if let time {
        chunk.makeCheckpoint = { [identity = file.identity, before] line, chunk in
          let bytes = Fingerprint.last(before, chunk.bytes[..<Int(line.end - chunk.base)])
          return .file(
            FilePosition(identity: identity, offset: line.end, time: time, fingerprint: Fingerprint.of(bytes)))
        }
      }
      before = Fingerprint.last(before, own.dropLast(splitter.pending))
      if !chunk.isEmpty { return chunk }
    }
  }

  /// The bytes after the last newline, as a line.
  mutating func finish() -> LineChunk { splitter.finish() }
}
