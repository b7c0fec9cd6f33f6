import Synchronization
import TestSupport
import Testing

@testable import Base
@testable import Consul

/// Where raft's state is looked for, and what counts as unknown.
@Suite struct RaftStateTests {
  private let files = FakeFiles(now: { Timestamp(seconds: 0) })
  private var state: RaftState { RaftState(dataDirectory: "/data", files: files) }

  private func invalid(_ path: String, _ reason: String) -> RaftState { .unknown(reason: "\(path) \(reason)") }

  @Test func `a directory without raft's files has no state`() {
    #expect(state == .none)
    for path in ["/data", "/data/raft", "/data/raft/snapshots", "/data/raft/wal"] {
      files.makeDirectory(path)
      #expect(state == .none, "\(path)")
    }
    files.put("/data/raft/peers.info", "As of Consul 0.7.0, …")
    #expect(state == .none)
  }

  @Test func `a database shows state by entries`() throws {
    files.put("/data/raft/raft.db", bytes: try realDatabase("fresh"))
    #expect(state == .none)
    files.put("/data/raft/raft.db", bytes: try realDatabase("entries"))
    #expect(state == .present(evidence: "/data/raft/raft.db"))
  }

  @Test func `a database that is no database, or no regular file, is unknown`() {
    let path = "/data/raft/raft.db"
    files.put(path, "")
    #expect(state == invalid(path, "has no valid meta page"))
    files.put(path, "not a database")
    #expect(state == invalid(path, "has no valid meta page"))
    for make in [{ files.makeDirectory(path) }, { files.makeOther(path) }] {
      files.delete(path)
      make()
      #expect(state == invalid(path, "is not a regular file"))
    }
    files.delete(path)
    files.link(path, to: "/other/raft.db")
    #expect(state == invalid(path, "is a symbolic link"))
    files.put("/other/raft.db", "")
    #expect(state == invalid(path, "is a symbolic link"))
  }

  /// The log of a server can be empty when a snapshot holds the state.
  @Test func `a finished snapshot is state, whatever the log says`() throws {
    files.put("/data/raft/raft.db", bytes: try realDatabase("fresh"))
    files.makeDirectory("/data/raft/snapshots/2-67-1795628722995.tmp")
    files.put("/data/raft/snapshots/permTest", "")
    #expect(state == .none)
    files.makeDirectory("/data/raft/snapshots/2-67-1795628722995")
    #expect(state == .present(evidence: "/data/raft/snapshots/2-67-1795628722995"))
    files.put("/data/raft/raft.db", "damaged")
    #expect(state == .present(evidence: "/data/raft/snapshots/2-67-1795628722995"))
  }

  @Test func `the last position is that of the log or of a later snapshot`() throws {
    func position() -> LogPosition? { RaftState.lastPosition(dataDirectory: "/data", files: files) }
    #expect(position() == nil)
    files.put("/data/raft/raft.db", bytes: try realDatabase("fresh"))
    #expect(position() == nil)
    files.makeDirectory("/data/raft/snapshots/2-60-1795628722995")
    #expect(position() == LogPosition(term: 2, index: 60))
    files.put("/data/raft/raft.db", bytes: try realDatabase("branches"))
    #expect(position() == LogPosition(term: 2, index: 66))
    files.makeDirectory("/data/raft/snapshots/3-61-1795628722999")
    #expect(position() == LogPosition(term: 3, index: 61))
    files.makeDirectory("/data/raft/wal")
    #expect(position() == nil)
    files.delete("/data/raft/wal")
    files.put("/data/raft/raft.db", "damaged")
    #expect(position() == nil)
  }

  @Test func `what is not a snapshot among the snapshots is unknown`() {
    for name in ["2-67", "2-67-x", "state.bin", "2-67-1795628722995-1"] {
      files.put("/data/raft/snapshots/\(name)", "")
      #expect(state == invalid("/data/raft/snapshots", "contains \(name), which is not a snapshot"))
      files.delete("/data/raft/snapshots/\(name)")
    }
  }

  @Test func `an operator's request for a recovery is unknown`() {
    files.put("/data/raft/peers.json", "[]")
    #expect(state == invalid("/data/raft/peers.json", "asks for a recovery of raft state"))
  }

  @Test(arguments: ["/data", "/data/raft", "/data/raft/snapshots", "/data/raft/wal"])
  func `a directory that is not there as one is unknown`(_ path: String) {
    files.makeDirectory(path)
    files.delete(path)
    files.put(path, "")
    #expect(state == invalid(path, "is not a directory"))
    files.delete(path)
    files.link(path, to: "/other")
    #expect(state == invalid(path, "is a symbolic link to nothing"))
    files.makeDirectory("/other")
    #expect(state == .none)
  }

  @Test func `directories behind links are read`() throws {
    files.link("/data", to: "/disk/consul")
    files.put("/disk/consul/raft/raft.db", bytes: try realDatabase("entries"))
    #expect(state == .present(evidence: "/data/raft/raft.db"))
  }

