package import Base

/// How this machine resolves Consul's names: one file, the command that applies it, and the names that must resolve
/// then.
package struct ResolverConfiguration: Sendable, Equatable {
  package let path: String
  package let text: String
  /// The file before this change; nil if there is no file.
  package let originalText: String?
  /// Restarts the resolver; nil if every lookup reads the file.
  package let restart: Command?
  /// The resolver that the machine's programs query.
  package let server: IPv4Address
  /// One name that Consul resolves and one that it forwards.
  package let names: [String]

  package init(
    path: String, text: String, originalText: String?, restart: Command?, server: IPv4Address, names: [String]
  ) {
    self.path = path
    self.text = text
    self.originalText = originalText
    self.restart = restart
    self.server = server
    self.names = names
  }
}
