internal import FoundationEssentials

/// Any JSON document, as a value. Objects compare without regard to order; their text is always sorted by key, so that
/// equal values have equal bytes.
package enum JSONValue: Sendable, Equatable {
  case null
  case bool(Bool)
  case integer(Int64)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  /// Levels of arrays and objects. Foundation's decoder needs quadratic time in the depth: 10,000 numbers at depth 500
  /// take minutes.
  package static let maximumDepth = 64

  /// Parses a whole document (RFC 8259), at most `maximumDepth` levels deep.
  /// - Throws: `JSONSyntaxError`, which names the place.
  package init(parsing bytes: [UInt8]) throws {
    guard Self.depth(of: bytes) <= Self.maximumDepth else {
      throw JSONSyntaxError("nested deeper than \(Self.maximumDepth) levels")
    }
    do {
      self = try JSONDecoder().decode(Decoded.self, from: Data(bytes)).value
    } catch {
      throw JSONSyntaxError(error)
    }
  }

  package init(parsing text: String) throws {
    try self.init(parsing: Array(text.utf8))
  }

  package static func strings(_ values: some Sequence<String>) -> JSONValue {
    .array(values.map(JSONValue.string))
  }

  /// The deepest level of brackets outside strings.
  private static func depth(of bytes: [UInt8]) -> Int {
    var depth = 0, deepest = 0, isString = false, isEscaped = false
    for byte in bytes {
      if isEscaped {
        isEscaped = false
        continue
      }
      switch byte {
      case UInt8(ascii: "\\"): isEscaped = isString
      case UInt8(ascii: "\""): isString.toggle()
      case UInt8(ascii: "["), UInt8(ascii: "{"):
        if !isString { depth += 1 }
        deepest = max(deepest, depth)
      case UInt8(ascii: "]"), UInt8(ascii: "}"):
        if !isString { depth -= 1 }
      default: break
      }
    }
    return deepest
  }
}

/// A document that is not JSON.
package struct JSONSyntaxError: ExplainedError, CustomStringConvertible {
  package var explanation: String { description }

  /// For example `Unexpected character 'x' around line 3, column 5.`
  package let description: String

  fileprivate init(_ description: String) { self.description = description }

  fileprivate init(_ error: any Error) {
    if case .dataCorrupted(let context) = error as? DecodingError {
      // Foundation names the place in the underlying error's description.
      let place = context.underlyingError.map { "\($0)" } ?? ""
      description = Self.sentence(in: place) ?? context.debugDescription
    } else {
      description = "\(error)"
    }
  }

  /// The quoted sentence in `Error Domain=… UserInfo={NSDebugDescription=SENTENCE, …}`.
  private static func sentence(in text: String) -> String? {
    guard let start = text.firstRange(of: "NSDebugDescription=") else { return text.isEmpty ? nil : text }
    let rest = text[start.upperBound...]
    return String(rest.prefix(while: { $0 != "}" && $0 != "\n" })).replacing(
      ", NSJSONSerializationErrorIndex", with: " #")
  }
}

/// Reads any JSON through Foundation's decoder.
private struct Decoded: Decodable {
  let value: JSONValue

  init(from decoder: any Decoder) throws {
    if let object = try? decoder.container(keyedBy: AnyKey.self) {
      var members: [String: JSONValue] = [:]
      for key in object.allKeys { members[key.stringValue] = try object.decode(Decoded.self, forKey: key).value }
      value = .object(members)
    } else if var array = try? decoder.unkeyedContainer() {
      var elements: [JSONValue] = []
      while !array.isAtEnd { elements.append(try array.decode(Decoded.self).value) }
      value = .array(elements)
    } else {
      let scalar = try decoder.singleValueContainer()
      if scalar.decodeNil() {
        value = .null
      } else if let bool = try? scalar.decode(Bool.self) {
        value = .bool(bool)
      } else if let string = try? scalar.decode(String.self) {
        value = .string(string)
      } else if let integer = try? scalar.decode(Int64.self) {
        value = .integer(integer)
      } else {
        // 92233722233720368.5 is an integer as a Double, is written as one, and would be read as one.
        let number = try scalar.decode(Double.self)
        value = Int64(exactly: number).map(JSONValue.integer) ?? .number(number)
      }
    }
  }

  private struct AnyKey: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }
}

/// Reading.
extension JSONValue {
  package subscript(key: String) -> JSONValue? {
    if case .object(let members) = self { members[key] } else { nil }
  }

  package var string: String? { if case .string(let value) = self { value } else { nil } }
  package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  package var integer: Int64? { if case .integer(let value) = self { value } else { nil } }
  package var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
  package var object: [String: JSONValue]? { if case .object(let value) = self { value } else { nil } }
}