  /// Permission denied, as for an ordinary user, and a failing disk.
  @Test(arguments: [13, 5] as [Int32])
  func `what cannot be read is unknown`(_ errno: Int32) throws {
    files.put("/data/raft/raft.db", bytes: try realDatabase("fresh"))
    files.makeDirectory("/data/raft/snapshots")
    files.makeDirectory("/data/raft/wal")
    let calls: [(FakeFiles.Operation, String)] = [
      (.status, "/data"), (.status, "/data/raft"), (.status, "/data/raft/raft.db"), (.isLink, "/data/raft/raft.db"),
      (.open, "/data/raft/raft.db"), (.read, "/data/raft/raft.db"), (.list, "/data/raft/snapshots"),
      (.list, "/data/raft/wal"), (.status, "/data/raft/wal"), (.status, "/data/raft/peers.json"),
    ]
    #expect(state == .none)
    for (operation, path) in calls {
      files.fail(operation, path, errno: errno)
      guard case .unknown(let reason) = state else {
        Issue.record("\(operation) \(path): \(state)")
        continue
      }
      #expect(reason.hasPrefix("\(operation.rawValue) \(path): "))
      files.recover(operation, path)
    }
    // State that another file shows is not hidden by the error.
    files.fail(.read, "/data/raft/raft.db", errno: errno)
    files.makeDirectory("/data/raft/snapshots/2-5-1")
    #expect(state == .present(evidence: "/data/raft/snapshots/2-5-1"))
  }

  /// A raft database of a large cluster has hundreds of megabytes, and a sparse file may claim any size.
  @Test func `a database of any size is read with a few small reads`() throws {
    let entries = try realDatabase("entries")
    let file = DamagedFile(entries, records: true)
    #expect(holdsState(HugeFile(file)) == true)
    let reads = file.reads?.withLock { $0 } ?? []
    #expect(reads.count <= 8 && reads.map(\.count).reduce(0, +) <= 6000)
    #expect(holdsState(HugeFile(DamagedFile([]))) == nil)
  }

  private struct HugeFile: OpenFile {
    let file: DamagedFile
    var identity: FileIdentity { file.identity }
    init(_ file: DamagedFile) { self.file = file }
    func size() -> Int64 { .max }
    func modified() -> Int64 { 0 }
    func read(at offset: Int64, count: Int) -> [UInt8] {
      let bytes = file.read(at: offset, count: count)
      return bytes + [UInt8](repeating: 0, count: count - bytes.count)
    }
  }

  /// A running agent writes an entry while its empty log is read.
  @Test func `a database that changes while it is read is read again`() throws {
    let fresh = try realDatabase("fresh"), entries = try realDatabase("entries")
    // Two meta pages, the header of the root and its page; then both meta pages again.
    for first in 1...5 {
      let once = ChangingFiles { read in read < first ? fresh : entries }
      #expect(RaftState(dataDirectory: "/data", files: once) == .present(evidence: "/data/raft/raft.db"), "\(first)")
    }
    let always = ChangingFiles { read in read % 6 < 4 ? fresh : entries }
    #expect(
      RaftState(dataDirectory: "/data", files: always) == invalid("/data/raft/raft.db", "changes while it is read"))
  }

  /// A database that each read may find in another version.
  private final class ChangingFiles: FileReader, FileOpener {
    let version: @Sendable (Int) -> [UInt8]
    let reads = Mutex(0)

    init(_ version: @escaping @Sendable (Int) -> [UInt8]) { self.version = version }

    private struct Changing: OpenFile {
      let files: ChangingFiles
      let identity = FileIdentity(device: 1, inode: 1)
      func size() -> Int64 { 65536 }
      func modified() -> Int64 { 0 }
      func read(at offset: Int64, count: Int) -> [UInt8] {
        let number = files.reads.withLock { reads in
          defer { reads += 1 }
          return reads
        }
        let current = DamagedFile(files.version(number))
        let bytes = current.read(at: offset, count: count)
        return bytes + [UInt8](repeating: 0, count: count - bytes.count)
      }
    }

    func status(_ path: String) -> FileStatus? {
      let kind: FileKind? = ["/data": .directory, "/data/raft": .directory, "/data/raft/raft.db": .file][path]
      return kind.map { FileStatus(kind: $0, size: 1, mode: 0o700, user: 0, group: 0, device: 1) }
    }
    func read(_ path: String, limit: Int) -> [UInt8] { forgotten("reading \(path)") }
    func isLink(_ path: String) -> Bool { false }
    func resolvedPath(_ path: String) -> String { path }
    func list(_ directory: String) -> [String] { forgotten("listing \(directory)") }
    func open(_ path: String, followsLinks: Bool) -> (any OpenFile)? { followsLinks ? nil : Changing(files: self) }
  }
}
