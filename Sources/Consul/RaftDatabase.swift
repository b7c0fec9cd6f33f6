internal import Base

/// `raft.db`, the log and the stable store of hashicorp/raft-boltdb (bolt_store.go: buckets `logs` and `conf`).
struct RaftDatabase {
  private let file: RaftFile

  init(_ file: RaftFile) { self.file = file }

  /// Whether there is an entry in the log, or a term. False only if every part of the file that was read is valid.
  func holdsState() throws(RaftFileError) -> Bool {
    let database = try BoltDatabase(file)
    if let buckets = try database.buckets() {
      guard buckets.count == 2, let logs = buckets["logs"], let stable = buckets["conf"] else {
        throw file.invalid("does not have the buckets of a raft database")
      }
      if try database.hasElements(logs) { return true }
      if try RaftStableStore.showsCluster(try database.elements(of: stable), in: file) { return true }
    }
    try database.confirm()
    return false
  }

  /// Where the log ends; nil for an empty log. Keys are indexes, in network order.
  func lastPosition() throws(RaftFileError) -> LogPosition? {
    let database = try BoltDatabase(file)
    guard let logs = try database.buckets()?["logs"], let last = try database.lastElement(of: logs) else { return nil }
    guard last.key.count == 8 else { throw file.invalid("has a log index of \(last.key.count) bytes") }
    guard let term = try EncodedLogEntry(last.value).term() else {
      throw file.invalid("has a log entry without a term")
    }
    try database.confirm()
    return LogPosition(term: term, index: last.key.reduce(0) { $0 << 8 | UInt64($1) })
  }
}
