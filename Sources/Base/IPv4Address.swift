/// An IPv4 address that sorts as a number: 10.0.1.9 before 10.0.1.10.
package struct IPv4Address: Sendable, Hashable, Comparable, CustomStringConvertible {
  package let value: UInt32

  /// Dotted decimal, four parts, each 0 to 255 without leading zeros; nil for anything else.
  package init?(_ text: some StringProtocol) {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var value: UInt32 = 0
    for part in parts {
      guard (1...3).contains(part.utf8.count), part.utf8.allSatisfy({ (48...57).contains($0) }),
        let byte = UInt8(part), part.utf8.count == 1 || part.utf8.first != 48
      else { return nil }
      value = value << 8 | UInt32(byte)
    }
    self.value = value
  }

  package static func < (left: Self, right: Self) -> Bool { left.value < right.value }

  package var description: String {
    "\(value >> 24).\(value >> 16 & 255).\(value >> 8 & 255).\(value & 255)"
  }

  /// 0.0.0.0, every address of the machine.
  package var isUnspecified: Bool { value == 0 }

  package var isLoopback: Bool { value >> 24 == 127 }
}
