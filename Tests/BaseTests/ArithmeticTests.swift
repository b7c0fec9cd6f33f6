import Base
import Testing

@Suite struct ArithmeticTests {
  @Test func `sums, differences and products saturate`() {
    #expect(Int64.max.saturatingAdding(1) == .max && Int64.min.saturatingAdding(-1) == .min)
    #expect(Int64.min.saturatingSubtracting(1) == .min && Int64.max.saturatingSubtracting(-1) == .max)
    #expect(Int64.max.saturatingMultiplied(by: -2) == .min && Int64.min.saturatingMultiplied(by: -1) == .max)
    #expect(UInt64.max.saturatingMultiplied(by: 2) == .max && UInt64(0).saturatingSubtracting(1) == 0)
    #expect(Int64(7).saturatingAdding(-9) == -2 && Int64(7).saturatingMultiplied(by: -9) == -63)
  }

  /// Vectors of draft-eastlake-fnv, appendix C.
  @Test(arguments: [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)])
  func `FNV-1a is that of its draft`(_ text: String, _ hash: UInt64) { #expect(FNV1a(text.utf8).value == hash) }

  @Test(arguments: [("/a/b", "/a"), ("/a", "/"), ("/", "/"), ("a", "."), ("/a/b/", "/a/b")])
  func `the parent of a path`(_ path: String, _ parent: String) { #expect(parentDirectory(of: path) == parent) }
}
