internal import Base

/// Reads HCL's first version as Consul does: into the value of the same JSON document.
///
/// A repeated key combines: lists and blocks are appended, a scalar replaces (github.com/hashicorp/hcl, decoder.go;
/// checked with Consul 1.8.7). Several blocks of one key become a list of objects.
struct HCLParser {
  private var scanner: HCLScanner
  private var token = HCLScanner.Token.end

  private init(_ bytes: [UInt8]) { scanner = HCLScanner(bytes) }

  /// - Throws: `ConfigurationSyntaxError`.
  static func parse(_ bytes: [UInt8]) throws(ConfigurationSyntaxError) -> JSONValue {
    guard !bytes.contains(0), String(validating: bytes, as: UTF8.self) != nil else {
      throw ConfigurationSyntaxError(line: 1, "not a text in UTF-8")
    }
    // Also inside of strings.
    var parser = HCLParser(bytes.replacing("\r\n".utf8, with: "\n".utf8))
    try parser.advance()
    return try parser.members(depth: 0, until: .end)
  }

  private mutating func advance() throws(ConfigurationSyntaxError) { token = try scanner.next() }

  private func unexpected(_ wanted: String) -> ConfigurationSyntaxError { scanner.error("\(wanted) expected") }

  /// Members up to a token, which stays the current one. One comma may follow each.
  private mutating func members(
    depth: Int, until end: HCLScanner.Token
  ) throws(ConfigurationSyntaxError) -> JSONValue {
    guard depth < JSONValue.maximumDepth else { throw scanner.error(ConfigurationSyntaxError.tooDeep) }
    var members = ConfigurationMembers()
    while token != end {
      var keys: [String] = []
      while let key = keyText {
        keys.append(key)
        try advance()
      }
      guard let key = keys.first else { throw unexpected("a key") }
      let value: ConfigurationMembers.Value
      if token == .assign, keys.count == 1 {
        try advance()
        value = try self.value(depth: depth)
      } else if token == .openBrace {
        guard depth + keys.count < JSONValue.maximumDepth else { throw scanner.error(ConfigurationSyntaxError.tooDeep) }
        // `service "web" { … }` is a block in a block.
        let inner = try object(depth: depth + keys.count - 1)
        value = .blocks([keys.dropFirst().reversed().reduce(inner) { .object([$1: $0]) }])
      } else {
        throw unexpected("= or { after \(keys.joined(separator: " "))")
      }
      try members.add(key, value, at: scanner)
      if token == .comma { try advance() }
    }
    return members.object
  }

  private var keyText: String? {
    switch token {
    case .identifier(let text), .string(let text): text
    default: nil
    }
  }

  /// An object whose opening brace is the current token.
  private mutating func object(depth: Int) throws(ConfigurationSyntaxError) -> JSONValue {
    try advance()
    let object = try members(depth: depth + 1, until: .closeBrace)
    try advance()
    return object
  }

  private mutating func value(depth: Int) throws(ConfigurationSyntaxError) -> ConfigurationMembers.Value {
    switch token {
    case .openBrace: return .blocks([try object(depth: depth)])
    case .openBracket: return .list(try list(depth: depth + 1))
    default: return .scalar(try scalar())
    }
  }

  private mutating func scalar() throws(ConfigurationSyntaxError) -> JSONValue {
    let value: JSONValue
    switch token {
    case .string(let text): value = .string(text)
    case .number(let number): value = number
    case .bool(let bool): value = .bool(bool)
    default: throw unexpected("a value")
    }
    try advance()
    return value
  }

  /// Elements have commas between them; more commas than that are accepted.
  private mutating func list(depth: Int) throws(ConfigurationSyntaxError) -> [JSONValue] {
    guard depth < JSONValue.maximumDepth else { throw scanner.error(ConfigurationSyntaxError.tooDeep) }
    var elements: [JSONValue] = [], needsComma = false
    try advance()
    while token != .closeBracket {
      if token == .comma {
        try advance()
        needsComma = false
        continue
      }
      guard !needsComma else { throw unexpected("a comma or ]") }
      switch token {
      case .openBrace: elements.append(try object(depth: depth))
      case .openBracket: elements.append(.array(try list(depth: depth + 1)))
      default: elements.append(try scalar())
      }
      needsComma = true
    }
    try advance()
    return elements
  }
}

/// The members of one object while it is read, and what a repeated key does to them.
struct ConfigurationMembers {
  enum Value {
    case scalar(JSONValue)
    case list([JSONValue])
    case blocks([JSONValue])
  }

  private var values: [String: Value] = [:]

  /// - Throws: `ConfigurationSyntaxError` for a key that is given with two types.
  mutating func add(_ key: String, _ value: Value, at scanner: HCLScanner) throws(ConfigurationSyntaxError) {
    switch (values[key], value) {
    case (nil, _): values[key] = value
    case (.scalar(.string), .scalar(let new)) where new.string == nil: values[key] = .scalar(.string(new.compactText))
    case (.scalar, .scalar): values[key] = value
    case (.list(let old), .list(let new)), (.list(let old), .blocks(let new)): values[key] = .list(old + new)
    case (.blocks(let old), .blocks(let new)): values[key] = .blocks(old + new)
    case (.blocks(let old), .list(let new)): values[key] = .list(old + new)
    default: throw scanner.error("\(key) is given twice with different types")
    }
  }

  var object: JSONValue {
    .object(
      values.mapValues { value in
        switch value {
        case .scalar(let value): value
        case .list(let elements): .array(elements)
        case .blocks(let blocks): blocks.count == 1 ? blocks[0] : .array(blocks)
        }
      })
  }
}
