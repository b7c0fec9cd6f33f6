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
}
