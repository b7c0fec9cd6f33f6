package import Base

/// Why the instance metadata service gave no answer that can be used.
package enum MetadataError: ExplainedError, Sendable, Equatable {
  /// `AWS_EC2_METADATA_DISABLED` is set.
  case disabled
  /// The service accepted the request for a token and did not answer it: the answer exceeds the hop limit.
  case noTokenAnswer(url: String, TransportError, attempts: Int)
  case noAnswer(url: String, TransportError, attempts: Int)
  /// The request for an IMDSv2 token was answered with this status.
  case noToken(endpoint: String, status: Int)
  /// A status other than 200 and 404.
  case refused(endpoint: String, path: String, status: Int)
  /// A path that every instance has answered 404.
  case missing(String, path: String)
  case malformed(String, path: String, reason: String)
  /// An instance of a subnet with IPv6 only.
  case noIPv4Address

  /// What failed.
  package var summary: String {
    switch self {
    case .disabled: "instance metadata is disabled by AWS_EC2_METADATA_DISABLED"
    case .noTokenAnswer: "the instance metadata service accepts the request for a token but does not answer it"
    case .noAnswer: "no instance metadata service answers"
    case .noToken: "the instance metadata service gave no IMDSv2 token"
    case .refused(_, let path, _): "the instance metadata service refused \(path)"
    case .missing(let what, _): "the instance metadata service has no \(what)"
    case .malformed(let what, _, _): "cannot read the instance's \(what)"
    case .noIPv4Address: "this instance has no private IPv4 address"
    }
  }

  /// The exact cause, where it is more than the summary.
  package var cause: String? {
    switch self {
    case .disabled: nil
    case .noIPv4Address: "its identity document has no privateIp: its subnet has IPv6 only"
    case .noTokenAnswer(let url, let error, let attempts), .noAnswer(let url, let error, let attempts):
      "\(url): \(error.explanation), tried \(attempts) times"
    case .noToken(let endpoint, let status): "\(endpoint) answered HTTP \(status)"
    case .refused(let endpoint, _, let status):
      "\(endpoint) answered HTTP \(status)" + (status == 401 ? " to the IMDSv2 token that it has just issued" : "")
    case .missing(_, let path): "\(path): HTTP 404"
    case .malformed(_, let path, let reason): "\(path): \(reason)"
    }
  }

  /// What to do about it.
  package var hint: String? {
    switch self {
    case .disabled: "unset AWS_EC2_METADATA_DISABLED"
    case .noIPv4Address: "launch it in a subnet with IPv4 addresses; clusters of IPv6 addresses are not supported"
    case .noTokenAnswer:
      "inside a container without host networking the answer exceeds the hop limit; set the instance's "
        + "HttpPutResponseHopLimit to 2 (aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2)"
    case .noAnswer:
      "run this on an EC2 instance, check that no firewall drops 169.254.169.254, and that the metadata options of "
        + "the instance enable the HTTP endpoint; inside a container the hop limit must be 2"
    case .noToken(_, 403): "enable the HTTP endpoint in the metadata options of this instance"
    case .noToken: "if this service supports only IMDSv1, allow IMDSv1"
    case .refused(_, _, 401), .missing, .malformed: nil
    case .refused: "check that the metadata options of this instance enable the HTTP endpoint"
    }
  }

  package var explanation: String { oneLine(summary, cause: cause, hint: hint) }
}
