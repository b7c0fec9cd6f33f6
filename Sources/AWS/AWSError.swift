package import Base

/// What an AWS service, or the way to it, answered instead of a result.
package struct AWSError: ExplainedError, Sendable, Equatable {
  package enum Kind: Sendable, Equatable {
    /// The service asks to slow down.
    case throttled
    /// 5xx, time-outs, broken connections: the same call may succeed later.
    case transient
    /// The credentials have expired.
    case expiredCredentials
    /// The signature's time, or the signature, was refused: a wrong clock looks like either.
    case signature
    /// The caller may not do this.
    case denied
    /// The answer cannot be understood: a proxy, a captive portal, a cut body.
    case malformed
    case other
  }

  package let service: AWSService
  /// AWS's name of the action, for example `DescribeInstances`.
  package let action: String
  package let kind: Kind
  /// Nil if there was no HTTP answer.
  package let httpStatus: Int?
  /// AWS's error code, for example `AccessDenied`.
  package let code: String?
  package let message: String?
  package let requestID: String?
  /// The number of attempts that were made.
  package var attempts: Int

  package var isRetryable: Bool { kind == .throttled || kind == .transient || kind == .malformed }

  /// One line: what exactly happened.
  package var explanation: String {
    var text = "\(service.title) \(action) "
    if let httpStatus {
      text += "answered \(code ?? "an error") (HTTP \(httpStatus)\(requestID.map { ", request \($0)" } ?? ""))"
      if let message, !message.isEmpty { text += ": \(message)" }
    } else {
      text += "got no answer: \(message ?? "unknown reason")"
    }
    return attempts > 1 ? text + " after \(attempts) attempts" : text
  }

  /// - Parameter purpose: what was to be done, to stand after `cannot`.
  package func failure(_ purpose: String, role: String?) -> Failure {
    let why: String =
      switch kind {
      case .throttled: "AWS asks to slow down"
      case .transient: httpStatus == nil ? "no answer" : "the service failed"
      case .expiredCredentials: "the credentials have expired"
      case .signature: "the signature was refused"
      case .denied: "access denied"
      case .malformed: "the answer makes no sense"
      case .other: "refused"
      }
    return Failure(.awsFailed, "cannot \(purpose): \(why)", details: [explanation], hint: hint(role: role))
  }

  private func hint(role: String?) -> String? {
    switch kind {
    case .denied:
      "allow \(service.name):\(action) for \(role.map { "role \($0)" } ?? "these credentials")"
    case .signature: "check this machine's clock (timedatectl) and the credentials"
    case .expiredCredentials: "renew the credentials; those of an instance role renew themselves"
    case .malformed: "check for a proxy between this instance and AWS, and AWS_ENDPOINT_URL if it is set"
    case .transient where httpStatus == nil:
      "check the route to AWS: a NAT gateway or a VPC endpoint for \(service.name), the security groups, DNS"
    case .throttled: "try again later; other callers of this account and region use up the limit"
    case .transient, .other: nil
    }
  }
}

/// Error codes by kind. The throttling list is the SDKs' common one (AWS SDKs and Tools Reference Guide, "Retry behavior")
/// with EC2's and Auto Scaling's own.
extension AWSError.Kind {
  static let throttlingCodes: Set = [
    "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottledException", "TooManyRequestsException",
    "ProvisionedThroughputExceededException", "TransactionInProgressException", "RequestLimitExceeded",
    "BandwidthLimitExceeded", "LimitExceededException", "RequestThrottled", "SlowDown", "PriorRequestNotComplete",
    "EC2ThrottledException", "Client.RequestLimitExceeded",
  ]
  static let transientCodes: Set = [
    "RequestTimeout", "RequestTimeoutException", "InternalError", "InternalFailure", "ServiceUnavailable",
    "Unavailable",
    "InternalServerError", "ResourceContention",
  ]
  static let expiredCodes: Set = ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"]
  static let signatureCodes: Set = [
    "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture", "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "AuthFailure", "SignatureValidationException",
  ]
  static let deniedCodes: Set = [
    "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedAccess", "NotAuthorized",
    "Client.UnauthorizedOperation",
  ]

  init(code: String?, httpStatus: Int) {
    if let code {
      if Self.throttlingCodes.contains(code) { self = .throttled; return }
      if Self.transientCodes.contains(code) { self = .transient; return }
      if Self.expiredCodes.contains(code) { self = .expiredCredentials; return }
      if Self.signatureCodes.contains(code) { self = .signature; return }
      if Self.deniedCodes.contains(code) { self = .denied; return }
    }
    self =
      switch httpStatus {
      case 429: .throttled
      case 500, 502, 503, 504: .transient
      case 403 where code == nil: .denied
      default: .other
      }
  }
}
