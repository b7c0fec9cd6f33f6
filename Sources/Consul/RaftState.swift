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

  /// Where the log of a server with a BoltDB ends, or its newest snapshot, if that is later: of several servers, the
  /// one with the latest position knows most. Nil if it is not known: without state, with a write-ahead log, or where a
  /// file is damaged.
  package static func lastPosition(dataDirectory: String, files: any FileReader & FileOpener) -> LogPosition? {
    let raft = dataDirectory + "/raft", files = RaftFiles(files)
    do throws(RaftFileError) {
      guard try files.names(in: raft + "/wal") == nil, let file = try files.open(raft + "/raft.db") else { return nil }
      let log = try RaftDatabase(file).lastPosition()
      return ([log] + (try RaftPlace.snapshots(in: raft + "/snapshots", files)).map(\.position)).compactMap { $0 }.max()
    } catch {
      return nil
    }
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
      return try Self.snapshots(in: raft + "/snapshots", files).first?.path
    case .recovery:
      // An operator writes it for a server that has state (Consul, outage recovery).
      guard let file = try files.open(raft + "/peers.json") else { return nil }
      throw file.invalid("asks for a recovery of raft state")
    }
  }

  /// Each with the position that its name begins with.
  static func snapshots(
    in directory: String, _ files: RaftFiles
  ) throws(RaftFileError) -> [(path: String, position: LogPosition)] {
    // Unfinished snapshots, and the file by which raft tests the directory (hashicorp/raft, file_snapshot.go).
    let names = try files.names(in: directory)?.filter { !$0.hasSuffix(".tmp") && $0 != "permTest" } ?? []
    let snapshots = names.compactMap { name in position(ofSnapshot: name).map { ("\(directory)/\(name)", $0) } }
    guard snapshots.isEmpty, let other = names.first else { return snapshots }
    throw .invalid(path: directory, reason: "contains \(other), which is not a snapshot")
  }

  /// The name of a snapshot: term, index, milliseconds since 1970.
  private static func position(ofSnapshot name: String) -> LogPosition? {
    let numbers = name.split(separator: "-", omittingEmptySubsequences: false).map { UInt64($0) }
    guard numbers.count == 3, let term = numbers[0], let index = numbers[1], numbers[2] != nil else { return nil }
    return LogPosition(term: term, index: index)
  }
}
