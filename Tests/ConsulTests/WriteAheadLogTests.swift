import Synchronization
import TestSupport
import Testing

@testable import Base
@testable import Consul

/// A write-ahead log built by hand after hashicorp/raft-wal 0.4 (README.md, metadb/metadb.go, types/segment.go,
/// segment/format.go, codec.go): no Consul of a release with one can run here.
struct WALFixture {
  var term: UInt64 = 0
  var metadata: String? = WALFixture.metadata()
  /// By name; `wal-meta.db` is added.
  var files: [String: [UInt8]] = [WALFixture.segmentName: WALFixture.segment()]

  static let segmentName = "00000000000000000001-0000000000000000.wal"
  static let segmentSize = 2048

  static func metadata(
    next: Int = 1, id: Int = 0, base: Int = 1, min: Int = 1, max: Int = 0, index: Int = 0,
    sealed: String = "0001-01-01T00:00:00Z", limit: Int = segmentSize, more: String = ""
  ) -> String {
    #"{"NextSegmentID":\#(next),"Segments":[{"ID":\#(id),"BaseIndex":\#(base),"MinIndex":\#(min),"MaxIndex":\#(max),"#
      + #""Codec":1,"IndexStart":\#(index),"CreateTime":"2026-11-25T17:45:01.123456789Z","SealTime":"\#(sealed)","#
      + #""SizeLimit":\#(limit)}\#(more)]}"#
  }

  static func database(term: UInt64, metadata: String?) -> [UInt8] {
    // raft-wal writes numbers in the machine's order, raft-boltdb in network order.
    let stable = Bolt.inline([(0, Array("CurrentTerm".utf8), Bolt.little(term))])
    var list: [Bolt.Element] = []
    if let metadata { list = [(0, Array("m".utf8), Array(metadata.utf8))] }
    return Bolt.metas() + Bolt.leaf(2, buckets: [("stable", stable), ("wal-meta", Bolt.inline(list))])
  }

  /// A segment with so many entries, each a batch of its own; zeros without one.
  static func segment(entries: Int = 0, base: UInt64 = 1, id: UInt64 = 0, size: Int = segmentSize) -> [UInt8] {
    var bytes: [UInt8] = []
    for index in 0..<entries {
      var batch: [UInt8] = []
      if index == 0 { batch = Bolt.little(0x58EB_6B0D as UInt64) + Bolt.little(base) + Bolt.little(id) }
      if index == 0 { batch += Bolt.little(1 as UInt64) }
      // Index, term, type, no data, no extensions, the time as Go marshals it.
      let entry = [UInt8(index + 1), 2, 1, 0, 0, 15, 1, 0, 0, 0, 14, 0xE2, 0x99, 0x15, 0xAD, 0, 0, 0, 0, 0xFF, 0xFF]
      batch += [1, 0, 0, 0] + Bolt.little(UInt32(entry.count)) + entry
      batch += [UInt8](repeating: 0, count: (8 - entry.count % 8) % 8)
      bytes += batch + [3, 0, 0, 0] + Bolt.little(castagnoli(batch))
    }
    return bytes + [UInt8](repeating: 0, count: max(0, size - bytes.count))
  }

  /// CRC-32C (RFC 3720, appendix B.4).
  static func castagnoli(_ bytes: [UInt8]) -> UInt32 {
    ~bytes.reduce(~0 as UInt32) { sum, byte in
      (0..<8).reduce(sum ^ UInt32(byte)) { sum, _ in sum >> 1 ^ (sum & 1 == 0 ? 0 : 0x82F6_3B78) }
    }
  }

  var all: [String: [UInt8]] {
    files.merging(["wal-meta.db": Self.database(term: term, metadata: metadata)]) { $1 }
  }
}

