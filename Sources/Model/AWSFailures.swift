package import AWS
internal import Base

/// Turns the errors of AWS, which know neither options nor exit statuses, into what a person meets.
extension AWSError {
  /// - Parameter purpose: what the call was for, to follow `cannot`.
  package func failure(_ purpose: String) -> Failure {
    Failure(.awsFailed, summary(purpose), details: [explanation], hint: hint)
  }
}

extension CredentialError {
  package var failure: Failure { Failure(.noCredentials, summary, details: cause.map { [$0] } ?? [], hint: hint) }
}

extension MetadataError {
  package var failure: Failure {
    var failure = Failure(.noMetadata, summary, details: cause.map { [$0] } ?? [], hint: hint)
    // Only a service that answers without a token can do without version 2.
    if case .noToken(_, let status) = self, status != 403 {
      failure.hint = "if this service supports only IMDSv1, allow it with --imdsv1"
    }
    return failure
  }
}

extension Error {
  /// The failure of whatever needs AWS: `AWSError`, `CredentialError` and `MetadataError` become a `Failure`; any other
  /// error, such as a `Failure` or a `CancellationError`, stays what it is.
  /// - Parameter purpose: what was to be done, to follow `cannot`.
  package func asFailure(_ purpose: @autoclosure () -> String) -> any Error {
    switch self {
    case let error as AWSError: error.failure(purpose())
    case let error as CredentialError: error.failure
    case let error as MetadataError: error.failure
    default: self
    }
  }
}
