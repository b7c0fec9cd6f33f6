import Foundation
import Synchronization
import TestSupport
import Testing

@testable import Base
@testable import Consul

/// BoltDB files built by hand after bbolt's layout (page.go, node.go, bucket.go, db.go).
enum Bolt {
  static func little<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
    (0..<MemoryLayout<Number>.size).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
  }

  static func page(
    _ number: UInt64, _ flags: UInt16, _ count: UInt16, _ body: [UInt8], overflow: UInt32 = 0, size: Int = 4096
  ) -> [UInt8] {
    let bytes = little(number) + little(flags) + little(count) + little(overflow) + body
    return bytes + [UInt8](repeating: 0, count: size * (Int(overflow) + 1) - bytes.count)
  }

  static func meta(
    _ number: UInt64, root: UInt64 = 2, transaction: UInt64 = 5, pages: UInt64 = 3, pageSize: UInt32 = 4096,
    checksum: UInt64? = nil
  ) -> [UInt8] {
    let head = little(UInt32(0xED0C_DAED)) + little(UInt32(2)) + little(pageSize) + little(UInt32(0))
    let fields = head + little(root) + little(UInt64(0)) + little(UInt64(9)) + little(pages) + little(transaction)
    let sum = fields.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    return page(number, 4, 0, fields + little(checksum ?? sum), size: Int(pageSize))
  }

  static func metas(root: UInt64 = 2, pages: UInt64 = 3, pageSize: UInt32 = 4096) -> [UInt8] {
    meta(0, root: root, transaction: 4, pages: pages, pageSize: pageSize)
      + meta(1, root: root, pages: pages, pageSize: pageSize)
  }

  typealias Element = (flags: UInt32, key: [UInt8], value: [UInt8])

  /// What follows the header of a leaf page.
  static func body(_ elements: [Element]) -> [UInt8] {
    var table: [UInt8] = [], data: [UInt8] = []
    for (index, element) in elements.enumerated() {
      let position = (elements.count - index) * 16 + data.count
      table += little(element.flags) + little(UInt32(position)) + little(UInt32(element.key.count))
      table += little(UInt32(element.value.count))
      data += element.key + element.value
    }
    return table + data
  }

  static func leaf(_ number: UInt64, _ elements: [Element], overflow: UInt32 = 0, size: Int = 4096) -> [UInt8] {
    page(number, 2, UInt16(elements.count), body(elements), overflow: overflow, size: size)
  }

  static func leaf(_ number: UInt64, buckets: [(String, [UInt8])], size: Int = 4096) -> [UInt8] {
    leaf(number, buckets.map { (1, Array($0.0.utf8), $0.1) }, size: size)
  }

  static func branch(_ number: UInt64, _ children: [(key: [UInt8], page: UInt64)], size: Int = 4096) -> [UInt8] {
    var table: [UInt8] = [], data: [UInt8] = []
    for (index, child) in children.enumerated() {
      table += little(UInt32((children.count - index) * 16 + data.count)) + little(UInt32(child.key.count))
      table += little(child.page)
      data += child.key
    }
    return page(number, 1, UInt16(children.count), table + data, size: size)
  }

  /// A bucket that fits into its value.
  static func inline(_ elements: [Element] = []) -> [UInt8] {
    let page = little(UInt64(0)) + little(UInt16(2)) + little(UInt16(elements.count)) + little(UInt32(0))
    return little(UInt64(0)) + little(UInt64(0)) + page + body(elements)
  }

  /// A bucket with a page of its own.
  static func own(_ root: UInt64) -> [UInt8] { little(root) + little(UInt64(0)) }

  static func index(_ number: UInt64) -> [UInt8] { little(number.byteSwapped) }

  static func entry(_ number: UInt64) -> Element {
    (0, index(number), [0x82, 0xa4] + Array("Data".utf8) + [0xc0, 0xa4] + Array("Term".utf8) + [3])
  }

  static func term(_ number: UInt64) -> Element { (0, Array("CurrentTerm".utf8), index(number)) }

  /// The stable store of a server that was only started.
  static let untouched = inline([term(0)])

  /// A raft database.
  static func database(
    logs: [UInt8], conf: [UInt8] = untouched, more: [[UInt8]] = [], pageSize: UInt32 = 4096
  ) -> [UInt8] {
    let size = Int(pageSize)
    return metas(pages: UInt64(3 + more.count), pageSize: pageSize)
      + leaf(2, buckets: [("conf", conf), ("logs", logs)], size: size) + more.flatMap { $0 }
  }
}

/// A file in memory, of which a bit is flipped or the end is missing.
final class DamagedFile: OpenFile {
  let identity = FileIdentity(device: 1, inode: 1)
  let bytes: [UInt8]
  let count: Int
  let flip: (offset: Int, mask: UInt8)?
  /// The bytes that were read, where they are recorded.
  let reads: Mutex<[Range<Int>]>?

  init(_ bytes: [UInt8], count: Int? = nil, flip: (Int, UInt8)? = nil, records: Bool = false) {
    self.bytes = bytes
    self.count = count ?? bytes.count
    self.flip = flip
    reads = records ? Mutex([]) : nil
  }

  func size() -> Int64 { Int64(count) }
  func modified() -> Int64 { 0 }

  func read(at offset: Int64, count wanted: Int) -> [UInt8] {
    guard let start = Int(exactly: offset), start >= 0, start < count else { return [] }
    let range = start..<min(count, start.saturatingAdding(wanted))
    reads?.withLock { $0.append(range) }
    var part = Array(bytes[range])
    if let flip, range.contains(flip.offset) { part[flip.offset - start] ^= flip.mask }
    return part
  }
}

/// What a file says of raft: true with state, false without, nil where it is unknown.
func holdsState(_ file: some OpenFile) -> Bool? {
  do throws(RaftFileError) { return try RaftDatabase(RaftFile("raft.db", file)).holdsState() } catch { return nil }
}

func holdsState(_ bytes: [UInt8]) -> Bool? { holdsState(DamagedFile(bytes)) }

/// A file of `Tests/Fixtures/raft`.
func realDatabase(_ name: String) throws -> [UInt8] {
  let directory = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../Fixtures/raft")
  return Array(try Data(contentsOf: directory.appending(path: name + ".db")))
}
