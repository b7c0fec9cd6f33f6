internal import Base

/// Splits HCL's first version, which Consul reads, into tokens (github.com/hashicorp/hcl, branch hcl1, hcl/scanner).
struct HCLScanner {
  enum Token: Equatable {
    case identifier(String)
    case string(String)
    case number(JSONValue)
    case bool(Bool)
    case assign, comma, openBrace, closeBrace, openBracket, closeBracket
    case end
  }

  private let bytes: [UInt8]
  private var index = 0
  /// Of the last token, from 1.
  private(set) var line = 1

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// The next token behind white space and comments.
  /// - Throws: `ConfigurationSyntaxError`.
  mutating func next() throws(ConfigurationSyntaxError) -> Token {
    try skipBlanks()
    guard let byte = peek() else { return .end }
    switch byte {
    case UInt8(ascii: "="): return single(.assign)
    case UInt8(ascii: ","): return single(.comma)
    case UInt8(ascii: "{"): return single(.openBrace)
    case UInt8(ascii: "}"): return single(.closeBrace)
    case UInt8(ascii: "["): return single(.openBracket)
    case UInt8(ascii: "]"): return single(.closeBracket)
    case UInt8(ascii: "\""): return .string(try quoted())
    case UInt8(ascii: "<"): return .string(try heredoc())
    case UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number(try number())
    case _ where byte.isIdentifierStart: return identifier()
    default: throw error("unexpected character")
    }
  }

  func error(_ reason: String) -> ConfigurationSyntaxError { ConfigurationSyntaxError(line: line, reason) }

  private func peek(_ offset: Int = 0) -> UInt8? {
    index + offset < bytes.count ? bytes[index + offset] : nil
  }

  private mutating func single(_ token: Token) -> Token {
    index += 1
    return token
  }

  // MARK: Blanks

  private mutating func skipBlanks() throws(ConfigurationSyntaxError) {
    while let byte = peek() {
      switch byte {
      case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"): index += 1
      case UInt8(ascii: "\n"):
        index += 1
        line += 1
      case UInt8(ascii: "#"): skipLine()
      case UInt8(ascii: "/"):
        switch peek(1) {
        case UInt8(ascii: "/"): skipLine()
        case UInt8(ascii: "*"): try skipBlockComment()
        default: throw error("unexpected character")
        }
      default: return
      }
    }
  }

  private mutating func skipLine() {
    while let byte = peek(), byte != UInt8(ascii: "\n") { index += 1 }
  }

  private mutating func skipBlockComment() throws(ConfigurationSyntaxError) {
    index += 2
    while let byte = peek() {
      if byte == UInt8(ascii: "*"), peek(1) == UInt8(ascii: "/") {
        index += 2
        return
      }
      if byte == UInt8(ascii: "\n") { line += 1 }
      index += 1
    }
    throw error("the comment is not terminated")
  }

  // MARK: Words and numbers

  private mutating func identifier() -> Token {
    let start = index
    while let byte = peek(), byte.isIdentifierPart { index += 1 }
    let text = String(decoding: bytes[start..<index], as: UTF8.self)
    switch text {
    case "true": return .bool(true)
    case "false": return .bool(false)
    default: return .identifier(text)
    }
  }

  /// Decimal, octal with a leading zero, hexadecimal, or with a fraction or an exponent.
  private mutating func number() throws(ConfigurationSyntaxError) -> JSONValue {
    let start = index
    if peek() == UInt8(ascii: "-") { index += 1 }
    let digits = index
    if peek() == UInt8(ascii: "0"), peek(1).map({ $0 | 0x20 }) == UInt8(ascii: "x") {
      index += 2
      while let byte = peek(), byte.hexadecimalValue != nil { index += 1 }
      return try integer(bytes[(digits + 2)..<index], radix: 16, isNegative: digits > start)
    }
    while let byte = peek(), byte.isDigit { index += 1 }
    let wholeEnd = index
    if peek() == UInt8(ascii: ".") {
      index += 1
      while let byte = peek(), byte.isDigit { index += 1 }
    }
    if let byte = peek(), byte | 0x20 == UInt8(ascii: "e") {
      index += 1
      if peek() == UInt8(ascii: "-") || peek() == UInt8(ascii: "+") { index += 1 }
      while let byte = peek(), byte.isDigit { index += 1 }
    }
    guard index == wholeEnd else {
      guard let value = Double(String(decoding: bytes[start..<index], as: UTF8.self)), value.isFinite else {
        throw error("invalid number")
      }
      return JSONValue(value)
    }
    let isOctal = wholeEnd - digits > 1 && bytes[digits] == UInt8(ascii: "0")
    return try integer(bytes[digits..<wholeEnd], radix: isOctal ? 8 : 10, isNegative: digits > start)
  }

  private func integer(
    _ digits: ArraySlice<UInt8>, radix: Int, isNegative: Bool
  ) throws(ConfigurationSyntaxError) -> JSONValue {
    let text = (isNegative ? "-" : "") + String(decoding: digits, as: UTF8.self)
    guard !digits.isEmpty, let value = Int64(text, radix: radix) else { throw error("invalid number") }
    return .integer(value)
  }

  // MARK: Strings