/// Writing: deterministic bytes. They are collected as bytes: appending to a `String` costs three times as much.
extension JSONValue {
  /// On one line, keys sorted.
  package var compactText: String {
    var bytes: [UInt8] = []
    write(into: &bytes, indentation: nil)
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Two spaces a level, keys sorted, a newline at the end.
  package var prettyText: String {
    var bytes: [UInt8] = []
    write(into: &bytes, indentation: 0)
    bytes.append(UInt8(ascii: "\n"))
    return String(decoding: bytes, as: UTF8.self)
  }

  private func write(into bytes: inout [UInt8], indentation: Int?) {
    switch self {
    case .null: bytes += "null".utf8
    case .bool(let value): bytes += (value ? "true" : "false").utf8
    case .integer(let value): bytes += String(value).utf8
    case .number(let value): bytes += (value.isFinite ? "\(value)" : "null").utf8
    case .string(let value): Self.write(value, into: &bytes)
    case .array(let elements):
      let inner = indentation.map { $0 + 1 }
      bytes.append(UInt8(ascii: "["))
      for (index, element) in elements.enumerated() {
        Self.separate(index, inner, &bytes)
        element.write(into: &bytes, indentation: inner)
      }
      Self.close(UInt8(ascii: "]"), elements.isEmpty, indentation, &bytes)
    case .object(let members):
      let inner = indentation.map { $0 + 1 }
      bytes.append(UInt8(ascii: "{"))
      for (index, member) in members.sorted(by: { $0.key < $1.key }).enumerated() {
        Self.separate(index, inner, &bytes)
        Self.write(member.key, into: &bytes)
        bytes += (inner == nil ? ":" : ": ").utf8
        member.value.write(into: &bytes, indentation: inner)
      }
      Self.close(UInt8(ascii: "}"), members.isEmpty, indentation, &bytes)
    }
  }

  private static func separate(_ index: Int, _ indentation: Int?, _ bytes: inout [UInt8]) {
    if index > 0 { bytes.append(UInt8(ascii: ",")) }
    if let indentation { newLine(indentation, &bytes) }
  }

  private static func close(_ bracket: UInt8, _ isEmpty: Bool, _ indentation: Int?, _ bytes: inout [UInt8]) {
    if let indentation, !isEmpty { newLine(indentation, &bytes) }
    bytes.append(bracket)
  }

  private static func newLine(_ indentation: Int, _ bytes: inout [UInt8]) {
    bytes.append(UInt8(ascii: "\n"))
    for _ in 0..<(2 * indentation) { bytes.append(UInt8(ascii: " ")) }
  }

  private static func write(_ string: String, into bytes: inout [UInt8]) {
    bytes.append(UInt8(ascii: "\""))
    var string = string
    string.withUTF8 { escape($0, into: &bytes) }
    bytes.append(UInt8(ascii: "\""))
  }

  /// The inside of a JSON string.
  package static func escape(_ text: ArraySlice<UInt8>, into bytes: inout [UInt8]) {
    text.withUnsafeBufferPointer { escape($0, into: &bytes) }
  }

  private static func escape(_ text: UnsafeBufferPointer<UInt8>, into bytes: inout [UInt8]) {
    var start = 0
    while let index = special(text, from: start) {
      bytes.append(contentsOf: UnsafeBufferPointer(rebasing: text[start..<index]))
      start = index + 1
      switch text[index] {
      case UInt8(ascii: "\""): bytes += "\\\"".utf8
      case UInt8(ascii: "\\"): bytes += "\\\\".utf8
      case UInt8(ascii: "\n"): bytes += "\\n".utf8
      case UInt8(ascii: "\r"): bytes += "\\r".utf8
      case UInt8(ascii: "\t"): bytes += "\\t".utf8
      default:
        let hex = String(text[index], radix: 16)
        bytes += ("\\u" + String(repeating: "0", count: 4 - hex.count) + hex).utf8
      }
    }
    bytes.append(contentsOf: UnsafeBufferPointer(rebasing: text[start...]))
  }

  /// The next byte that cannot stand in a string as it is; eight are looked at at a time, for most strings have none.
  private static func special(_ text: UnsafeBufferPointer<UInt8>, from start: Int) -> Int? {
    var index = start
    while index < text.count {
      if index + 8 <= text.count, let base = text.baseAddress {
        let word = UnsafeRawPointer(base + index).loadUnaligned(as: UInt64.self)
        let control = (word &- EightBytes.all(0x20)) & ~word & EightBytes.highBits
        if control | EightBytes.marks(0x22, in: word) | EightBytes.marks(0x5c, in: word)
          | EightBytes.marks(0x7f, in: word) == 0
        {
          index += 8
          continue
        }
      }
      let end = min(index + 8, text.count)
      while index < end {
        let byte = text[index]
        if byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") || byte == 0x7f { return index }
        index += 1
      }
    }
    return nil
  }

  /// A number's digits.
  package static func write(_ number: Int64, into bytes: inout [UInt8]) {
    guard number >= 0 else { return bytes.append(contentsOf: String(number).utf8) }
    let start = bytes.count
    var rest = number
    repeat {
      bytes.append(UInt8(48 + rest % 10))
      rest /= 10
    } while rest > 0
    bytes[start...].reverse()
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral, ExpressibleByStringInterpolation
{
  package init(stringLiteral value: String) { self = .string(value) }
  package init(integerLiteral value: Int64) { self = .integer(value) }
  package init(booleanLiteral value: Bool) { self = .bool(value) }
  package init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  package init(dictionaryLiteral elements: (String, JSONValue)...) {
    self = .object(Dictionary(elements, uniquingKeysWith: { _, last in last }))
  }
}

/// What Consul's own merging does for `--merge` and `--set`.
extension JSONValue {
  /// Objects are merged key by key, null removes a key, everything else replaces.
  package func merging(_ other: JSONValue) -> JSONValue {
    guard case .object(var members) = self, case .object(let others) = other else { return other }
    for (key, value) in others {
      if case .null = value {
        members[key] = nil
      } else {
        members[key] = members[key]?.merging(value) ?? value
      }
    }
    return .object(members)
  }
}
