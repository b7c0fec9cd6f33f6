/// An IPv4 address that sorts as a number: 10.0.1.9 before 10.0.1.10.
package struct IPv4Address: Sendable, Hashable, Comparable, CustomStringConvertible {
  package let value: UInt32

  package init(value: UInt32) { self.value = value }

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

/// An IPv4 network in CIDR notation.
package struct IPv4Network: Sendable, Hashable, CustomStringConvertible {
  /// Its lowest address.
  package let base: IPv4Address
  /// 0 to 32.
  package let prefixLength: Int

  /// `10.0.0.0/16`; nil for anything else, host bits included.
  package init?(_ text: some StringProtocol) {
    let halves = text.split(separator: "/", omittingEmptySubsequences: false)
    guard halves.count == 2, let base = IPv4Address(halves[0]), let length = Int(halves[1]), (0...32).contains(length),
      halves[1].utf8.allSatisfy({ (48...57).contains($0) }), base.value & ~Self.mask(length) == 0
    else { return nil }
    self.base = base
    prefixLength = length
  }

  private static func mask(_ length: Int) -> UInt32 { length == 0 ? 0 : UInt32.max << UInt32(32 - length) }

  package func contains(_ address: IPv4Address) -> Bool { address.value & Self.mask(prefixLength) == base.value }

  package var description: String { "\(base)/\(prefixLength)" }

  /// The zones of its reverse names, at whole octets as DNS delegates them: `0.10.in-addr.arpa` for 10.0.0.0/16. A
  /// network between octets has the zone of the next shorter one.
  package var reverseZone: String {
    let octets = base.description.split(separator: ".").prefix(max(1, prefixLength / 8))
    return octets.reversed().joined(separator: ".") + ".in-addr.arpa"
  }
}