  /// What is inside `${…}` stays as it is, quotes and escapes included.
  private mutating func quoted() throws(ConfigurationSyntaxError) -> String {
    index += 1
    var text: [UInt8] = [], braces = 0
    while let byte = peek() {
      switch byte {
      case UInt8(ascii: "\""):
        guard braces > 0 else {
          index += 1
          return String(decoding: text, as: UTF8.self)
        }
      case UInt8(ascii: "\n"):
        guard braces > 0 else { throw error("the string is not terminated") }
        line += 1
      case UInt8(ascii: "\\"):
        guard braces > 0 else {
          text += try escape()
          continue
        }
      case UInt8(ascii: "$"):
        if braces == 0, peek(1) == UInt8(ascii: "{") {
          text += "${".utf8
          index += 2
          braces = 1
          continue
        }
      case UInt8(ascii: "{"): if braces > 0 { braces += 1 }
      case UInt8(ascii: "}"): if braces > 0 { braces -= 1 }
      default: break
      }
      text.append(byte)
      index += 1
    }
    throw error("the string is not terminated")
  }

  private mutating func escape() throws(ConfigurationSyntaxError) -> [UInt8] {
    guard let byte = peek(1) else { throw error("the string is not terminated") }
    let plain: [UInt8: UInt8] = [
      UInt8(ascii: "a"): 7, UInt8(ascii: "b"): 8, UInt8(ascii: "f"): 12, UInt8(ascii: "n"): 10,
      UInt8(ascii: "r"): 13, UInt8(ascii: "t"): 9, UInt8(ascii: "v"): 11, UInt8(ascii: "\\"): byte,
      UInt8(ascii: "\""): byte,
    ]
    if let value = plain[byte] {
      index += 2
      return [value]
    }
    let (skipped, count, radix): (Int, Int, UInt32)
    switch byte {
    case UInt8(ascii: "x"): (skipped, count, radix) = (2, 2, 16)
    case UInt8(ascii: "u"): (skipped, count, radix) = (2, 4, 16)
    case UInt8(ascii: "U"): (skipped, count, radix) = (2, 8, 16)
    case UInt8(ascii: "0")...UInt8(ascii: "7"): (skipped, count, radix) = (1, 3, 8)
    default: throw error("unknown escape sequence")
    }
    var value: UInt32 = 0
    for offset in 0..<count {
      guard let digit = peek(skipped + offset)?.hexadecimalValue, digit < radix else {
        throw error("invalid escape sequence")
      }
      // Eight hexadecimal digits fill the 32 bits.
      value = value &* radix &+ digit
    }
    index += skipped + count
    if count < 4 {
      guard let single = UInt8(exactly: value) else { throw error("invalid escape sequence") }
      return [single]
    }
    guard let scalar = Unicode.Scalar(value) else { throw error("invalid escape sequence") }
    return Array(String(Character(scalar)).utf8)
  }

  /// `<<ANCHOR`, lines, and a line with the anchor alone; after `<<-` without the indentation of that line.
  private mutating func heredoc() throws(ConfigurationSyntaxError) -> String {
    guard peek(1) == UInt8(ascii: "<") else { throw error("unexpected character") }
    index += 2
    let isIndented = peek() == UInt8(ascii: "-")
    if isIndented { index += 1 }
    let start = index
    while let byte = peek(), byte.isIdentifierPart, byte != UInt8(ascii: "-"), byte != UInt8(ascii: ".") { index += 1 }
    let anchor = bytes[start..<index]
    guard !anchor.isEmpty, peek() == UInt8(ascii: "\n") else { throw error("invalid anchor of a heredoc") }
    index += 1
    line += 1
    var lines: [ArraySlice<UInt8>] = []
    while let end = bytes[index...].firstIndex(of: UInt8(ascii: "\n")) {
      let current = bytes[index..<end]
      index = end + 1
      line += 1
      let margin = current.prefix { $0.isBlank }
      // The length of the line is compared with that of the anchor and its hyphen (checked with Consul 1.8.7): after
      // `<<-` a line without indentation does not end the text.
      guard current.count >= anchor.count + (isIndented ? 1 : 0),
        current.dropFirst(margin.count).trimmingCarriageReturns == anchor
      else {
        lines.append(current)
        continue
      }
      return text(of: lines, margin: margin, isIndented: isIndented)
    }
    throw error("the heredoc is not terminated")
  }

  private func text(of lines: [ArraySlice<UInt8>], margin: ArraySlice<UInt8>, isIndented: Bool) -> String {
    let dropped = isIndented && lines.allSatisfy { $0.starts(with: margin) } ? margin.count : 0
    var text: [UInt8] = []
    for line in lines { text += line.dropFirst(dropped) + [UInt8(ascii: "\n")] }
    if !isIndented { text += margin }
    return String(decoding: text, as: UTF8.self)
  }
}

extension UInt8 {
  var isDigit: Bool { self >= UInt8(ascii: "0") && self <= UInt8(ascii: "9") }
  fileprivate var isBlank: Bool { self == UInt8(ascii: " ") || self >= 9 && self <= 13 }
  /// Letters of other alphabets are an error: no key of Consul has one.
  fileprivate var isIdentifierStart: Bool {
    self | 0x20 >= UInt8(ascii: "a") && self | 0x20 <= UInt8(ascii: "z") || self == UInt8(ascii: "_")
  }
  fileprivate var isIdentifierPart: Bool {
    isIdentifierStart || isDigit || self == UInt8(ascii: "-") || self == UInt8(ascii: ".")
  }
  var hexadecimalValue: UInt32? {
    switch self {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(self - UInt8(ascii: "0"))
    case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt32(self - UInt8(ascii: "a")) + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt32(self - UInt8(ascii: "A")) + 10
    default: nil
    }
  }
}

extension ArraySlice<UInt8> {
  fileprivate var trimmingCarriageReturns: ArraySlice<UInt8> {
    var rest = self
    while rest.last == UInt8(ascii: "\r") { rest.removeLast() }
    return rest
  }
}

extension JSONValue {
  /// Go's decoders know only one kind of number where this program distinguishes two.
  init(_ number: Double) {
    self = Int64(exactly: number).map(JSONValue.integer) ?? .number(number)
  }
}
