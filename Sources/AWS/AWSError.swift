internal import Base

/// What an AWS service, or the network on the way to it, answered instead of a result.
package struct AWSError: ExplainedError, Sendable, Equatable {
  package enum Kind: Sendable, Equatable {
    /// The caller, the account or the region exceeds a rate limit.
    case throttled
    /// 5xx, time-outs, broken connections: the same call may succeed later.
    case transient
    /// The credentials have expired.
    case expiredCredentials
    /// The signature or its time was rejected: a wrong clock causes either.
    case signature
    /// The credentials are not allowed to do this.
    case denied
    /// The answer is not what the API documents: a proxy, a captive portal, a truncated body.
    case malformed
    case other
  }

  package let service: AWSService
  /// Nil where the service was only probed.
  package let action: AWSAction?
  package let kind: Kind
  /// Nil if there was no HTTP answer.
  package let httpStatus: Int?
  /// AWS's error code, for example `AccessDenied`.
  package let code: String?
  package let message: String?
  package let requestID: String?
  /// The role whose credentials signed the call; nil if unknown.
  package let role: String?
  /// How often the call was attempted.
  package var attempts: Int

  package var isRetryable: Bool { kind == .throttled || kind == .transient || kind == .malformed }

  /// IAM is eventually consistent: a new role, instance profile or policy is refused at first.
  package var mayBeNew: Bool {
    switch kind {
    case .denied, .expiredCredentials: true
    // The same of credentials that AWS does not know yet: of the Query protocol, of EC2, of the JSON protocol.
    default: ["InvalidClientTokenId", "AuthFailure", "UnrecognizedClientException"].contains(code)
    }
  }

  /// The exact cause, in one line.
  package var explanation: String {
    var text = [service.title, action?.name].compactMap { $0 }.joined(separator: " ")
    if let httpStatus {
      let details = [code == nil ? nil : "HTTP \(httpStatus)", requestID.map { "request \($0)" }].compactMap { $0 }
      text += " answered \(code ?? "HTTP \(httpStatus)")"
      if !details.isEmpty { text += " (\(details.joined(separator: ", ")))" }
      if let message, !message.isEmpty { text += ": \(message)" }
    } else {
      text += " got no answer: \(message ?? "unknown reason")"
    }
    return attempts > 1 ? text + " after \(attempts) attempts" : text
  }

  /// Each answer of AWS has a request ID of its own, and messages quote those of other services, KMS for example.
  package var stableExplanation: String {
    [service.title, action?.name, httpStatus.map(String.init), code ?? message].compactMap { $0 }
      .joined(separator: " ")
  }

  /// What failed, with the kind of the cause.
  /// - Parameter purpose: what the call was for, to follow `cannot`.
  package func summary(_ purpose: String) -> String {
    let why =
      switch kind {
      case .throttled: "throttled"
      case .transient: httpStatus == nil ? "no answer" : "the service failed"
      case .expiredCredentials: "the credentials have expired"
      case .signature: "the signature was refused"
      case .denied: "access denied"
      case .malformed: "malformed answer"
      case .other: "refused"
      }
    return "cannot \(purpose): \(why)"
  }

  /// Summary, exact cause and hint in one line, for logs.
  package func explanation(_ purpose: String) -> String {
    oneLine(summary(purpose), cause: explanation, hint: hint)
  }

  /// What to do about it.
  package var hint: String? {
    switch kind {
    case .denied:
      "allow \(action?.iamAction ?? service.name) for \(role.map { "role \($0)" } ?? "these credentials")"
    case .signature: "check this machine's clock (timedatectl) and the credentials"
    case .expiredCredentials: "renew the credentials; those of an instance role renew themselves"
    case .malformed: "check for a proxy between this instance and AWS, and AWS_ENDPOINT_URL if it is set"
    case .transient where httpStatus == nil:
      "check the route to AWS: a NAT gateway or a VPC endpoint for \(service.name), the security groups, DNS"
    case .throttled: "retry later; other callers of this account and region use up the rate limit"
    case .other where mayBeNew:
      "AWS does not know these credentials: check whether the instance's role, or the user of the keys, still exists"
    case .transient, .other: nil
    }
  }
}

/// What failed, the exact cause and the hint of an error in one line.
func oneLine(_ summary: String, cause: String?, hint: String?) -> String {
  [summary, cause].compactMap { $0 }.joined(separator: ": ") + (hint.map { "; hint: \($0)" } ?? "")
}

extension AWSError {
  /// An answer with status 200 that is not what the API documents.
  static func malformed(
    _ action: AWSAction, _ message: String, requestID: String?, role: String?, attempts: Int
  ) -> AWSError {
    AWSError(
      service: action.service, action: action, kind: .malformed, httpStatus: 200, code: nil, message: message,
      requestID: requestID, role: role, attempts: attempts)
  }

  /// No answer at all.
  static func noAnswer(
    _ service: AWSService, _ action: AWSAction?, _ error: TransportError, url: String, role: String?, attempts: Int
  ) -> AWSError {
    AWSError(
      service: service, action: action, kind: .transient, httpStatus: nil, code: nil,
      message: "\(url): \(error.explanation)", requestID: nil, role: role, attempts: attempts)
  }

  /// Reads an answer that is not 200: the Query protocol's `Error` or `Errors/Error`, or the JSON protocol's `__type`
  /// and `message`, whatever the service's own protocol: gateways before it may use the other. A body that is neither
  /// is quoted.
  /// - Parameter signer: whose secrets AWS may quote: SignatureDoesNotMatch comes with the canonical request, which
  ///   includes the session token.
  init(_ response: HTTPResponse, _ action: AWSAction, signer: Credentials, attempts: Int) {
    var code: String?, message: String?
    var requestID = response.headers["x-amzn-requestid"]
    if let root = try? XMLDocument(parsing: response.body).root {
      let error = root.child("Error") ?? root.child("Errors")?.child("Error")
      (code, message) = (error?["Code"], error?["Message"])
      requestID = root["RequestId"] ?? root["RequestID"] ?? requestID
    } else if let body = try? JSONValue(parsing: response.body) {
      // `__type` may be qualified: `com.amazon.coral.service#ThrottlingException`.
      code = body["__type"]?.string?.split(separator: "#").last.map(String.init)
      // Services spell it either way.
      message = body["message"]?.string ?? body["Message"]?.string
    }
    if code == nil, message == nil, !response.body.isEmpty {
      // Redacted before it is cut: a part of a secret would not be recognized.
      let start = signer.redacting(String(response.text.prefix(1 << 14))).prefix(200)
      message = "not an error of AWS: \(start.split(whereSeparator: \.isWhitespace).joined(separator: " "))"
    }
    self.init(
      service: action.service, action: action, kind: Kind(code: code, httpStatus: response.status),
      httpStatus: response.status, code: code.map { String($0.prefix(100)) },
      message: message.map { String(signer.redacting($0).prefix(400)) },
      requestID: requestID.map { String($0.prefix(64)) }, role: signer.roleName, attempts: attempts)
  }
}

/// Error codes by kind. The throttling list is the SDKs' common one (AWS SDKs and Tools Reference Guide, "Retry
/// behavior") with EC2's and Auto Scaling's own.
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
