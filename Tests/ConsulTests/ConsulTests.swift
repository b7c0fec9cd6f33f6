import Testing

@testable import Base
@testable import Consul

@Suite struct ConsulVersionTests {
  @Test(arguments: [
    ("Consul v1.8.7+dfsg1\nRevision x\n", ConsulVersion(1, 8, 7)), ("Consul v1.18.0-rc1+ent", ConsulVersion(1, 18, 0)),
    ("a warning\nConsul v0.8.3", ConsulVersion(0, 8, 3)), ("Consul v2.0", ConsulVersion(2, 0)),
  ])
  func `versions are read`(_ output: String, _ version: ConsulVersion) {
    #expect(ConsulVersion(output: output) == version)
  }

  @Test(arguments: ["", "Vault v1.0.0", "Consul vx", "Consul v1"])
  func `anything else is none`(_ output: String) {
    #expect(ConsulVersion(output: output) == nil)
  }

  @Test func `1.10 is newer than 1.9`() { #expect(ConsulVersion(1, 9) < ConsulVersion(1, 10)) }
}

/// A database built by hand after bbolt's layout; the sandbox tests read those of a real agent.
@Suite struct BoltDatabaseTests {
  private func little<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
    (0..<MemoryLayout<Number>.size).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
  }

  private func page(_ flags: UInt16, _ count: UInt16, _ body: [UInt8]) -> [UInt8] {
    let bytes = little(UInt64(0)) + little(flags) + little(count) + little(UInt32(0)) + body
    return bytes + [UInt8](repeating: 0, count: 4096 - bytes.count)
  }

  private func meta(_ root: UInt64, _ transaction: UInt64) -> [UInt8] {
    page(
      4, 0,
      little(UInt32(0xED0C_DAED)) + little(UInt32(2)) + little(UInt32(4096)) + little(UInt32(0)) + little(root)
        + little(UInt64(0))
        + little(UInt64(0)) + little(UInt64(0)) + little(transaction))
  }

  private func leaf(_ buckets: [(name: String, value: [UInt8])]) -> [UInt8] {
    var elements: [UInt8] = [], data: [UInt8] = []
    for (index, bucket) in buckets.enumerated() {
      let position = (buckets.count - index) * 16 + data.count
      elements +=
        little(UInt32(1)) + little(UInt32(position)) + little(UInt32(bucket.name.utf8.count))
        + little(UInt32(bucket.value.count))
      data += Array(bucket.name.utf8) + bucket.value
    }
    return page(2, UInt16(buckets.count), elements + data)
  }

  private func inline(_ count: UInt16) -> [UInt8] {
    little(UInt64(0)) + little(UInt64(0)) + little(UInt64(0)) + little(UInt16(2)) + little(count) + little(UInt32(0))
  }

  @Test func `a bucket is empty or not, inline, on a page of its own, or with branches`() {
    let own = little(UInt64(3)) + little(UInt64(0))
    for (value, page3, expected) in [
      (inline(0), page(2, 0, []), false), (inline(1), page(2, 0, []), true), (own, page(2, 0, []), false),
      (own, page(2, 7, []), true),
      (own, page(1, 1, []), true),
    ] {
      let bytes = meta(2, 5) + meta(9, 4) + leaf([("conf", inline(1)), ("logs", value)]) + page3
      #expect(BoltDatabase(bytes).hasEntries(inBucket: "logs") == expected)
    }
    #expect(
      BoltDatabase(meta(2, 1) + meta(2, 2) + leaf([("conf", inline(1))]) + page(2, 0, [])).hasEntries(inBucket: "logs")
        == false)
  }

  @Test func `the newer meta page counts`() {
    let bytes = meta(2, 5) + meta(3, 6) + leaf([("logs", inline(1))]) + leaf([("logs", inline(0))])
    #expect(BoltDatabase(bytes).hasEntries(inBucket: "logs") == false)
  }

  @Test func `hostile bytes never crash`() {
    let valid =
      meta(2, 5) + meta(2, 4) + leaf([("conf", inline(1)), ("logs", little(UInt64(3)) + little(UInt64(0)))])
      + page(2, 0, [])
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<20_000 {
      var bytes = valid
      for _ in 0..<8 {
        let page = Int.random(in: 0..<4, using: &generator)
        bytes[page * 4096 + Int.random(in: 0..<120, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      }
      if Bool.random() { bytes.removeLast(Int.random(in: 0..<bytes.count, using: &generator)) }
      _ = BoltDatabase(bytes).hasEntries(inBucket: "logs")
    }
    #expect(BoltDatabase([]).hasEntries(inBucket: "logs") == nil)
    #expect(BoltDatabase(Array("not a database".utf8)).hasEntries(inBucket: "logs") == nil)
  }
}
