package import Base

/// How this machine resolves Consul's names: one file, what makes it take effect, and the names that must resolve then.
package struct ResolverConfiguration: Sendable, Equatable {
  package let path: String
  package let text: String
  /// The file without this change; nil: it does not exist.
  package let originalText: String?
  /// Makes the resolver read the file; nil if nothing needs to.
  package let restart: Command?
  /// The resolver that the machine's programs query.
  package let server: IPv4Address
  /// One of Consul's names, and one that is not.
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
