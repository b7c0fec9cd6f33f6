internal import Base

/// Reads JSON as Go's `encoding/json` does, which `JSONValue(parsing:)` does not: of a repeated key the last counts,
/// a byte order mark and a comma at the end are errors, and whatever is no Unicode is replaced.
struct GoJSONParser {
  private let bytes: [UInt8]
  private let isHCL: Bool
  private var index = 0

  private init(_ bytes: [UInt8], isHCL: Bool) { (self.bytes, self.isHCL) = (bytes, isHCL) }

  /// - Parameter isHCL: in a file that Consul reads as HCL. Its parser of JSON stops silently at a list in a list, and
  ///   uses what comes before (checked with Consul 1.8.7): such a file is not understood.
  /// - Throws: `ConfigurationSyntaxError`, also for a document that is neither an object nor null.
  static func parse(_ bytes: [UInt8], isHCL: Bool = false) throws(ConfigurationSyntaxError) -> JSONValue {
    var parser = GoJSONParser(bytes, isHCL: isHCL)
    parser.skipBlanks()
    guard parser.peek() == UInt8(ascii: "{") || parser.peek() == UInt8(ascii: "n") else {
      throw parser.error("an object expected")
    }
    let value = try parser.value(depth: 0)
    guard parser.peek() == nil else { throw parser.error("nothing expected after the object") }
    return value == .null ? [:] : value
  }

  private func peek() -> UInt8? { index < bytes.count ? bytes[index] : nil }

  private func error(_ reason: String) -> ConfigurationSyntaxError {
    ConfigurationSyntaxError(line: 1 + bytes.prefix(index).count { $0 == UInt8(ascii: "\n") }, reason)
  }

  private mutating func skipBlanks() {
    while let byte = peek(), [0x20, 0x09, 0x0a, 0x0d].contains(byte) { index += 1 }
  }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard peek() == UInt8(ascii: character) else { return false }
    index += 1
    skipBlanks()
    return true
  }

  /// A value and the blanks behind it.
  private mutating func value(depth: Int) throws(ConfigurationSyntaxError) -> JSONValue {
    guard let byte = peek() else { throw error("a value expected") }
    switch byte {
    case UInt8(ascii: "{"), UInt8(ascii: "["):
      guard depth < JSONValue.maximumDepth else { throw error(ConfigurationSyntaxError.tooDeep) }
      return byte == UInt8(ascii: "{") ? try object(depth: depth) : try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
    default:
      for (word, value) in [("true", JSONValue.bool(true)), ("false", .bool(false)), ("null", .null)]
      where bytes[index...].starts(with: word.utf8) {
        index += word.utf8.count
        skipBlanks()
        return value
      }
      throw error("a value expected")
    }
  }

  private mutating func object(depth: Int) throws(ConfigurationSyntaxError) -> JSONValue {
    var members: [String: JSONValue] = [:]
    _ = take("{")
    guard !take("}") else { return .object([:]) }
    repeat {
      guard peek() == UInt8(ascii: "\"") else { throw error("a key in quotes expected") }
      let key = try string()
      guard take(":") else { throw error(": expected") }
      members[key] = try value(depth: depth + 1)
    } while take(",")
    guard take("}") else { throw error("a comma or } expected") }
    return .object(members)
  }

  private mutating func array(depth: Int) throws(ConfigurationSyntaxError) -> JSONValue {
    var elements: [JSONValue] = []
    _ = take("[")
    guard !take("]") else { return .array([]) }
    repeat {
      guard !isHCL || peek() != UInt8(ascii: "[") else { throw error("a list in a list") }
      elements.append(try value(depth: depth + 1))
    } while take(",")
    guard take("]") else { throw error("a comma or ] expected") }
    return .array(elements)
  }

  private mutating func number() throws(ConfigurationSyntaxError) -> JSONValue {
    let start = index
    if peek() == UInt8(ascii: "-") { index += 1 }
    let whole = try digits()
    guard whole.count == 1 || whole.first != UInt8(ascii: "0") else { throw error("invalid number") }
    if peek() == UInt8(ascii: ".") {
      index += 1
      _ = try digits()
    }
    if let byte = peek(), byte | 0x20 == UInt8(ascii: "e") {
      index += 1
      if peek() == UInt8(ascii: "-") || peek() == UInt8(ascii: "+") { index += 1 }
      _ = try digits()
    }
    let text = String(decoding: bytes[start..<index], as: UTF8.self)
    skipBlanks()
    if let integer = Int64(text) { return .integer(integer) }
    guard let number = Double(text), number.isFinite else { throw error("invalid number") }
    return JSONValue(number)
  }

  /// At least one.
  private mutating func digits() throws(ConfigurationSyntaxError) -> ArraySlice<UInt8> {
    let start = index
    while let byte = peek(), byte.isDigit { index += 1 }
    guard index > start else { throw error("invalid number") }
    return bytes[start..<index]
  }

  /// A string whose opening quote is the next byte, and the blanks behind it.
  private mutating func string() throws(ConfigurationSyntaxError) -> String {
    index += 1
    var text: [UInt8] = []
    while let byte = peek(), byte != UInt8(ascii: "\"") {
      guard byte >= 0x20 else { throw error("invalid character in a string") }
      index += 1
      guard byte == UInt8(ascii: "\\") else {
        text.append(byte)
        continue
      }
      text += try escape()
    }
    guard take("\"") else { throw error("the string is not terminated") }
    return String(decoding: text, as: UTF8.self)
  }

  /// What follows a backslash.
  private mutating func escape() throws(ConfigurationSyntaxError) -> [UInt8] {
    guard let byte = peek() else { throw error("the string is not terminated") }
    index += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
    case UInt8(ascii: "b"): return [8]
    case UInt8(ascii: "f"): return [12]
    case UInt8(ascii: "n"): return [10]
    case UInt8(ascii: "r"): return [13]
    case UInt8(ascii: "t"): return [9]
    case UInt8(ascii: "u"): return Array(String(Character(try scalar())).utf8)
    default: throw error("unknown escape sequence")
    }
  }

  /// The scalar of one `\u`, or of two that are a surrogate pair; half a pair is replaced.
  private mutating func scalar() throws(ConfigurationSyntaxError) -> Unicode.Scalar {
    let first = try codeUnit()
    if let scalar = Unicode.Scalar(first) { return scalar }
    let mark = index
    if UTF16.isLeadSurrogate(UInt16(first)), bytes[index...].starts(with: "\\u".utf8) {
      index += 2
      let second = try codeUnit()
      if UTF16.isTrailSurrogate(UInt16(second)),
        let scalar = Unicode.Scalar(0x10000 + (first - 0xd800) << 10 + (second - 0xdc00))
      {
        return scalar
      }
      index = mark
    }
    return "\u{fffd}"
  }

  private mutating func codeUnit() throws(ConfigurationSyntaxError) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let digit = peek()?.hexadecimalValue else { throw error("invalid escape sequence") }
      value = value << 4 | digit
      index += 1
    }
    return value
  }
}
