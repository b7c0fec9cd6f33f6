internal import Base

/// `raft/wal`, the log store of Consul 1.15 and later, the default from 1.20 on (hashicorp/raft-wal 0.4: README.md,
/// metadb/metadb.go, segment/format.go, wal.go).
///
/// Its first open creates `wal-meta.db`, a BoltDB with the stable store and the list of the segments, and a segment of
/// zeros: entries show state, not files.
struct WriteAheadLog {
  private let directory: String
  private let files: RaftFiles

  private static let metaName = "wal-meta.db"
  /// The database while it is created; the next open removes it.
  private static let temporaryName = "wal-meta.db.tmp"
  private static let segmentSuffix = ".wal"
  /// Consul's limit for `raft_logstore.wal.segment_size_mb` (agent/config/builder.go).
  private static let largestSegment: Int64 = 1 << 30

  init(_ directory: String, _ files: RaftFiles) { (self.directory, self.files) = (directory, files) }

  /// Whether there is an entry, or a term. False only if everything that was read is valid.
  func holdsState() throws(RaftFileError) -> Bool {
    guard let names = try files.names(in: directory) else { return false }
    let segments = names.filter { $0.hasSuffix(Self.segmentSuffix) }
    let others = names.filter { !segments.contains($0) && $0 != Self.metaName && $0 != Self.temporaryName }
    guard let file = try files.open("\(directory)/\(Self.metaName)") else {
      for name in segments where try holdsEntries(name, limit: nil) { return true }
      guard segments.isEmpty, others.isEmpty else { throw invalid("has files but no \(Self.metaName)") }
      return false
    }
    let database = try BoltDatabase(file)
    guard let buckets = try database.buckets(), buckets.count == 2, let stable = buckets["stable"],
      let list = buckets["wal-meta"]
    else { throw file.invalid("does not have the buckets of a write-ahead log") }
    if try RaftStableStore.showsCluster(try database.elements(of: stable), in: file) { return true }
    let state = try database.elements(of: list)
    guard state.count <= 1, state.allSatisfy({ $0.key == Array("m".utf8) && !$0.isBucket }) else {
      throw file.invalid("has an unknown key")
    }
    // Without a list, raft-wal has not created a segment yet.
    let first = try state.first.map { element throws(RaftFileError) in try FirstSegment(element.value, file) }
    if let first, first.mayHaveHadEntries { return true }
    for name in segments where try holdsEntries(name, limit: first?.sizeLimit) { return true }
    if let other = (others + segments).first(where: { $0 != first?.name }) {
      throw invalid("contains \(other), which \(Self.metaName) does not name")
    }
    try database.confirm()
    return false
  }

  private func invalid(_ reason: String) -> RaftFileError { .invalid(path: directory, reason: reason) }

  // MARK: Segments

  /// Magic number, version 0, index of the first entry, ID, codec; the first frame follows.
  private static let segmentMagic: UInt64 = 0x58EB_6B0D
  private static let headerSize = 32
  private static let entryFrame: UInt8 = 1
  /// A part of a segment that is read at once.
  private static let partSize = 1 << 20

  /// Whether a segment has an entry. The header is written with the first entries: until then all is zero.
  ///
  /// An empty file, or none, is a segment whose creation a power failure undid; raft-wal creates it again. It has no
  /// entry: a term would show one.
  /// - Parameter limit: the size that the segment was created with, where it is known.
  private func holdsEntries(_ name: String, limit: Int64?) throws(RaftFileError) -> Bool {
    guard let file = try files.open("\(directory)/\(name)") else { return false }
    let start = try file.prefix(at: 0, Self.headerSize + 8)
    if start.isZero {
      try checkZeros(file, limit: limit)
      return false
    }
    guard start.number(UInt64.self, at: 0) == Self.segmentMagic, let index = start.number(UInt64.self, at: 8),
      let id = start.number(UInt64.self, at: 16), Self.fileName(index: index, id: id) == name,
      start.number(UInt8.self, at: Self.headerSize) == Self.entryFrame
    else { throw file.invalid("is not a valid segment") }
    return true
  }

  private func checkZeros(_ file: RaftFile, limit: Int64?) throws(RaftFileError) {
    let size = try file.size()
    guard size <= Self.largestSegment else { throw file.invalid("is larger than a segment") }
    guard size == 0 || size >= limit ?? 0 else { throw file.invalid("is shorter than a segment") }
    var offset: Int64 = 0
    while offset < size {
      let part = try file.prefix(at: offset, Self.partSize)
      guard !part.isEmpty else { throw RaftFileError.changed(path: file.path) }
      guard part.isZero else { throw file.invalid("is not a valid segment") }
      offset += Int64(part.count)
    }
  }

  /// The index in decimal digits, the ID in hexadecimal ones (`%020d-%016x.wal`).
  private static func fileName(index: UInt64, id: UInt64) -> String {
    padded(String(index), to: 20) + "-" + padded(String(id, radix: 16), to: 16) + segmentSuffix
  }

  private static func padded(_ digits: String, to width: Int) -> String {
    String(repeating: "0", count: max(0, width - digits.count)) + digits
  }

  // MARK: Metadata

  /// What `wal-meta.db` says of the segments, in JSON (types/meta.go, types/segment.go).
  private struct FirstSegment {
    /// Entries have been stored, or have been there: indexes start at 1, and a segment is sealed when it is full.
    let mayHaveHadEntries: Bool
    let name: String
    let sizeLimit: Int64

    private static let notSealed = "0001-01-01T00:00:00Z"

    init(_ json: [UInt8], _ file: RaftFile) throws(RaftFileError) {
      let document: JSONValue
      do { document = try JSONValue(parsing: json) } catch { throw file.invalid("has invalid metadata") }
      guard let segments = document["Segments"]?.array, let first = segments.first,
        let next = document["NextSegmentID"]?.integer, let id = first["ID"]?.integer,
        let base = first["BaseIndex"]?.integer, let least = first["MinIndex"]?.integer,
        let greatest = first["MaxIndex"]?.integer, let sealed = first["SealTime"]?.string,
        let limit = first["SizeLimit"]?.integer, next > id, id >= 0, base >= 1, least >= base, greatest >= 0, limit > 0
      else { throw file.invalid("has incomplete metadata") }
      mayHaveHadEntries =
        segments.count > 1 || base > 1 || least > 1 || greatest > 0 || sealed != Self.notSealed
      name = WriteAheadLog.fileName(index: UInt64(base), id: UInt64(id))
      sizeLimit = limit
    }
  }
}
