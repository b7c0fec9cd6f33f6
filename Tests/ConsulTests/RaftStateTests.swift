import TestSupport
import Testing

@testable import Base
@testable import Consul

/// Databases built by hand after bbolt's layout; the sandbox tests read those of a real agent.
@Suite struct BoltDatabaseTests {
  static func little<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
    (0..<MemoryLayout<Number>.size).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
  }

  static func page(_ number: UInt64, _ flags: UInt16, _ count: UInt16, _ body: [UInt8], size: Int = 4096) -> [UInt8] {
    let bytes = little(number) + little(flags) + little(count) + little(UInt32(0)) + body
    return bytes + [UInt8](repeating: 0, count: size - bytes.count)
  }

  static func meta(
    _ number: UInt64, root: UInt64 = 2, transaction: UInt64 = 5, pageSize: UInt32 = 4096, checksum: UInt64? = nil
  ) -> [UInt8] {
    let head = little(UInt32(0xED0C_DAED)) + little(UInt32(2)) + little(pageSize) + little(UInt32(0))
    let fields = head + little(root) + little(UInt64(0)) + little(UInt64(9)) + little(UInt64(10)) + little(transaction)
    let sum = fields.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    return page(number, 4, 0, fields + little(checksum ?? sum), size: Int(pageSize))
  }

  static func metas(root: UInt64 = 2, pageSize: UInt32 = 4096) -> [UInt8] {
    meta(0, root: root, pageSize: pageSize) + meta(1, root: root, transaction: 4, pageSize: pageSize)
  }

  static func leaf(_ number: UInt64, _ buckets: [(name: String, value: [UInt8])], size: Int = 4096) -> [UInt8] {
    var elements: [UInt8] = [], data: [UInt8] = []
    for (index, bucket) in buckets.enumerated() {
      let position = (buckets.count - index) * 16 + data.count
      elements +=
        little(UInt32(1)) + little(UInt32(position)) + little(UInt32(bucket.name.utf8.count))
        + little(UInt32(bucket.value.count))
      data += Array(bucket.name.utf8) + bucket.value
    }
    return page(number, 2, UInt16(buckets.count), elements + data, size: size)
  }

  /// A bucket that fits into its value.
  static func inline(_ entries: [UInt8] = [], count: UInt16 = 0) -> [UInt8] {
    little(UInt64(0)) + little(UInt64(0)) + little(UInt64(0)) + little(UInt16(2)) + little(count) + little(UInt32(0))
      + entries
  }

  /// A bucket with a page of its own.
  static func own(_ root: UInt64) -> [UInt8] { little(root) + little(UInt64(0)) }

  static let entry: [UInt8] =
    little(UInt32(0)) + little(UInt32(16)) + little(UInt32(8)) + little(UInt32(4))
    + [0, 0, 0, 0, 0, 0, 0, 1] + [0x85, 0xa4, 1, 2]

  private func answer(_ bytes: [UInt8]) -> Bool? { BoltDatabase(bytes).hasEntries(inBucket: "logs") }

  @Test func `a bucket is empty or not, inline, on a page of its own, or with branches`() {
    let cases: [(value: [UInt8], page3: [UInt8], expected: Bool?)] = [
      (Self.inline(), [], false), (Self.inline(Self.entry, count: 1), [], true),
      (Self.own(3), Self.page(3, 2, 7, Self.entry), true), (Self.own(3), Self.page(3, 1, 1, Self.entry), true),
      // Bolt keeps an empty bucket inline: an empty page of its own is damage.
      (Self.own(3), Self.page(3, 2, 0, []), nil), (Self.own(3), Self.page(9, 2, 7, []), nil),
      (Self.own(3), Self.page(3, 0x10, 7, []), nil), (Self.own(1), [], nil), (Self.own(4), [], nil),
      (Self.inline(Self.entry, count: 0), [], nil), ([], [], nil), (Self.own(0), [], nil),
    ]
    for (value, page3, expected) in cases {
      let root = Self.leaf(2, [("conf", Self.inline(Self.entry, count: 1)), ("logs", value)])
      #expect(answer(Self.metas() + root + page3) == expected, "\(value) \(page3.prefix(16))")
    }
  }

  @Test func `a database without any bucket has just been created; one without this bucket is damaged`() {
    #expect(answer(Self.metas() + Self.page(2, 2, 0, [])) == false)
    #expect(answer(Self.metas() + Self.page(2, 2, 0, [0, 0, 1])) == nil)
    #expect(answer(Self.metas() + Self.leaf(2, [("conf", Self.inline())])) == nil)
  }

  @Test func `the newer meta page counts, and an older one alone does not prove emptiness`() {
    let full = Self.leaf(2, [("logs", Self.inline(Self.entry, count: 1))])
    let empty = Self.leaf(3, [("logs", Self.inline())])
    #expect(answer(Self.meta(0, root: 2) + Self.meta(1, root: 3, transaction: 6) + full + empty) == false)
    #expect(answer(Self.meta(0, root: 2) + Self.meta(1, root: 3, transaction: 4) + full + empty) == true)
    let damaged = Self.meta(0, root: 2, transaction: 6, checksum: 0)
    #expect(answer(damaged + Self.meta(1, root: 3) + full + empty) == nil)
    #expect(answer(damaged + Self.meta(1, root: 2) + full + empty) == true)
  }

  @Test(arguments: [512 as UInt32, 1024, 16384, 65536])
  func `every page size is read`(_ size: UInt32) {
    let root = Self.leaf(2, [("logs", Self.inline())], size: Int(size))
    #expect(answer(Self.metas(pageSize: size) + root) == false)
  }

  static let hostileNumbers: [UInt64] = [.max, .max / 2, .max / 512, 0x007f_803f_e00f_f803, 1 << 55, 1 << 63]

  /// `page + 8` and `page · size` with such numbers trapped, which ends the process.
  @Test(arguments: hostileNumbers)
  func `a page number that overflows is a damaged database`(_ number: UInt64) {
    #expect(answer(Self.metas() + Self.leaf(2, [("logs", Self.own(number))])) == nil)
    #expect(answer(Self.metas(root: number) + Self.leaf(2, [("logs", Self.inline())])) == nil)
    let branch = Self.little(UInt32(0)) + Self.little(UInt32(0)) + Self.little(number)
    #expect(answer(Self.metas() + Self.page(2, 1, 1, branch)) == nil)
  }

  @Test(arguments: [UInt32.max, 1 << 31, 5000])
  func `sizes and positions outside the file are a damaged database`(_ number: UInt32) {
    for field in 1...3 {
      var element = [1, 16, 4, 32] as [UInt32]
      element[field] = number
      let page = Self.page(2, 2, 1, element.flatMap(Self.little) + Array("logs".utf8) + Self.inline())
      #expect(answer(Self.metas() + page) == nil)
    }
  }

  /// Every page has the next as its child 30 times: a walk without a budget takes 30^8 steps.
  @Test func `a tree that repeats its pages is refused at once`() {
    let pages = (2..<10).map { number -> [UInt8] in
      let child = Self.little(UInt32(0)) + Self.little(UInt32(0)) + Self.little(UInt64(number + 1))
      return Self.page(UInt64(number), 1, 30, (0..<30).flatMap { _ in child }, size: 512)
    }
    let last = Self.leaf(10, [("conf", Self.inline())], size: 512)
    #expect(answer(Self.metas(pageSize: 512) + pages.flatMap { $0 } + last) == nil)
    let loop = Self.little(UInt32(0)) + Self.little(UInt32(0)) + Self.little(UInt64(2))
    #expect(answer(Self.metas(pageSize: 512) + Self.page(2, 1, 1, loop, size: 512)) == nil)
  }

  /// A chain of branches as long as the file must not use up the stack.
  @Test func `a tree that is too deep is refused`() {
    let count: UInt64 = 20_000
    let pages = (2..<count).map { number -> [UInt8] in
      let child = Self.little(UInt32(0)) + Self.little(UInt32(0)) + Self.little(number + 1)
      return Self.page(number, 1, 1, child, size: 512)
    }
    #expect(answer(Self.metas(pageSize: 512) + pages.flatMap { $0 }) == nil)
  }

  /// Repeated pages would be read for each of their parents. The walk ends before it finds the bucket behind them.
  @Test(arguments: [(3, true as Bool?), (30, nil)])
  func `a walk reads no more elements than the file can hold`(_ repetitions: Int, _ expected: Bool?) {
    let children = Array(repeating: UInt64(3), count: repetitions) + [4]
    let elements = children.flatMap { Self.little(UInt64(0)) + Self.little($0) }
    let pages =
      Self.page(2, 1, UInt16(children.count), elements, size: 512) + Self.page(3, 2, 31, [], size: 512)
      + Self.leaf(4, [("logs", Self.inline(Self.entry, count: 1))], size: 512)
    #expect(answer(Self.metas(pageSize: 512) + pages) == expected)
  }

  /// 77 of 262,144 flips made a server's log disappear, and with it the guard against a second cluster.
  @Test(arguments: [true, false])
  func `no flipped bit makes entries disappear`(_ isInline: Bool) {
    let value = isInline ? Self.inline(Self.entry, count: 1) : Self.own(3)
    var bytes =
      Self.meta(0, root: 5, transaction: 4) + Self.meta(1, root: 2)
      + Self.leaf(2, [("conf", Self.inline(Self.entry, count: 1)), ("logs", value)])
    bytes += Self.page(3, 2, 1, Self.entry) + Self.page(4, 0x10, 1, Self.little(UInt64(5)))
    // What the transaction before had: no entries.
    bytes += Self.leaf(5, [("conf", Self.inline()), ("logs", Self.inline())]) + Self.page(6, 2, 0, [])
    #expect(answer(bytes) == true)
    for offset in bytes.indices where offset % 4096 < 256 {
      for bit in 0..<8 {
        bytes[offset] ^= 1 << bit
        let isLost = answer(bytes) == false
        bytes[offset] ^= 1 << bit
        #expect(!isLost, "byte \(offset), bit \(bit)")
      }
    }
  }

  @Test func `hostile bytes never trap`() {
    let valid =
      Self.metas() + Self.leaf(2, [("conf", Self.inline(Self.entry, count: 1)), ("logs", Self.own(3))])
      + Self.page(3, 2, 1, Self.entry)
    var generator = SeededGenerator.fromEnvironment()
    for _ in 0..<2_000 {
      var bytes = valid
      // Pages 2 and 3 only, mostly: a meta page with another checksum is refused at once.
      let first = Int.random(in: 0..<10, using: &generator) == 0 ? 0 : 2
      for _ in 0..<8 {
        let page = Int.random(in: first..<4, using: &generator)
        bytes[page * 4096 + Int.random(in: 0..<120, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      }
      if Bool.random(using: &generator) { bytes.removeLast(Int.random(in: 0..<bytes.count, using: &generator)) }
      _ = answer(bytes)
    }
    #expect(answer([]) == nil)
    #expect(answer(Array("not a database".utf8)) == nil)
  }
}

@Suite struct RaftStateTests {
  private struct OneFile: FileReader {
    var kind = FileKind.file
    var size: Int64 = 4096
    var bytes: [UInt8] = []

    func status(_ path: String) throws(FileError) -> FileStatus? {
      path == "/data/raft/raft.db" ? FileStatus(kind: kind, size: size, mode: 0o600, user: 0, group: 0, device: 1) : nil
    }
    func read(_ path: String, limit: Int) throws(FileError) -> [UInt8] {
      precondition(kind == .file, "reading a FIFO blocks")
      return bytes
    }
    func isLink(_ path: String) -> Bool { forgotten("whether \(path) is a link") }
    func resolvedPath(_ path: String) -> String { forgotten("where \(path) leads") }
    func list(_ directory: String) throws(FileError) -> [String] { [] }
  }

  @Test func `a database that is no regular file or no database is unknown, with the reason`() {
    #expect(
      RaftState(dataDirectory: "/data", files: OneFile(kind: .other))
        == .unknown(reason: "/data/raft/raft.db is not a regular file"))
    #expect(
      RaftState(dataDirectory: "/data", files: OneFile(bytes: [1, 2, 3]))
        == .unknown(reason: "/data/raft/raft.db is not a valid raft database"))
  }

  @Test func `a database that is too large to be new has been in use`() {
    #expect(
      RaftState(dataDirectory: "/data", files: OneFile(size: .max)) == .present(evidence: "/data/raft/raft.db"))
  }
}
