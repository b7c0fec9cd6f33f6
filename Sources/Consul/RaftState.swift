package import Base

/// Whether a Consul data directory holds a cluster's state: what a server must never bootstrap over.
package enum RaftState: Sendable, Equatable {
  /// No raft log and no snapshot: `bootstrap_expect` may act.
  case none
  /// A log or a snapshot is there; with the path that shows it.
  case present(evidence: String)
  /// It cannot be told, as for an ordinary user; with the reason. Counted as present.
  case unknown(reason: String)

  package var mayBePresent: Bool { self != .none }

  /// A database whose log was never written to has some 64 KB; one larger than this has been in use and is not read.
  private static let databaseLimit = 16 << 20

  /// Reads `<data_dir>/raft`: snapshots, the write-ahead log of Consul 1.15 and later, and the BoltDB of the others.
  /// A server that was started but never saw a leader has a database with an empty log.
  package init(dataDirectory: String, files: any FileReader) {
    do {
      let raft = dataDirectory + "/raft"
      if let snapshots = try files.listIfPresent(raft + "/snapshots"),
        let first = snapshots.first(where: { !$0.hasSuffix(".tmp") })
      {
        self = .present(evidence: "\(raft)/snapshots/\(first)")
      } else if let segments = try files.listIfPresent(raft + "/wal"), !segments.isEmpty {
        self = .present(evidence: raft + "/wal")
      } else if let status = try files.status(raft + "/raft.db") {
        let path = raft + "/raft.db"
        guard status.size <= Self.databaseLimit else {
          self = .present(evidence: path)
          return
        }
        switch BoltDatabase(try files.read(path, limit: Self.databaseLimit)).hasEntries(inBucket: "logs") {
        case true: self = .present(evidence: path)
        case false: self = .none
        case nil: self = .unknown(reason: "\(path) is not a database that Consul would write")
        }
      } else {
        self = .none
      }
    } catch let error as FileError {
      self = .unknown(reason: error.explanation)
    } catch {
      self = .unknown(reason: "\(error)")
    }
  }
}

extension FileReader {
  fileprivate func listIfPresent(_ directory: String) throws -> [String]? {
    guard try status(directory)?.kind == .directory else { return nil }
    return try list(directory)
  }
}

/// Just enough of the BoltDB format (go.etcd.io/bbolt, page.go, bucket.go, db.go; little-endian) to tell whether a
/// top-level bucket is empty. Input is hostile: every offset is checked.
struct BoltDatabase {
  private let bytes: [UInt8]

  private static let magic: UInt32 = 0xED0C_DAED
  private static let pageHeaderSize = 16
  private static let elementSize = 16
  private static let bucketHeaderSize = 16
  private static let branchFlag: UInt16 = 1, leafFlag: UInt16 = 2
  private static let bucketElementFlag: UInt32 = 1
  /// A path from the root is a handful of pages long; a longer one is a loop.
  private static let maximumDepth = 32

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// Nil if this is no such database.
  func hasEntries(inBucket name: String) -> Bool? {
    guard let (pageSize, root) = newestMeta() else { return nil }
    return bucket(named: Array(name.utf8), inPage: root, pageSize: pageSize, depth: 0).flatMap { value in
      guard let value else { return false }
      guard let bucketRoot = integer(UInt64.self, value) else { return nil }
      // Root page 0: the bucket is small and its only page follows its header.
      let page = bucketRoot == 0 ? value + Self.bucketHeaderSize : Int(clamping: bucketRoot) &* pageSize
      guard let flags = integer(UInt16.self, page + 8), let count = integer(UInt16.self, page + 10) else { return nil }
      return flags & Self.branchFlag != 0 || count > 0
    }
  }

  /// The two meta pages are written in turn; the one with the higher transaction is the newer.
  private func newestMeta() -> (pageSize: Int, root: Int)? {
    var newest: (pageSize: Int, root: Int, transaction: UInt64)?
    for page in [0, 4096, 8192, 16384, 65536] {
      let meta = page + Self.pageHeaderSize
      guard integer(UInt32.self, meta) == Self.magic, let size = integer(UInt32.self, meta + 8),
        let root = integer(UInt64.self, meta + 16), let transaction = integer(UInt64.self, meta + 48),
        (512...65536).contains(size), page == 0 || page == Int(size)
      else { continue }
      if newest.map({ $0.transaction < transaction }) ?? true { newest = (Int(size), Int(clamping: root), transaction) }
    }
    return newest.map { ($0.pageSize, $0.root) }
  }

  /// The offset of the bucket's value; `.some(nil)` if there is no such bucket, nil if the pages make no sense.
  private func bucket(named name: [UInt8], inPage page: Int, pageSize: Int, depth: Int) -> Int?? {
    let start = page &* pageSize
    guard depth < Self.maximumDepth, page > 0, page < bytes.count / pageSize,
      let flags = integer(UInt16.self, start + 8),
      let count = integer(UInt16.self, start + 10)
    else { return nil }
    for index in 0..<Int(count) {
      let element = start + Self.pageHeaderSize + index * Self.elementSize
      if flags & Self.leafFlag != 0 {
        guard let elementFlags = integer(UInt32.self, element), let position = integer(UInt32.self, element + 4),
          let keySize = integer(UInt32.self, element + 8)
        else { return nil }
        let key = element + Int(position)
        guard key + Int(keySize) <= bytes.count else { return nil }
        if elementFlags & Self.bucketElementFlag != 0, Array(bytes[key..<key + Int(keySize)]) == name {
          return .some(key + Int(keySize))
        }
      } else {
        guard let child = integer(UInt64.self, element + 8),
          let found = bucket(named: name, inPage: Int(clamping: child), pageSize: pageSize, depth: depth + 1)
        else { return nil }
        if found != nil { return found }
      }
    }
    return .some(nil)
  }

  private func integer<Number: FixedWidthInteger>(_: Number.Type, _ offset: Int) -> Number? {
    guard offset >= 0, offset <= bytes.count - MemoryLayout<Number>.size else { return nil }
    var number: Number = 0
    for index in (0..<MemoryLayout<Number>.size).reversed() {
      number = number << 8 | Number(truncatingIfNeeded: bytes[offset + index])
    }
    return number
  }
}
