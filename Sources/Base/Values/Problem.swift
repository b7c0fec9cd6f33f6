/// Something that is wrong, and how to fix it.
package struct Problem: Sendable, Equatable {
  package let message: String
  /// In the imperative.
  package let hint: String

  package init(_ message: String, hint: String) {
    self.message = message
    self.hint = hint
  }
}
