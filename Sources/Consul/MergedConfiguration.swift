package import Base

/// The configuration that an agent really uses: all files of its directory, merged by Consul's rules.
///
/// Checked with Consul 1.8.7: later files win; objects are merged key by key, lists are appended, everything else
/// replaces, also by an empty value; null sets nothing; the case of a key does not matter; a list of one element counts
/// as the element where no list is expected.
package struct MergedConfiguration: Sendable, Equatable {
  /// A file, its keys in lower case.
  package struct Source: Sendable, Equatable {
    package let path: String
    package let document: SecretDocument

    /// - Parameter document: with the keys as they are written in the file.
    package init(path: String, _ document: SecretDocument) {
      self.path = path
      self.document = SecretDocument(Self.normalized(document.value))
    }

    /// Keys of these objects are names that the user chooses; Consul keeps their case.
    private static let namingKeys: Set = ["node_meta", "response_headers", "meta", "header", "tagged_addresses"]

    /// The keys among those of this program whose values are lists.
    private static let listKeys: Set = ["recursors", "retry_join", "retry_join_wan"]

    /// Go compares keys by Unicode's simple case folding: a long s counts as an s.
    private static func folded(_ key: String) -> String { key.replacing("\u{17f}", with: "s").lowercased() }

    private static func normalized(_ value: JSONValue) -> JSONValue {
      switch value {
      case .object(let members):
        // Consul refuses a file with two spellings of a key; the order makes the result the same every time.
        .object(
          Dictionary(
            members.sorted { $0.key < $1.key }.filter { $0.value != .null }.map { key, value in
              let key = folded(key)
              var value = value
              while !listKeys.contains(key), let elements = value.array, elements.count == 1 { value = elements[0] }
              return (key, namingKeys.contains(key) ? value : normalized(value))
            }, uniquingKeysWith: { _, last in last }))
      case .array(let elements): .array(elements.map(normalized))
      default: value
      }
    }
  }

  /// In Consul's order.
  package let sources: [Source]
  package let document: SecretDocument

  package init(_ sources: [Source]) {
    self.sources = sources
    document = SecretDocument(
      sources.reduce(.object([:])) { Self.merged($0, $1.document.value) })
  }

  private static func merged(_ first: JSONValue, _ second: JSONValue) -> JSONValue {
    switch (first, second) {
    case (.object(let first), .object(let second)): .object(first.merging(second, uniquingKeysWith: merged))
    case (.array(let first), .array(let second)): .array(first + second)
    default: second
    }
  }

  package subscript(key: String) -> JSONValue? { document[key] }

  /// A port by its key under `ports`; not positive if it is disabled.
  package func port(_ key: String, otherwise standard: Int64) -> Int64 {
    document["ports"]?[key]?.wholeNumber ?? standard
  }

  /// The files that set a key, in Consul's order, each with its value.
  /// - Parameter path: of keys in lower case.
  package func settings(of path: [String]) -> [(path: String, value: JSONValue)] {
    sources.compactMap { source in
      path.reduce(source.document.value) { $0?[$1] }.map { (source.path, $0) }
    }
  }
}

extension JSONValue {
  /// As Consul takes a number where it needs a whole one: without its fraction.
  package var wholeNumber: Int64? {
    switch self {
    case .integer(let value): value
    case .number(let value): Int64(exactly: value.rounded(.towardZero))
    case .string(let text): Int64(text)
    default: nil
    }
  }

  /// The values that are neither objects nor null, by the path of their keys.
  package var leaves: [[String]: JSONValue] {
    var leaves: [[String]: JSONValue] = [:]
    collect(into: &leaves, at: [])
    return leaves
  }

  private func collect(into leaves: inout [[String]: JSONValue], at path: [String]) {
    switch self {
    case .object(let members): for (key, value) in members { value.collect(into: &leaves, at: path + [key]) }
    case .null: break
    default: leaves[path] = self
    }
  }
}
