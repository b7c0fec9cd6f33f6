package import Base

/// Whether a Consul data directory holds a cluster's state, over which a server must never bootstrap.
package enum RaftState: Sendable, Equatable {
  /// No log entry, no term and no snapshot: `bootstrap_expect` may act.
  case none
  /// An entry, a term or a snapshot is there; with the path that shows it.
  case present(evidence: String)
  /// It is not readable, as for an ordinary user, or damaged; with the reason. Counted as present.
  case unknown(reason: String)

  package var mayBePresent: Bool { self != .none }

  /// Reads `<data_dir>/raft`. A server that was started but never saw a leader has a log without entries.
  package init(dataDirectory: String, files: any FileReader & FileOpener) {
    let files = RaftFiles(files)
    var problem: RaftFileError?
    for place in RaftPlace.allCases {
      do throws(RaftFileError) {
        if let evidence = try place.evidence(dataDirectory, files) {
          self = .present(evidence: evidence)
          return
        }
      } catch {
        problem = problem ?? error
      }
    }
    self = problem.map { .unknown(reason: $0.explanation) } ?? .none
  }
}

/// Where Consul keeps raft's state, in the order of reading: a running agent moves entries from the log to a snapshot.
/// Consul does not use a write-ahead log where there is a BoltDB; state in either counts.
private enum RaftPlace: CaseIterable {
  case database, writeAheadLog, snapshots, recovery

  /// A transaction of a running agent takes milliseconds, and few follow each other at once. A page that it has written
  /// again in the meantime looks damaged.
  private static let attempts = 3

  /// The path that shows state; nil if there is none.
  func evidence(_ dataDirectory: String, _ files: RaftFiles) throws(RaftFileError) -> String? {
    let raft = dataDirectory + "/raft"
    guard try files.isDirectory(dataDirectory), try files.isDirectory(raft) else { return nil }
    for _ in 1..<Self.attempts {
      do throws(RaftFileError) {
        return try evidence(in: raft, files)
      } catch {
        // An error of the disk takes long, and does not pass.
        if case .unreadable = error { throw error }
      }
    }
    return try evidence(in: raft, files)
  }

  private func evidence(in raft: String, _ files: RaftFiles) throws(RaftFileError) -> String? {
    switch self {
    case .database:
      guard let file = try files.open(raft + "/raft.db") else { return nil }
      return try RaftDatabase(file).holdsState() ? file.path : nil
    case .writeAheadLog:
      return try WriteAheadLog(raft + "/wal", files).holdsState() ? raft + "/wal" : nil
    case .snapshots:
      return try Self.snapshot(in: raft + "/snapshots", files)
    case .recovery:
      // An operator writes it for a server that has state (Consul, outage recovery).
      guard let file = try files.open(raft + "/peers.json") else { return nil }
      throw file.invalid("asks for a recovery of raft state")
    }
  }

  private static func snapshot(in directory: String, _ files: RaftFiles) throws(RaftFileError) -> String? {
    // Unfinished snapshots, and the file by which raft tests the directory (hashicorp/raft, file_snapshot.go).
    let names = try files.names(in: directory)?.filter { !$0.hasSuffix(".tmp") && $0 != "permTest" } ?? []
    if let snapshot = names.first(where: isSnapshot) { return "\(directory)/\(snapshot)" }
    guard let other = names.first else { return nil }
    throw .invalid(path: directory, reason: "contains \(other), which is not a snapshot")
  }

  /// The name of a snapshot: term, index, milliseconds since 1970.
  private static func isSnapshot(_ name: String) -> Bool {
    let numbers = name.split(separator: "-", omittingEmptySubsequences: false)
    return numbers.count == 3 && numbers.allSatisfy { UInt64($0) != nil }
  }
}
