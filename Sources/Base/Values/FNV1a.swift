/// The hash FNV-1a with 64 bits (draft-eastlake-fnv). It does not resist input that is made to collide.
///
/// Inlinable: the XML parser hashes every name of an answer.
package struct FNV1a {
  @usableFromInline package private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

  @inlinable package init() {}

  @inlinable package init(_ bytes: some Sequence<UInt8>) { for byte in bytes { add(byte) } }

  @inlinable package mutating func add(_ byte: UInt8) { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
}
