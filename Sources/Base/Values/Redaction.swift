/// Removes secrets from Consul configuration before anything prints it.
package enum Redaction {
  package static let mark = "(redacted)"

  /// The same document with the value of every key that holds a secret replaced: `encrypt`, everything under `tokens`,
  /// and keys that end in `token`, `secret`, `secret_id`, `password`, `private_key` and the like; in any other text,
  /// the `secret_access_key=` of Consul's cloud auto-join.
  package static func redacted(_ value: JSONValue) -> JSONValue {
    switch value {
    case .object(let members):
      .object(
        Dictionary(
          uniqueKeysWithValues: members.map { key, member in (key, isSecret(key) ? hidden(member) : redacted(member)) })
      )
    case .array(let elements): .array(elements.map(redacted))
    case .string(let text): .string(withoutJoinSecrets(text))
    default: value
    }
  }

  private static func isSecret(_ key: String) -> Bool {
    let key = key.lowercased()
    let endings = [
      "token", "secret", "secret_id", "password", "master_key", "authorization", "secret_access_key", "private_key",
    ]
    return key == "encrypt" || key == "tokens" || endings.contains { key.hasSuffix($0) }
  }

  /// Booleans and numbers are no secrets (`enable_token_persistence`), and an object keeps its shape.
  private static func hidden(_ value: JSONValue) -> JSONValue {
    switch value {
    case .string: .string(mark)
    case .array(let elements): .array(elements.map(hidden))
    case .object(let members): .object(members.mapValues(hidden))
    default: value
    }
  }

  private static func withoutJoinSecrets(_ text: String) -> String {
    text.split(separator: " ", omittingEmptySubsequences: false).map { word in
      guard let equals = word.firstIndex(of: "="), isSecret(String(word[..<equals])) else { return String(word) }
      return word[...equals] + mark
    }.joined(separator: " ")
  }
}
