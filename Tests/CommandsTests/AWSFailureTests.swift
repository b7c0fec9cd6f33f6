import AWS
import Base
import Model
import Testing

/// What a person meets where metadata, credentials or AWS fail. The exit statuses are part of the interface.
@Suite struct AWSFailureTests {
  private static let denied = FileError("open", "/root/.aws/config", errno: 13, reason: "Permission denied")

  static let metadata: [(MetadataError, [String])] = [
    (
      .disabled,
      [
        "instance metadata is disabled by AWS_EC2_METADATA_DISABLED", "  hint: unset AWS_EC2_METADATA_DISABLED",
      ]
    ),
    (
      .noTokenAnswer(url: "http://imds/latest/api/token", .timedOut(whileConnecting: false), attempts: 3),
      [
        "the instance metadata service accepts the request for a token but does not answer it",
        "  http://imds/latest/api/token: no answer in time, tried 3 times",
        "  hint: inside a container without host networking the answer exceeds the hop limit; set the instance's "
          + "HttpPutResponseHopLimit to 2 (aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2)",
      ]
    ),
    (
      .noAnswer(url: "http://imds/a", .refused, attempts: 3),
      [
        "no instance metadata service answers", "  http://imds/a: connection refused, tried 3 times",
        "  hint: run this on an EC2 instance, check that no firewall drops 169.254.169.254, and that the metadata "
          + "options of the instance enable the HTTP endpoint; inside a container the hop limit must be 2",
      ]
    ),
    (
      .noToken(endpoint: "http://imds", status: 404),
      [
        "the instance metadata service gave no IMDSv2 token", "  http://imds answered HTTP 404",
        "  hint: if this service supports only IMDSv1, allow it with --imdsv1",
      ]
    ),
    (
      .noToken(endpoint: "http://imds", status: 403),
      [
        "the instance metadata service gave no IMDSv2 token", "  http://imds answered HTTP 403",
        "  hint: enable the HTTP endpoint in the metadata options of this instance",
      ]
    ),
    (
      .refused(endpoint: "http://imds", path: "/a", status: 401),
      [
        "the instance metadata service refused /a",
        "  http://imds answered HTTP 401 to the IMDSv2 token that it has just issued",
      ]
    ),
    (
      .refused(endpoint: "http://imds", path: "/a", status: 403),
      [
        "the instance metadata service refused /a", "  http://imds answered HTTP 403",
        "  hint: check that the metadata options of this instance enable the HTTP endpoint",
      ]
    ),
    (
      .missing("identity document", path: "/d"),
      ["the instance metadata service has no identity document", "  /d: HTTP 404"]
    ),
    (
      .malformed("identity document", path: "/d", reason: "it has no region"),
      ["cannot read the instance's identity document", "  /d: it has no region"]
    ),
  ]

  @Test(arguments: metadata)
  func `an instance without metadata ends with status 10`(_ error: MetadataError, _ lines: [String]) throws {
    let failure = try #require(error.asFailure("do something") as? Failure)
    #expect(failure.status == .noMetadata)
    #expect(failure.lines == lines)
  }

  static let credentials: [(CredentialError, [String])] = [
    (
      .noneFound,
      [
        "no AWS credentials found",
        "  searched the environment, the shared config and credentials files, the container endpoint and the "
          + "instance role",
        "  hint: attach an instance profile to this instance, or set AWS_PROFILE or AWS_ACCESS_KEY_ID and "
          + "AWS_SECRET_ACCESS_KEY",
      ]
    ),
    (
      .incompleteEnvironment,
      [
        "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set",
        "  hint: set both, or neither to use the instance role",
      ]
    ),
    (
      .unsupportedProfile(name: "web", key: "role_arn"),
      [
        "profile web uses role_arn, which consul-bootstrap does not support",
        "  hint: use static keys in the profile, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the instance role",
      ]
    ),
    (
      .noProfile(name: "web", paths: ["/a", "/b"]),
      [
        "there is no AWS profile web", "  searched /a and /b",
        "  hint: correct AWS_PROFILE, or unset it to use the instance role",
      ]
    ),
    (
      .unreadableConfiguration(denied),
      ["cannot read the AWS configuration", "  open /root/.aws/config: Permission denied"]
    ),
    (
      .untrustedContainerEndpoint(url: "http://x/"),
      [
        "AWS_CONTAINER_CREDENTIALS_FULL_URI is http://x/, which is neither HTTPS nor local",
        "  hint: use https://, or http:// with a loopback address, 169.254.170.2, 169.254.170.23 or fd00:ec2::23",
      ]
    ),
    (
      .unreadableContainerToken(denied),
      [
        "cannot read the container authorization token", "  open /root/.aws/config: Permission denied",
        "  hint: check AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE and the permissions of the file",
      ]
    ),
    (
      .containerEndpoint(url: "http://x/", reason: "answered HTTP 404"),
      ["the container credentials endpoint gave no credentials", "  http://x/: answered HTTP 404"]
    ),
    (
      .containerDocument(url: "http://x/", .notJSON(reason: "r")),
      [
        "the container credentials endpoint gave no credentials",
        "  http://x/: the credentials document is not JSON: r",
      ]
    ),
    (
      .noRole,
      [
        "this instance has no role", "  the metadata service lists no role under iam/security-credentials/",
        "  hint: attach an instance profile to the instance or its launch template",
      ]
    ),
    (
      .roleDocument(role: "web", .refused(code: "AssumeRoleUnauthorizedAccess")),
      [
        "the metadata service gave no credentials for role web",
        "  the credentials document has the code AssumeRoleUnauthorizedAccess",
        "  hint: check that the role's trust policy lets ec2.amazonaws.com assume it",
      ]
    ),
    (
      .roleDocument(role: "web", .noExpiration),
      [
        "the metadata service gave no credentials for role web",
        "  the credentials document has an Expiration that is not an ISO 8601 date",
      ]
    ),
  ]

  @Test(arguments: credentials)
  func `an instance without credentials ends with status 11`(_ error: CredentialError, _ lines: [String]) throws {
    let failure = try #require(error.asFailure("do something") as? Failure)
    #expect(failure.status == .noCredentials)
    #expect(failure.lines == lines)
  }

  @Test func `what is neither of AWS nor of its credentials stays what it is`() {
    #expect(CancellationError().asFailure("x") is CancellationError)
    let failure = Failure(.usage, "m")
    #expect(failure.asFailure("x") as? Failure == failure)
  }
}
