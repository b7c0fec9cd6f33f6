import Synchronization
import TestSupport
import Testing

@testable import Base
@testable import Consul

/// The format of `raft.db`, page by page.
@Suite struct BoltDatabaseTests {
  @Test(arguments: [("fresh", false), ("entries", true), ("branches", true), ("compacted", true)])
  func `a real database shows its state`(_ name: String, _ expected: Bool) throws {
    #expect(holdsState(try realDatabase(name)) == expected)
  }

  @Test func `a log is empty or not, inline, on a page of its own, or below branches`() {
    let full = Bolt.leaf(3, [Bolt.entry(1)])
    let cases: [(logs: [UInt8], page3: [UInt8], expected: Bool?)] = [
      (Bolt.inline(), [], false), (Bolt.inline([Bolt.entry(1)]), [], true), (Bolt.own(3), full, true),
      (Bolt.own(3), Bolt.branch(3, [(Bolt.index(1), 4)]), true),
      // bbolt keeps an empty bucket inline: an empty page of its own is damage.
      (Bolt.own(3), Bolt.leaf(3, []), nil), (Bolt.own(3), Bolt.leaf(9, [Bolt.entry(1)]), nil),
      (Bolt.own(3), Bolt.page(3, 0x10, 7, []), nil), (Bolt.own(1), full, nil), (Bolt.own(4), full, nil),
      (Bolt.inline() + [0], [], nil), (Bolt.own(3) + [0], full, nil), (Array(Bolt.inline().dropLast()), [], nil),
      ([], [], nil), ([3], full, nil), (Bolt.own(0), [], nil),
    ]
    for (logs, page3, expected) in cases {
      let bytes = Bolt.database(logs: logs, more: page3.isEmpty ? [] : [page3])
      #expect(holdsState(bytes) == expected, "\(logs) \(page3.prefix(16))")
    }
  }

