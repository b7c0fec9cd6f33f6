package import Base

/// Whether a Consul data directory holds a cluster's state, over which a server must never bootstrap.
package enum RaftState: Sendable, Equatable {
  /// No raft log and no snapshot: `bootstrap_expect` may act.
  case none
  /// A log or a snapshot is there; with the path that shows it.
  case present(evidence: String)
  /// It is not readable, as for an ordinary user, or damaged; with the reason. Counted as present.
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
        // Opening a FIFO would block for ever.
        guard status.kind == .file else {
          self = .unknown(reason: "\(path) is not a regular file")
          return
        }
        guard status.size <= Self.databaseLimit else {
          self = .present(evidence: path)
          return
        }
        switch BoltDatabase(try files.read(path, limit: Self.databaseLimit)).hasEntries(inBucket: "logs") {
        case true: self = .present(evidence: path)
        case false: self = .none
        case nil: self = .unknown(reason: "\(path) is not a valid raft database")
        }
      } else {
        self = .none
      }
    } catch {
      self = .unknown(reason: error.explanation)
    }
  }
}

extension FileReader {
  fileprivate func listIfPresent(_ directory: String) throws(FileError) -> [String]? {
    guard try status(directory)?.kind == .directory else { return nil }
    return try list(directory)
  }
}
