/// Eight bytes as one number, to look for one of them eight times as fast (Hacker's Delight, section 6-1).
package enum EightBytes {
  package static let highBits: UInt64 = 0x8080_8080_8080_8080

  package static func all(_ byte: UInt8) -> UInt64 { 0x0101_0101_0101_0101 &* UInt64(byte) }

  /// Not zero if the byte is among the eight. The lowest bit that is set marks the first; those above it may be wrong.
  package static func marks(_ byte: UInt8, in word: UInt64) -> UInt64 {
    let difference = word ^ all(byte)
    return (difference &- 0x0101_0101_0101_0101) & ~difference & highBits
  }

  /// Where the byte is first in a range; nil where it is not.
  package static func firstIndex(of byte: UInt8, in bytes: UnsafeBufferPointer<UInt8>, _ range: Range<Int>) -> Int? {
    var index = range.lowerBound
    while index + 8 <= range.upperBound, let base = bytes.baseAddress {
      let found = marks(byte, in: UInt64(littleEndian: UnsafeRawPointer(base + index).loadUnaligned(as: UInt64.self)))
      if found != 0 { return index + found.trailingZeroBitCount / 8 }
      index += 8
    }
    while index < range.upperBound {
      if bytes[index] == byte { return index }
      index += 1
    }
    return nil
  }
}