  /// A term is saved before the first entry of it: without one there has never been an entry.
  @Test func `a term or a vote shows a cluster without an entry`() {
    let vote: Bolt.Element = (0, Array("LastVoteTerm".utf8), Bolt.index(0))
    let cases: [(conf: [UInt8], expected: Bool?)] = [
      (Bolt.inline(), false), (Bolt.untouched, false), (Bolt.inline([Bolt.term(1)]), true),
      (Bolt.inline([Bolt.term(1 << 56)]), true), (Bolt.inline([Bolt.term(0), vote]), true),
      (Bolt.inline([(0, Array("CurrentTerm".utf8), [0])]), nil),
      (Bolt.inline([(0, Array("CurrentTern".utf8), Bolt.index(0))]), nil),
    ]
    for (conf, expected) in cases {
      #expect(holdsState(Bolt.database(logs: Bolt.inline(), conf: conf)) == expected, "\(conf)")
    }
    #expect(
      holdsState(Bolt.database(logs: Bolt.inline(), conf: Bolt.own(3), more: [Bolt.leaf(3, [Bolt.term(0)])])) == false)
    #expect(
      holdsState(Bolt.database(logs: Bolt.inline(), conf: Bolt.own(3), more: [Bolt.leaf(3, [Bolt.term(2)])])) == true)
  }

  @Test func `both buckets are required, and no other`() {
    let names = [["conf"], ["logs"], ["conf", "logr"], ["conf", "logs", "more"], []]
    for buckets in names {
      let root = Bolt.leaf(2, buckets: buckets.map { ($0, Bolt.inline()) })
      #expect(holdsState(Bolt.metas() + root) == nil, "\(buckets)")
    }
    let key: Bolt.Element = (0, Array("logs".utf8), Bolt.inline())
    #expect(holdsState(Bolt.metas() + Bolt.leaf(2, [(1, Array("conf".utf8), Bolt.untouched), key])) == nil)
  }

  @Test func `a database that was created a moment ago has no bucket yet`() {
    let root = Bolt.page(2, 0x10, 0, []) + Bolt.leaf(3, [])
    let new = Bolt.meta(0, root: 3, transaction: 0, pages: 4) + Bolt.meta(1, root: 3, transaction: 1, pages: 4)
    #expect(holdsState(new + root) == false)
    #expect(holdsState(new + Bolt.page(2, 0x10, 0, []) + Bolt.page(3, 2, 0, [0, 0, 1])) == nil)
    let used = Bolt.meta(0, root: 3, transaction: 2, pages: 4) + Bolt.meta(1, root: 3, transaction: 1, pages: 4)
    #expect(holdsState(used + root) == nil)
    #expect(holdsState(Array((new + root).dropLast())) == nil)
  }

  @Test func `the newer meta page counts, and an older one alone does not prove emptiness`() {
    let full = Bolt.leaf(2, buckets: [("conf", Bolt.untouched), ("logs", Bolt.inline([Bolt.entry(1)]))])
    let pages = full + Bolt.leaf(3, buckets: [("conf", Bolt.untouched), ("logs", Bolt.inline())])
    func answer(_ first: [UInt8], _ second: [UInt8]) -> Bool? { holdsState(first + second + pages) }
    let old = Bolt.meta(0, root: 2, transaction: 5, pages: 4)
    #expect(answer(old, Bolt.meta(1, root: 3, transaction: 6, pages: 4)) == false)
    #expect(answer(old, Bolt.meta(1, root: 3, transaction: 4, pages: 4)) == true)
    // A transaction between the two is missing.
    #expect(answer(old, Bolt.meta(1, root: 3, transaction: 7, pages: 4)) == nil)
    let damaged = Bolt.meta(0, root: 2, transaction: 6, pages: 4, checksum: 0)
    #expect(answer(damaged, Bolt.meta(1, root: 3, pages: 4)) == nil)
    #expect(answer(damaged, Bolt.meta(1, root: 2, pages: 4)) == true)
    #expect(answer(damaged, damaged) == nil)
    let almost = Bolt.meta(0, root: 2, transaction: 4, pages: 4, checksum: 1)
    #expect(answer(almost, Bolt.meta(1, root: 3, pages: 4)) == nil)
    // Pages that the database has, and the file lacks.
    #expect(answer(Bolt.meta(0, root: 3, transaction: 4, pages: 5), Bolt.meta(1, root: 3, pages: 5)) == nil)
  }

  @Test func `a page that the database does not have yet is not read`() {
    let full = Bolt.leaf(3, [Bolt.entry(1)])
    #expect(holdsState(Bolt.database(logs: Bolt.own(3), more: [full])) == true)
    // Left over from a longer database.
    #expect(holdsState(Bolt.database(logs: Bolt.own(3)) + full) == nil)
  }

  @Test(arguments: [512 as UInt32, 1024, 16384, 65536])
  func `every page size is read`(_ size: UInt32) {
    #expect(holdsState(Bolt.database(logs: Bolt.inline(), pageSize: size)) == false)
    #expect(holdsState(Bolt.database(logs: Bolt.inline([Bolt.entry(1)]), pageSize: size)) == true)
  }

  @Test func `a leaf page is refused unless it is laid out as bbolt writes it`() {
    let valid = Bolt.database(logs: Bolt.inline())
    /// Of page 2, the root: its last byte, a byte after its elements, the position, key size, value size and flags of
    /// its first element, its type, and its count.
    for offset in [4095, 300, 16 + 4, 16 + 8, 16 + 12, 16, 8, 10] {
      var bytes = valid
      bytes[2 * 4096 + offset] ^= 1
      #expect(holdsState(bytes) == nil, "byte \(offset)")
    }
    let unordered = Bolt.leaf(2, buckets: [("logs", Bolt.inline()), ("conf", Bolt.untouched)])
    #expect(holdsState(Bolt.metas() + unordered) == nil)
    let twice = Bolt.leaf(2, buckets: [("conf", Bolt.untouched), ("conf", Bolt.untouched)])
    #expect(holdsState(Bolt.metas() + twice) == nil)
    let long = Bolt.leaf(3, [Bolt.term(0)], overflow: 1)
    #expect(holdsState(Bolt.database(logs: Bolt.inline(), conf: Bolt.own(3), more: [long])) == nil)
  }

  /// 131,072 sizes and positions of 32 bits.
  @Test(arguments: [UInt32.max, 1 << 31, 5000])
  func `sizes and positions outside the file are a damaged database`(_ number: UInt32) {
    for field in 1...3 {
      var element = [1, 16, 4, 32] as [UInt32]
      element[field] = number
      let page = Bolt.page(2, 2, 1, element.flatMap(Bolt.little) + Array("logs".utf8) + Bolt.inline())
      #expect(holdsState(Bolt.metas() + page) == nil)
    }
  }

  static let hostileNumbers: [UInt64] = [.max, .max / 2, .max / 512, 0x007f_803f_e00f_f803, 1 << 55, 1 << 63]

  /// `page + 8` and `page · size` with such numbers trapped, which ends the process.
  @Test(arguments: hostileNumbers)
  func `a page number that overflows is a damaged database`(_ number: UInt64) throws {
    #expect(holdsState(Bolt.database(logs: Bolt.own(number))) == nil)
    #expect(holdsState(Bolt.metas(root: number) + Bolt.leaf(2, buckets: [])) == nil)
    let huge = Bolt.meta(0, transaction: .max, pages: number) + Bolt.meta(1, transaction: 0, pages: number)
    #expect(holdsState(huge + Bolt.leaf(2, buckets: [("conf", Bolt.untouched), ("logs", Bolt.inline())])) == nil)
    let branches = Bolt.database(logs: Bolt.own(3), more: [Bolt.branch(3, [(Bolt.index(1), number)])])
    #expect(throws: RaftFileError.self) { try lastPosition(branches) }
  }

  private func lastPosition(_ bytes: [UInt8]) throws -> LogPosition? {
    try RaftDatabase(RaftFile("raft.db", DamagedFile(bytes))).lastPosition()
  }

  @Test func `the log ends at its greatest key, with the term of that entry`() throws {
    for (name, index) in [("entries", 7), ("branches", 66), ("compacted", 67)] as [(String, UInt64)] {
      #expect(try lastPosition(try realDatabase(name)) == LogPosition(term: 2, index: index), "\(name)")
    }
    #expect(try lastPosition(try realDatabase("fresh")) == nil)
    let leaf = Bolt.leaf(3, [Bolt.entry(8), Bolt.entry(1 << 40)])
    #expect(
      try lastPosition(Bolt.database(logs: Bolt.own(3), more: [leaf])) == LogPosition(term: 3, index: 1 << 40))
    let short: Bolt.Element = (0, [1, 2], Bolt.entry(1).value)
    #expect(throws: RaftFileError.self) { try lastPosition(Bolt.database(logs: Bolt.inline([short]))) }
  }

  @Test func `the term of an entry is found behind data of any size`() throws {
    let index: [UInt8] = [0xa5] + Array("Index".utf8) + [9], name: [UInt8] = [0xa4] + Array("Term".utf8)
    let data: [UInt8] = [0x83, 0xa4] + Array("Data".utf8)
    let fields: [(data: [UInt8], size: Int)] = [
      ([0xc0], 0), ([0xa3], 3), ([0xd9, 200], 200), ([0xda, 1, 0], 256), ([0xdb, 0, 1, 0, 0], 65536),
      ([0xc4, 5], 5), ([0xc5, 1, 0], 256), ([0xc6, 0, 0, 0, 1], 1), ([0xc7, 12, 0xff], 12), ([0xd7, 0xff], 8),
      ([0xd6, 0xff], 4), ([0xcf], 8), ([0xce], 4), ([0xcd], 2), ([0xcc], 1), ([0xe0], 0),
    ]
    let terms: [(encoded: [UInt8], term: UInt64)] = [
      ([0], 0), ([127], 127), ([0xcc, 200], 200), ([0xcd, 1, 2], 258), ([0xce, 1, 0, 0, 0], 1 << 24),
      ([0xcf, 128, 0, 0, 0, 0, 0, 0, 1], 1 << 63 | 1),
    ]
    for field in fields {
      for (encoded, term) in terms {
        let entry = data + field.data + [UInt8](repeating: 0xa4, count: field.size) + index + name + encoded
        #expect(try EncodedLogEntry(LargeValue(bytes: entry)).term() == term)
        // Every cut of it is unknown.
        let cut = LargeValue(bytes: Array(entry.dropLast()))
        #expect(try EncodedLogEntry(cut).term() == nil)
      }
    }
    for other in [[], [0x90], data + [0x91, 0], data + [0xdb, 255, 255, 255, 255], [0x81, 1]] as [[UInt8]] {
      #expect(try EncodedLogEntry(LargeValue(bytes: other)).term() == nil)
    }
  }

  /// A walk over such trees takes 30^8 steps, uses up the stack, or never ends.
  @Test func `a tree that repeats its pages, or is too deep, is refused at once`() {
    let count: UInt64 = 100
    let chain = (3..<count).map { number in
      Bolt.branch(number, (0..<30).map { (Bolt.index(UInt64($0)), number + 1) }, size: 1024)
    }
    let bytes = Bolt.database(logs: Bolt.own(3), more: chain, pageSize: 1024)
    #expect(throws: RaftFileError.self) { try lastPosition(bytes) }
    let loop = Bolt.database(logs: Bolt.own(3), more: [Bolt.branch(3, [(Bolt.index(1), 3)])])
    let file = DamagedFile(loop, records: true)
    #expect(throws: RaftFileError.self) { try RaftDatabase(RaftFile("raft.db", file)).lastPosition() }
    #expect(file.reads?.withLock { $0.count } ?? .max < 100)
    // The same above the buckets.
    let root = Bolt.branch(2, (0..<30).map { (Bolt.index(UInt64($0)), 2) }, size: 1024)
    #expect(holdsState(Bolt.metas(pageSize: 1024) + root) == nil)
  }
}
