package import Base

/// How Consul reads a configuration file: by the end of its name.
package enum ConfigurationSyntax: String, Sendable {
  case json
  case hcl

  /// Nil for a file that Consul ignores. The case of the letters matters.
  package init?(path: String) {
    if path.hasSuffix(".json") {
      self = .json
    } else if path.hasSuffix(".hcl") {
      self = .hcl
    } else {
      return nil
    }
  }

  /// The document in the file, with the keys as they are written there.
  ///
  /// An empty file is an empty document; one with blanks only is an error where it is JSON. HCL that begins with a
  /// brace is JSON.
  /// - Throws: `ConfigurationSyntaxError`.
  package func parse(_ bytes: [UInt8]) throws(ConfigurationSyntaxError) -> JSONValue {
    guard !bytes.isEmpty else { return .object([:]) }
    if self == .hcl {
      let first = bytes.first { $0 != UInt8(ascii: " ") && !(9...13).contains($0) }
      guard first == UInt8(ascii: "{") else { return try HCLParser.parse(bytes) }
    }
    return try GoJSONParser.parse(bytes, isHCL: self == .hcl)
  }
}

/// A configuration file that this program does not understand.
package struct ConfigurationSyntaxError: ExplainedError, Equatable {
  package let line: Int
  /// Never a part of the file, which may hold secrets, other than a key.
  package let reason: String

  init(line: Int, _ reason: String) {
    self.line = line
    self.reason = reason
  }

  static let tooDeep = "nested deeper than \(JSONValue.maximumDepth) levels"

  package var explanation: String { "line \(line): \(reason)" }
}