@Suite(.timeLimit(.minutes(5))) struct WriteAheadLogTests {
  private static func state(_ files: [String: [UInt8]]) -> RaftState {
    let tree = FakeFiles(now: { Timestamp(seconds: 0) })
    tree.makeDirectory("/data/raft/wal")
    for (name, bytes) in files { tree.put("/data/raft/wal/\(name)", bytes: bytes) }
    return RaftState(dataDirectory: "/data", files: tree)
  }

  private static let present = RaftState.present(evidence: "/data/raft/wal")

  private static func isUnknown(_ state: RaftState) -> Bool { if case .unknown = state { true } else { false } }

  /// A directory without a single entry was raft state for ever: no cluster could form.
  @Test func `a log that was opened and never written has no state`() {
    #expect(Self.state(WALFixture().all) == .none)
    #expect(Self.state(WALFixture(metadata: nil, files: [:]).all) == .none)
    #expect(Self.state(["wal-meta.db.tmp": [1, 2, 3]]) == .none)
    // A power failure before the first entry.
    #expect(Self.state(WALFixture(files: [:]).all) == .none)
    #expect(Self.state(WALFixture(files: [WALFixture.segmentName: []]).all) == .none)
  }

  @Test func `an entry, a term or a segment that has been used is state`() {
    let entries = [WALFixture.segmentName: WALFixture.segment(entries: 2)]
    #expect(Self.state(WALFixture(files: entries).all) == Self.present)
    #expect(Self.state(WALFixture(term: 2).all) == Self.present)
    // Little-endian: the lowest byte is the first.
    #expect(Self.state(WALFixture(term: 1 << 56).all) == Self.present)
    // The database is lost, the entries are not.
    #expect(Self.state(entries) == Self.present)
    for metadata in [
      WALFixture.metadata(base: 7, min: 7), WALFixture.metadata(min: 7), WALFixture.metadata(max: 7),
      WALFixture.metadata(sealed: "2026-11-25T17:45:01Z"), WALFixture.metadata(more: #",{"ID":1}"#),
    ] {
      #expect(Self.state(WALFixture(metadata: metadata, files: [:]).all) == Self.present, "\(metadata)")
    }
  }

  @Test func `files that do not fit together are unknown`() {
    let name = WALFixture.segmentName, empty = WALFixture.segment()
    let other = "00000000000000000001-0000000000000001.wal"
    let cases: [(files: [String: [UInt8]], reason: String)] = [
      ([name: empty], " has files but no wal-meta.db"), (["x": []], " has files but no wal-meta.db"),
      (WALFixture(files: [name: empty, other: empty]).all, " contains \(other), which wal-meta.db does not name"),
      (WALFixture(files: ["x": []]).all, " contains x, which wal-meta.db does not name"),
      (WALFixture(metadata: nil).all, " contains \(name), which wal-meta.db does not name"),
      (WALFixture(files: [name: Array(empty.dropLast())]).all, "/\(name) is shorter than a segment"),
      (WALFixture(files: [name: empty + [1]]).all, "/\(name) is not a valid segment"),
      (WALFixture(files: [name: [1] + empty]).all, "/\(name) is not a valid segment"),
      (
        WALFixture(files: [name: WALFixture.segment(entries: 1, id: 1)]).all, "/\(name) is not a valid segment"
      ),
      (["wal-meta.db": [1, 2, 3]], "/wal-meta.db has no valid meta page"),
      (
        ["wal-meta.db": Bolt.database(logs: Bolt.inline())],
        "/wal-meta.db does not have the buckets of a write-ahead log"
      ),
    ]
    for (files, reason) in cases {
      #expect(Self.state(files) == .unknown(reason: "/data/raft/wal\(reason)"))
    }
    var halfDamaged = WALFixture().all
    halfDamaged["wal-meta.db"]?[20] ^= 1
    #expect(Self.state(halfDamaged) == .unknown(reason: "/data/raft/wal/wal-meta.db has a damaged meta page"))
  }

  @Test(arguments: [
    "", "{}", "null", "[]", #"{"NextSegmentID":1,"Segments":[]}"#, #"{"NextSegmentID":1,"Segments":null}"#,
    WALFixture.metadata(next: 0), WALFixture.metadata(base: 0), WALFixture.metadata(base: -1, min: -1),
    WALFixture.metadata(id: -1), WALFixture.metadata(limit: 0), WALFixture.metadata(max: -1),
    WALFixture.metadata(base: 3), String(repeating: "[", count: 400),
    WALFixture.metadata().replacing("SealTime", with: "SealTimf"),
  ])
  func `metadata that raft-wal does not write is unknown`(_ metadata: String) {
    #expect(Self.isUnknown(Self.state(WALFixture(metadata: metadata, files: [:]).all)))
  }

  @Test func `a link or a pipe among the files is unknown`() {
    for name in ["wal-meta.db", WALFixture.segmentName] {
      let tree = FakeFiles(now: { Timestamp(seconds: 0) })
      for (other, bytes) in WALFixture().all where other != name { tree.put("/data/raft/wal/\(other)", bytes: bytes) }
      tree.makeOther("/data/raft/wal/\(name)")
      let path = "/data/raft/wal/\(name)"
      #expect(RaftState(dataDirectory: "/data", files: tree) == .unknown(reason: "\(path) is not a regular file"))
      tree.delete(path)
      tree.link(path, to: "/dev/zero")
      #expect(RaftState(dataDirectory: "/data", files: tree) == .unknown(reason: "\(path) is a symbolic link"))
    }
  }

  @Test func `a sparse segment of any size is bounded`() throws {
    let files = SparseFiles(metadata: WALFixture.database(term: 0, metadata: WALFixture.metadata()))
    #expect(
      RaftState(dataDirectory: "/data", files: files)
        == .unknown(reason: "/data/raft/wal/\(WALFixture.segmentName) is larger than a segment"))
    files.segmentSize.withLock { $0 = 64 << 20 }
    #expect(RaftState(dataDirectory: "/data", files: files) == .none)
    #expect(files.largestRead.withLock { $0 } <= 1 << 20)
  }

  /// One segment of zeros.
  private final class SparseFiles: FileReader, FileOpener {
    let metadata: [UInt8]
    let segmentSize = Mutex<Int64>(.max)
    let largestRead = Mutex(0)

    init(metadata: [UInt8]) { self.metadata = metadata }

    private struct Sparse: OpenFile {
      let files: SparseFiles
      let identity = FileIdentity(device: 1, inode: 1)
      func size() -> Int64 { files.segmentSize.withLock { $0 } }
      func modified() -> Int64 { 0 }
      func read(at offset: Int64, count: Int) -> [UInt8] {
        files.largestRead.withLock { $0 = max($0, count) }
        return [UInt8](repeating: 0, count: Int(min(Int64(count), size() - offset)))
      }
    }

    func status(_ path: String) -> FileStatus? {
      let directories = ["/data", "/data/raft", "/data/raft/wal"]
      let kind: FileKind? = directories.contains(path) ? .directory : path.hasPrefix("/data/raft/wal/") ? .file : nil
      return kind.map { FileStatus(kind: $0, size: 1, mode: 0o700, user: 0, group: 0, device: 1) }
    }
    func read(_ path: String, limit: Int) -> [UInt8] { forgotten("reading \(path)") }
    func isLink(_ path: String) -> Bool { false }
    func resolvedPath(_ path: String) -> String { path }
    func list(_ directory: String) -> [String] { [WALFixture.segmentName, "wal-meta.db"] }
    func open(_ path: String, followsLinks: Bool) -> (any OpenFile)? {
      path.hasSuffix("wal-meta.db") ? DamagedFile(metadata) : Sparse(files: self)
    }
  }

  // MARK: Damage

  private static func holdsState(_ files: DamagedDirectory) -> Bool? {
    do throws(RaftFileError) { return try WriteAheadLog("wal", RaftFiles(files)).holdsState() } catch { return nil }
  }

  /// A directory with one damaged file.
  private struct DamagedDirectory: FileReader, FileOpener {
    let files: [String: [UInt8]]
    let name: String
    let damaged: DamagedFile

    init(_ files: [String: [UInt8]], _ name: String, _ damaged: DamagedFile) {
      (self.files, self.name, self.damaged) = (files, name, damaged)
    }

    func status(_ path: String) -> FileStatus? {
      FileStatus(kind: path == "wal" ? .directory : .file, size: 1, mode: 0o700, user: 0, group: 0, device: 1)
    }
    func read(_ path: String, limit: Int) -> [UInt8] { forgotten("reading \(path)") }
    func isLink(_ path: String) -> Bool { false }
    func resolvedPath(_ path: String) -> String { path }
    func list(_ directory: String) -> [String] { files.keys.sorted() }
    func open(_ path: String, followsLinks: Bool) -> (any OpenFile)? {
      path == "wal/\(name)" ? damaged : files[String(path.dropFirst(4))].map { DamagedFile($0) }
    }
  }

  /// A server with entries, as raft leaves it: the term is saved first.
  private static let used = WALFixture(
    term: 2, files: [WALFixture.segmentName: WALFixture.segment(entries: 3)])
  /// Without the term, which alone shows state. Raft does not write this.
  private static let entriesOnly = WALFixture(files: used.files)

  @Test(arguments: [used, entriesOnly])
  func `no flipped bit of a log with entries makes its state disappear`(_ fixture: WALFixture) async {
    let files = fixture.all
    for (name, bytes) in files {
      let flips = usedBytes(bytes).sorted().flatMap { offset in (0..<8).map { (offset, $0) } }
      #expect(flips.count > 1000)
      let lost = await concurrentFilter(flips) { offset, bit in
        Self.holdsState(DamagedDirectory(files, name, DamagedFile(bytes, flip: (offset, 1 << UInt8(bit))))) == false
      }
      #expect(lost.isEmpty, "\(name)")
    }
  }

  /// An empty segment without a term is one that a power failure left: see `WriteAheadLog`.
  @Test(arguments: [(used, 0), (entriesOnly, 1)])
  func `no truncation of a log with entries makes its state disappear`(_ fixture: WALFixture, _ least: Int) async {
    let files = fixture.all
    for (name, bytes) in files {
      let lengths = (least..<bytes.count).filter { $0 % 4096 < 900 || $0 % 64 == 0 }
      let lost = await concurrentFilter(lengths) { length in
        Self.holdsState(DamagedDirectory(files, name, DamagedFile(bytes, count: length))) == false
      }
      #expect(lost.isEmpty, "\(name)")
    }
  }

  @Test func `no zeroed sector of a log with entries makes its state disappear`() {
    let files = Self.used.all
    for (name, bytes) in files {
      for start in stride(from: 0, to: bytes.count, by: 512) {
        var damaged = files
        damaged[name]?.replaceSubrange(start..<start + 512, with: [UInt8](repeating: 0, count: 512))
        #expect(Self.state(damaged) != .none, "\(name), sector \(start / 512)")
      }
    }
  }

  @Test func `hostile metadata and segments never trap`() {
    var generator = SeededGenerator.fromEnvironment()
    let fixtures = [WALFixture().all, Self.used.all, Self.entriesOnly.all]
    for round in 0..<1_000 {
      var files = fixtures[round % fixtures.count]
      for (name, bytes) in files {
        var bytes = bytes
        for _ in 0..<2 {
          let page = Int.random(in: 0...(bytes.count - 1) / 4096, using: &generator) * 4096
          let limit = min(bytes.count - page, 500)
          bytes[page + Int.random(in: 0..<limit, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
        }
        files[name] = bytes
      }
      _ = Self.state(files)
    }
  }
}
