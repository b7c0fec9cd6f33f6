package import Base

/// A file beside ours in the agent's configuration directory that Consul reads, too.
package struct OtherConfigurationFile: Sendable, Equatable {
  /// In the configuration directory. Consul reads the files in the order of these paths.
  package let path: String
  /// Behind symbolic links. Its ending decides how Consul reads the file.
  package let target: String
  package let content: Content

  package enum Content: Sendable, Equatable {
    case document(SecretDocument)
    /// Consul may understand the file; this program does not.
    case notUnderstood(reason: String)
    /// Not a file, or one that cannot be read.
    case unreadable(reason: String)
  }

  package init(path: String, target: String? = nil, _ content: Content) {
    self.path = path
    self.target = target ?? path
    self.content = content
  }

  /// Nil if what the file sets is not known.
  package var document: SecretDocument? { if case .document(let document) = content { document } else { nil } }

  /// The error of a run beside a file that is not understood, with status 14; nil for any other.
  package var failure: Failure? {
    guard case .notUnderstood(let reason) = content else { return nil }
    return Failure(
      .configurationRejected, "cannot understand \(path)", details: [reason],
      hint: "correct \(path), or move it to another directory: it may override what consul-bootstrap writes")
  }

  /// Consul sorts names by their bytes.
  package static func isBefore(_ first: String, _ second: String) -> Bool {
    first.utf8.lexicographicallyPrecedes(second.utf8)
  }
}
