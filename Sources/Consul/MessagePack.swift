internal import Base

/// Why bytes are not a whole MessagePack value.
package enum MessagePackError: ExplainedError, Sendable, Equatable {
  /// The value is not whole yet: more bytes may complete it.
  case incomplete
  case malformed(String)

  package var explanation: String {
    switch self {
    case .incomplete: "the value is not whole"
    case .malformed(let reason): reason
    }
  }
}

/// A value of MessagePack, as far as Consul's server RPC uses the format: without extension types, and with text as the
/// key of every map entry.
///
/// Decoded here, not by msgpack-c: from the five bytes `dd 05 00 00 00` of a peer that is not trusted, version 4.0
/// reserves 2 GB before the first element has arrived, and it reports a lack of memory and a nesting beyond 32 as the
/// same error. This decoder allocates no more than the bytes that have arrived justify.
package enum MessagePackValue: Sendable, Equatable {
  case null
  case bool(Bool)
  /// Zero and above.
  case unsigned(UInt64)
  /// Below zero.
  case negative(Int64)
  case double(Double)
  /// Text or bytes: Consul's codec writes both alike.
  case bytes([UInt8])
  case array([MessagePackValue])
  /// Of a repeated key, the last.
  case map([String: MessagePackValue])

  /// The RPC of Consul's status nests two levels.
  private static let maximumDepth = 8

  /// Decodes the value at the beginning of `bytes`, and removes it from them.
  package init(decoding bytes: inout ArraySlice<UInt8>) throws(MessagePackError) {
    var reader = Reader(rest: bytes)
    self = try reader.value(depth: 0)
    bytes = reader.rest
  }

  package var unsigned: UInt64? { if case .unsigned(let value) = self { value } else { nil } }
  package var map: [String: MessagePackValue]? { if case .map(let entries) = self { entries } else { nil } }

  /// Nil for bytes that are no UTF-8.
  package var text: String? {
    if case .bytes(let bytes) = self { String(validating: bytes, as: UTF8.self) } else { nil }
  }

  /// Nil for anything but a list; Go writes an empty list as nil, too.
  package var list: [MessagePackValue]? {
    switch self {
    case .array(let elements): elements
    case .null: []
    default: nil
    }
  }

  private struct Reader {
    var rest: ArraySlice<UInt8>

    mutating func value(depth: Int) throws(MessagePackError) -> MessagePackValue {
      guard depth < maximumDepth else { throw .malformed("values are nested deeper than \(maximumDepth) levels") }
      let type = UInt8(try number(1))
      switch type {
      case 0x00...0x7F: return .unsigned(UInt64(type))
      case 0x80...0x8F: return try entries(UInt64(type & 0x0F), depth)
      case 0x90...0x9F: return try elements(UInt64(type & 0x0F), depth)
      case 0xA0...0xBF: return try .bytes(take(UInt64(type & 0x1F)))
      case 0xC0: return .null
      case 0xC2, 0xC3: return .bool(type == 0xC3)
      case 0xC4...0xC6: return try .bytes(take(number(1 << (type - 0xC4))))
      case 0xCA: return .double(Double(Float(bitPattern: UInt32(truncatingIfNeeded: try number(4)))))
      case 0xCB: return .double(Double(bitPattern: try number(8)))
      case 0xCC...0xCF: return .unsigned(try number(1 << (type - 0xCC)))
      case 0xD0...0xD3: return try signed(bytes: 1 << (type - 0xD0))
      case 0xD9...0xDB: return try .bytes(take(number(1 << (type - 0xD9))))
      case 0xDC, 0xDD: return try elements(number(type == 0xDC ? 2 : 4), depth)
      case 0xDE, 0xDF: return try entries(number(type == 0xDE ? 2 : 4), depth)
      case 0xE0...0xFF: return .negative(Int64(Int8(bitPattern: type)))
      default: throw .malformed("type \(type) is not used by Consul")
      }
    }

    /// Big endian.
    private mutating func number(_ count: Int) throws(MessagePackError) -> UInt64 {
      try take(UInt64(count)).reduce(0) { $0 << 8 | UInt64($1) }
    }

    private mutating func signed(bytes count: Int) throws(MessagePackError) -> MessagePackValue {
      let shift = 64 - 8 * count
      let value = Int64(bitPattern: try number(count) << UInt64(shift)) >> Int64(shift)
      return value < 0 ? .negative(value) : .unsigned(UInt64(value))
    }

    private mutating func take(_ count: UInt64) throws(MessagePackError) -> [UInt8] {
      guard count <= UInt64(rest.count) else { throw .incomplete }
      defer { rest = rest.dropFirst(Int(count)) }
      return Array(rest.prefix(Int(count)))
    }

    /// The count comes from the peer: room is made only for elements that have arrived.
    private mutating func elements(_ count: UInt64, _ depth: Int) throws(MessagePackError) -> MessagePackValue {
      guard count <= UInt64(rest.count) else { throw .incomplete }
      var elements: [MessagePackValue] = []
      for _ in 0..<count { elements.append(try value(depth: depth + 1)) }
      return .array(elements)
    }

    private mutating func entries(_ count: UInt64, _ depth: Int) throws(MessagePackError) -> MessagePackValue {
      guard count <= UInt64(rest.count) / 2 else { throw .incomplete }
      var entries: [String: MessagePackValue] = [:]
      for _ in 0..<count {
        guard let key = try value(depth: depth + 1).text else { throw .malformed("the key of an entry is not text") }
        entries[key] = try value(depth: depth + 1)
      }
      return .map(entries)
    }
  }
}

/// Encoding, in the older form of the format that Consul's codec reads: without a type for short bytes.
extension MessagePackValue {
  package static func text(_ text: String) -> MessagePackValue { .bytes(Array(text.utf8)) }

  package var encoded: [UInt8] {
    switch self {
    case .null: [0xC0]
    case .bool(let value): [value ? 0xC3 : 0xC2]
    case .unsigned(let value): value < 0x80 ? [UInt8(value)] : [0xCF] + Self.bigEndian(value, bytes: 8)
    case .negative(let value): [0xD3] + Self.bigEndian(UInt64(bitPattern: value), bytes: 8)
    case .double(let value): [0xCB] + Self.bigEndian(value.bitPattern, bytes: 8)
    case .bytes(let bytes): Self.head(bytes.count, short: 0xA0, below: 32, long: 0xDB) + bytes
    case .array(let elements):
      elements.reduce(Self.head(elements.count, short: 0x90, below: 16, long: 0xDD)) { $0 + $1.encoded }
    case .map(let entries):
      // Sorted, so that equal values are equal bytes.
      entries.sorted { $0.key < $1.key }.reduce(Self.head(entries.count, short: 0x80, below: 16, long: 0xDF)) {
        $0 + Self.text($1.key).encoded + $1.value.encoded
      }
    }
  }

  private static func head(_ count: Int, short: UInt8, below limit: Int, long: UInt8) -> [UInt8] {
    count < limit ? [short | UInt8(count)] : [long] + bigEndian(UInt64(UInt32(clamping: count)), bytes: 4)
  }

  private static func bigEndian(_ value: UInt64, bytes count: Int) -> [UInt8] {
    (0..<count).reversed().map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
  }
}
