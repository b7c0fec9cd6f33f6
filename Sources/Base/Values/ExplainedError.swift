/// An error that explains itself: what exactly happened, in one line without a full stop and without a secret.
///
/// Seams throw typed errors of this kind; the caller adds what the error means and what to do about it.
package protocol ExplainedError: Error {
  var explanation: String { get }
  /// The same whenever the same error repeats: without the identifier of a request or the number of attempts.
  var stableExplanation: String { get }
}

extension ExplainedError {
  package var stableExplanation: String { explanation }
}

extension Error {
  /// What happened, for logs and details, whatever the error is.
  package var explained: String { (self as? any ExplainedError)?.explanation ?? "\(self)" }
  /// For `ReportedReason`, whatever the error is.
  package var stableReason: String { (self as? any ExplainedError)?.stableExplanation ?? "\(self)" }
}
