import AWS
import Base
import Foundation
import Testing

@testable import Artifacts
@testable import Model

/// The minimal policy of a run.
@Suite struct IAMPolicyTests {
  private func policy(_ region: String = "eu-west-1", _ change: (inout Settings) -> Void) -> IAMPolicy {
    var settings = Settings()
    change(&settings)
    return IAMPolicy(settings, region: region, account: "123456789012")
  }

  private func resources(_ action: String, _ policy: IAMPolicy) -> [String] {
    policy.statements.first { $0.actions.contains(action) }?.resources ?? []
  }

  @Test func `without options a run only describes`() {
    #expect(
      policy { _ in }.actions == [
        "autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances", "ec2:DescribeInstances",
      ])
    #expect(
      policy { $0.membership = .groups(["a"]) }.actions == [
        "autoscaling:DescribeAutoScalingGroups", "ec2:DescribeInstances",
      ])
    #expect(policy { $0.membership = .tags([.init(key: "a", value: "b")]) }.actions == ["ec2:DescribeInstances"])
  }

  /// Whether its group wants more servers, tags do not tell.
  @Test(arguments: [Settings.Role.server, .client])
  func `a server that tags find asks for its group before it leaves`(_ role: Settings.Role) {
    let actions = policy {
      ($0.membership, $0.terminationHook, $0.role) = (.tags([.init(key: "a", value: "b")]), "ending", role)
    }.actions
    #expect(actions.contains("autoscaling:DescribeAutoScalingGroups") == (role == .server))
  }

  /// A wildcard only where the instances differ.
  @Test(arguments: [
    ("/consul/{datacenter}", Settings.Layout.single, "/consul/dc1"),
    ("/consul/{datacenter}", .datacenterPerAZ, "/consul/*"),
    ("/{group}/{az}", .single, "/*/*"), ("/app/{source}", .single, "/app/var/log/app.log"),
    ("/plain", .single, "/plain"),
  ])
  func `log groups are restricted as far as their names are known`(
    _ template: String, _ layout: Settings.Layout, _ name: String
  ) {
    let found = policy {
      $0.layout = layout
      $0.logGroup = template
      $0.logs = [.init(source: .file(FilePattern("/var/log/app.log")!))]
    }
    let arn = "arn:aws:logs:eu-west-1:123456789012:log-group:\(name)"
    #expect(resources("logs:PutLogEvents", found) == [arn, arn + ":*"])
  }

  @Test func `each source with a group of its own has that group as a resource`() {
    let found = policy {
      $0.logs = [.init(source: .consul), .init(source: .bootstrap), .init(source: .file(FilePattern("/a/*.log")!))]
      $0.logs[2].group = "/a/{source}"
      $0.logs[2].retention = 7
    }
    #expect(
      resources("logs:CreateLogGroup", found).filter { !$0.hasSuffix(":*") }.map { $0.split(separator: ":").last } == [
        "/consul/dc1", "/a/*",
      ])
    #expect(found.actions.contains("logs:PutRetentionPolicy"))
  }

  /// AWS compares the list's path as it is given, with a slash at its end.
  @Test func `a cluster's record has the parameters below its path`() {
    let found = policy {
      $0.clusterRecord = "/consul/web/cluster"
      $0.layout = .datacenterPerAZ
    }
    let record = "arn:aws:ssm:eu-west-1:123456789012:parameter/consul/web/cluster/*"
    for action in ["GetParameter", "GetParametersByPath", "PutParameter"] {
      #expect(resources("ssm:\(action)", found) == [record])
    }
  }

  @Test func `secrets have the ARNs of their services`() {
    let found = policy {
      $0.gossipKey = SecretReference("ssm:/consul/gossip")
      $0.createsGossipKey = true
      $0.agentToken = SecretReference("secretsmanager:consul/token#value")
      $0.tls.ca = SecretReference("ssm:ca:3")
      $0.tls.cert = SecretReference("file:/etc/cert.pem")
      $0.tls.key = SecretReference("secretsmanager:arn:aws:secretsmanager:eu-west-1:210987654321:secret:key-AbCdEf")
    }
    let parameter = "arn:aws:ssm:eu-west-1:123456789012:parameter/"
    #expect(resources("ssm:GetParameter", found) == [parameter + "consul/gossip", parameter + "ca"])
    #expect(resources("ssm:PutParameter", found) == [parameter + "consul/gossip"])
    #expect(
      resources("secretsmanager:GetSecretValue", found) == [
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:consul/token-??????",
        "arn:aws:secretsmanager:eu-west-1:210987654321:secret:key-AbCdEf",
      ])
  }

  @Test(arguments: [
    ("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("eusc-de-east-1", "aws-eusc"),
    ("*", "aws"),
  ])
  func `the partition is the region's`(_ region: String, _ partition: String) {
    let found = policy(region) {
      $0.membership = .groups(["consul"])
      $0.lifecycleHook = "ready"
    }
    #expect(
      resources("autoscaling:CompleteLifecycleAction", found) == [
        "arn:\(partition):autoscaling:\(region):123456789012:autoScalingGroup:*:autoScalingGroupName/consul"
      ])
  }

  /// A client is in another group than the servers, whose name the settings do not contain.
  @Test func `a client's hook may belong to any group`() {
    let found = policy {
      $0.role = .client
      $0.membership = .groups(["consul"])
      $0.lifecycleHook = "ready"
    }
    #expect(
      resources("autoscaling:CompleteLifecycleAction", found).allSatisfy { $0.hasSuffix("autoScalingGroupName/*") })
  }

  @Test func `everything at once is a valid policy`() {
    let found = policy {
      $0.lifecycleHook = "ready"
      $0.gossipKey = SecretReference("ssm:/consul/gossip")
      $0.createsGossipKey = true
      $0.clusterRecord = "/consul/web/cluster"
      $0.agentToken = SecretReference("secretsmanager:consul/token")
      $0.logs = [.init(source: .consul)]
      $0.logRetention = 7
      $0.logTags = [.init(key: "team", value: "platform")]
      $0.logAgent = .awslogs
    }
    #expect(Set(found.actions) == Set(IAMPermission.all.map(\.action.iamAction)))
    #expect(Set(found.statements.map(\.sid)).count == found.statements.count, "IAM refuses a Sid that comes twice")
    for statement in found.statements {
      #expect(statement.actions == statement.actions.sorted())
      // AWS's Service Authorization Reference: these, and only these, know no resources.
      let describes = statement.actions.allSatisfy { !$0.matches(of: /^(ec2|autoscaling):Describe/).isEmpty }
      #expect((statement.resources == ["*"]) == describes, "\(statement.sid)")
    }
  }

  /// An action that is called and in no policy is refused on every machine that keeps to the least privilege.
  @Test func `every action of the AWS target has its permission, once`() throws {
    let sources = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../Sources/AWS")
    var declared: [String] = []
    for file in try FileManager.default.contentsOfDirectory(at: sources, includingPropertiesForKeys: nil) {
      let text = try String(contentsOf: file, encoding: .utf8)
      declared += text.matches(of: /AWSAction\(\s*\.\w+,\s*"(\w+)"/).map { String($0.1) }
    }
    #expect(declared.count >= 13)
    #expect(declared.sorted() == IAMPermission.all.map(\.action.name).sorted())
  }
}
