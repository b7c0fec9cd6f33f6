package import Base

/// The agent's configuration file, as a run writes it.
package struct ConfigurationFile: Sendable, Equatable {
  package let path: String
  /// May contain the gossip key and tokens.
  package let text: Secret
  package let owner: FileOwner?
  /// `consul validate` for the staged file together with the directory's other files, in Consul's order.
  package let validation: Command
  /// Path of the file while Consul validates it.
  package let stagedPath: String

  package init(path: String, text: Secret, owner: FileOwner?, validation: Command, stagedPath: String) {
    self.path = path
    self.text = text
    self.owner = owner
    self.validation = validation
    self.stagedPath = stagedPath
  }

  /// The same file staged at another path, so that a check does not interfere with a run in progress.
  package func staged(at path: String) -> ConfigurationFile {
    ConfigurationFile(
      path: self.path, text: text, owner: owner,
      validation: Command(validation.program, validation.arguments.map { $0.replacing(stagedPath, with: path) }),
      stagedPath: path)
  }

  /// Whether Consul accepts this file if it accepts the draft, which was written before the servers were known: the two
  /// differ at most in the addresses of the servers and in their number, any of which Consul accepts.
  package func isCovered(by draft: ConfigurationFile) -> Bool {
    guard path == draft.path, validation == draft.validation, let mine = knownPart, let other = draft.knownPart else {
      return false
    }
    return mine == other
  }

  /// The document with a placeholder for what depends on the servers; nil if that is not as this program writes it.
  private var knownPart: JSONValue? {
    let document: JSONValue
    do { document = try JSONValue(parsing: text.value) } catch { return nil }
    guard case .object(var keys) = document else { return nil }
    for key in ["retry_join", "retry_join_wan"] {
      guard let value = keys[key] else { continue }
      guard let servers = value.array, servers.allSatisfy({ $0.string.flatMap { IPv4Address($0) } != nil }) else {
        return nil
      }
      keys[key] = []
    }
    if let value = keys["bootstrap_expect"] {
      guard let number = value.integer, (1...Int64(Int32.max)).contains(number) else { return nil }
      keys["bootstrap_expect"] = 1
    }
    return .object(keys)
  }
}
