import Synchronization
import TestSupport
import Testing

@testable import Base
@testable import Consul

/// Damage to the databases of real servers: 77 of 262,144 flipped bits made a server's log disappear, and with it the
/// guard against a second cluster.
@Suite(.timeLimit(.minutes(5))) struct RaftDamageTests {
  /// The bytes that are read. Another one cannot change what is read, and so not the result.
  private func readBytes(_ bytes: [UInt8]) -> Set<Int> {
    let file = DamagedFile(bytes, records: true)
    _ = holdsState(file)
    return Set((file.reads?.withLock { $0 } ?? []).flatMap { Array($0) })
  }

  private func flips(_ bytes: [UInt8], withZeros: Bool) -> [(offset: Int, mask: UInt8)] {
    let used = usedBytes(bytes)
    let offsets = readBytes(bytes).filter { withZeros || used.contains($0) }.sorted()
    return offsets.flatMap { offset in (0..<8).map { (offset, 1 << UInt8($0)) } }
  }

  /// Every length that cuts into what is read, and every number of pages.
  private func lengths(_ bytes: [UInt8]) -> [Int] {
    let read = readBytes(bytes)
    return (0..<bytes.count).filter { read.contains($0) || read.contains($0 - 1) || $0 % 4096 <= 1 }
  }

  /// The zeros behind the last byte of a page are the same in each: the flips of one database are enough.
  @Test(arguments: [("entries", false), ("branches", false), ("compacted", true)])
  func `no flipped bit of a real database makes its state disappear`(_ name: String, _ withZeros: Bool) async throws {
    let bytes = try realDatabase(name)
    #expect(holdsState(bytes) == true)
    let flips = flips(bytes, withZeros: withZeros)
    // Both meta pages and the root.
    #expect(flips.count > (withZeros ? 34_000 : 2_600))
    let lost = await concurrentFilter(flips) { holdsState(DamagedFile(bytes, flip: $0)) == false }
    #expect(lost.isEmpty)
  }

  @Test(arguments: ["entries", "branches", "compacted"])
  func `no truncation of a real database makes its state disappear`(_ name: String) async throws {
    let bytes = try realDatabase(name)
    let lost = await concurrentFilter(lengths(bytes)) {
      holdsState(DamagedFile(bytes, count: $0)) == false
    }
    #expect(lost.isEmpty)
  }

  /// A disk that zeroes a sector, or that lost a write.
  @Test(arguments: ["entries", "branches", "compacted"])
  func `no zeroed or stale sector makes the state disappear`(_ name: String) throws {
    let bytes = try realDatabase(name)
    let fresh = try realDatabase("fresh")
    for start in stride(from: 0, to: bytes.count, by: 512) {
      var zeroed = bytes
      zeroed.replaceSubrange(start..<start + 512, with: [UInt8](repeating: 0, count: 512))
      #expect(holdsState(zeroed) != false, "sector \(start / 512)")
      guard start < fresh.count else { continue }
      var stale = bytes
      stale.replaceSubrange(start..<start + 512, with: fresh[start..<start + 512])
      #expect(holdsState(stale) != false, "sector \(start / 512)")
    }
  }

  /// The flips of a database without entries may say anything, and must not trap.
  @Test func `no flipped bit and no truncation of an empty database traps`() async throws {
    let bytes = try realDatabase("fresh")
    #expect(holdsState(bytes) == false)
    let flips = flips(bytes, withZeros: false)
    let different = await concurrentFilter(flips) { holdsState(DamagedFile(bytes, flip: $0)) != false }
    // Not the unused fields of the headers of the meta pages, nor what follows the elements of the root's header.
    #expect(different.count * 10 > flips.count * 8)
    // The database has six pages; the file has eight.
    let short = await concurrentFilter(lengths(bytes)) {
      (holdsState(DamagedFile(bytes, count: $0)) == false) != ($0 >= 6 * 4096)
    }
    #expect(short.isEmpty)
  }

  @Test func `hostile bytes never trap`() throws {
    let databases = [try realDatabase("entries"), try realDatabase("fresh"), Bolt.database(logs: Bolt.inline())]
    var generator = SeededGenerator.fromEnvironment()
    for round in 0..<2_000 {
      var bytes = databases[round % databases.count]
      for _ in 0..<8 {
        let page = Int.random(in: 0..<bytes.count / 4096, using: &generator)
        bytes[page * 4096 + Int.random(in: 0..<120, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      }
      if Bool.random(using: &generator) { bytes.removeLast(Int.random(in: 0..<bytes.count, using: &generator)) }
      _ = holdsState(bytes)
    }
    #expect(holdsState([]) == nil)
    #expect(holdsState(Array("not a database".utf8)) == nil)
  }

  /// The first trapped, the second was read for ever.
  @Test(arguments: ["hostile-overflow", "hostile-exponential"])
  func `a hostile database is unknown`(_ name: String) throws {
    #expect(holdsState(try realDatabase(name)) == nil)
  }
}

/// The bytes of each page up to 16 behind the last that is not zero.
func usedBytes(_ bytes: [UInt8], pageSize: Int = 4096) -> Set<Int> {
  var used: Set<Int> = []
  for start in stride(from: 0, to: bytes.count, by: pageSize) {
    let end = min(bytes.count, start + pageSize)
    let last = bytes[start..<end].lastIndex { $0 != 0 } ?? start
    used.formUnion(start..<min(end, last + 17))
  }
  return used
}

/// The elements for which the condition holds, tested on all cores, in parts that let other tests run.
func concurrentFilter<Element: Sendable>(
  _ elements: [Element], _ condition: @escaping @Sendable (Element) -> Bool
) async -> [Element] {
  await withTaskGroup(of: [Element].self) { group in
    for start in stride(from: 0, to: elements.count, by: 256) {
      let part = elements[start..<min(elements.count, start + 256)]
      group.addTask { @concurrent in part.filter(condition) }
    }
    return await group.reduce(into: []) { $0 += $1 }
  }
}
