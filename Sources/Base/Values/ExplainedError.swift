/// An error that explains itself: what exactly happened, in one line without a full stop and without a secret.
///
/// Seams throw typed errors of this kind; the caller adds what the error means and what to do about it.
package protocol ExplainedError: Error {
  var explanation: String { get }
}

extension Error {
  /// What happened, for logs and details, whatever the error is.
  package var explained: String { (self as? any ExplainedError)?.explanation ?? "\(self)" }
}
