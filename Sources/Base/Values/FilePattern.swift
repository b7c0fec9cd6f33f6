/// An absolute path whose last part may contain `*` and `?`; then it stands for every file that matches.
package struct FilePattern: Sendable, Hashable {
  package let path: String
  /// It stands for several files.
  package let hasWildcards: Bool

  /// Nil for a path that is relative, names no file, or has wildcards before its last part.
  package init?(_ text: String) {
    guard text.hasPrefix("/"), let slash = text.lastIndex(of: "/") else { return nil }
    let name = text[text.index(after: slash)...]
    guard !name.isEmpty, !Self.hasWildcards(text[..<slash]) else { return nil }
    path = text
    hasWildcards = Self.hasWildcards(name)
  }

  /// One file, whatever its name.
  package init(file path: String) {
    self.path = path
    hasWildcards = false
  }

  private static func hasWildcards(_ text: Substring) -> Bool { text.contains { $0 == "*" || $0 == "?" } }
}
