package import Base

/// The agent's configuration file, ready to be written.
package struct ConfigurationFile: Sendable, Equatable {
  package let path: String
  /// It may hold the gossip key and tokens.
  package let text: Secret
  package let owner: FileOwner?
  /// `consul validate` with the staged file in its place among the directory's others.
  package let validation: Command
  /// Where the file lies while Consul validates it.
  package let stagedPath: String

  package init(path: String, text: Secret, owner: FileOwner?, validation: Command, stagedPath: String) {
    self.path = path
    self.text = text
    self.owner = owner
    self.validation = validation
    self.stagedPath = stagedPath
  }

  /// The same file staged elsewhere, for a check beside a run in progress.
  package func staged(at path: String) -> ConfigurationFile {
    ConfigurationFile(
      path: self.path, text: text, owner: owner,
      validation: Command(validation.program, validation.arguments.map { $0.replacing(stagedPath, with: path) }),
      stagedPath: path)
  }
}
