/// An AWS service as this program calls it.
package struct AWSService: Sendable, Hashable {
  /// The name in errors, for example `AutoScaling`.
  package let title: String
  /// The signing name, the endpoint's prefix and the prefix of IAM actions: the same word for the services used here.
  package let name: String
  /// The end of `AWS_ENDPOINT_URL_…`.
  package let environmentSuffix: String
  /// Of the Query protocol; empty for services of the JSON protocol.
  package let version: String
  /// The prefix of `X-Amz-Target` in the JSON 1.1 protocol; empty for services of the Query protocol.
  package let target: String

  package static let autoScaling = AWSService(
    title: "AutoScaling", name: "autoscaling", environmentSuffix: "AUTO_SCALING", version: "2011-01-01", target: "")
  package static let ec2 = AWSService(
    title: "EC2", name: "ec2", environmentSuffix: "EC2", version: "2016-11-15", target: "")
  package static let ssm = AWSService(
    title: "SSM", name: "ssm", environmentSuffix: "SSM", version: "", target: "AmazonSSM")
  package static let secretsManager = AWSService(
    title: "SecretsManager", name: "secretsmanager", environmentSuffix: "SECRETS_MANAGER", version: "",
    target: "secretsmanager")
  package static let logs = AWSService(
    title: "CloudWatchLogs", name: "logs", environmentSuffix: "CLOUDWATCH_LOGS", version: "", target: "Logs_20140328")
}

/// An action of an AWS service: what a call, a statement of an IAM policy and a finding of `doctor` name alike.
///
/// Each is declared beside its call, for example `AWSAction.describeInstances` beside `EC2.describeInstances`.
package struct AWSAction: Sendable, Hashable {
  package let service: AWSService
  /// AWS's name, for example `DescribeInstances`.
  package let name: String
  package let resource: Resource

  /// The type of resource that a policy may narrow an action to (AWS Service Authorization Reference).
  package enum Resource: Sendable {
    /// The action has no resource types: a policy allows it for `*` or not at all.
    case any
    case autoScalingGroup
    case parameter
    case secret
    case logGroup
  }

  init(_ service: AWSService, _ name: String, on resource: Resource) {
    self.service = service
    self.name = name
    self.resource = resource
  }

  /// For example `ec2:DescribeInstances`.
  package var iamAction: String { "\(service.name):\(name)" }
}
