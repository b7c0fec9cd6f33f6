package import Base

/// Why there are no AWS credentials.
package enum CredentialError: ExplainedError, Sendable, Equatable {
  /// No source has any.
  case noneFound
  /// Only one of the two environment variables for keys is set.
  case incompleteEnvironment
  /// A profile that gets its credentials in a way that is not supported.
  case unsupportedProfile(name: String, key: String)
  /// `AWS_PROFILE` names a profile that is in none of the files.
  case noProfile(name: String, paths: [String])
  case unreadableConfiguration(FileError)
  case untrustedContainerEndpoint(url: String)
  case unreadableContainerToken(FileError)
  /// The container endpoint gave no answer, or another status than 200.
  case containerEndpoint(url: String, reason: String)
  case containerDocument(url: String, CredentialDocumentError)
  /// The instance has no instance profile.
  case noRole
  case roleDocument(role: String, CredentialDocumentError)

  /// What failed.
  package var summary: String {
    switch self {
    case .noneFound: "no AWS credentials found"
    case .incompleteEnvironment: "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set"
    case .unsupportedProfile(let name, let key):
      "profile \(name) uses \(key), which consul-bootstrap does not support"
    case .noProfile(let name, _): "there is no AWS profile \(name)"
    case .unreadableConfiguration: "cannot read the AWS configuration"
    case .untrustedContainerEndpoint(let url):
      "AWS_CONTAINER_CREDENTIALS_FULL_URI is \(url), which is neither HTTPS nor local"
    case .unreadableContainerToken: "cannot read the container authorization token"
    case .containerEndpoint, .containerDocument: "the container credentials endpoint gave no credentials"
    case .noRole: "this instance has no role"
    case .roleDocument(let role, _): "the metadata service gave no credentials for role \(role)"
    }
  }

  /// The exact cause, where it is more than the summary.
  package var cause: String? {
    switch self {
    case .noneFound:
      "searched the environment, the shared config and credentials files, the container endpoint and the instance role"
    case .noProfile(_, let paths): "searched \(paths.joined(separator: " and "))"
    case .unreadableConfiguration(let error), .unreadableContainerToken(let error): error.explanation
    case .containerEndpoint(let url, let reason): "\(url): \(reason)"
    case .containerDocument(let url, let error): "\(url): the credentials document \(error.reason)"
    case .noRole: "the metadata service lists no role under iam/security-credentials/"
    case .roleDocument(_, let error): "the credentials document \(error.reason)"
    case .incompleteEnvironment, .unsupportedProfile, .untrustedContainerEndpoint: nil
    }
  }

  /// What to do about it.
  package var hint: String? {
    switch self {
    case .noneFound:
      "attach an instance profile to this instance, or set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    case .incompleteEnvironment: "set both, or neither to use the instance role"
    case .unsupportedProfile:
      "use static keys in the profile, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the instance role"
    case .noProfile: "correct AWS_PROFILE, or unset it to use the instance role"
    case .untrustedContainerEndpoint:
      "use https://, or http:// with a loopback address, 169.254.170.2, 169.254.170.23 or fd00:ec2::23"
    case .unreadableContainerToken: "check AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE and the permissions of the file"
    case .noRole: "attach an instance profile to the instance or its launch template"
    case .roleDocument(_, .refused), .roleDocument(_, .notFound), .roleDocument(_, .noKeys):
      "check that the role's trust policy lets ec2.amazonaws.com assume it"
    case .roleDocument, .unreadableConfiguration, .containerEndpoint, .containerDocument: nil
    }
  }

  package var explanation: String { oneLine(summary, cause: cause, hint: hint) }
}

/// Why a credentials document cannot be used.
package enum CredentialDocumentError: Error, Sendable, Equatable {
  case notFound
  /// Its `Code` is another than `Success`.
  case refused(code: String)
  case noKeys
  case noExpiration
  case notJSON(reason: String)

  /// To follow "the credentials document".
  package var reason: String {
    switch self {
    case .notFound: "does not exist"
    case .refused(let code): "has the code \(code)"
    case .noKeys: "has no AccessKeyId or SecretAccessKey"
    case .noExpiration: "has an Expiration that is not an ISO 8601 date"
    case .notJSON(let reason): "is not JSON: \(reason)"
    }
  }
}
