package import Base
package import Model

/// The least that a role needs for a run with these settings, its sidecar included; resources are narrowed where AWS's service
/// authorization reference lists a resource type for the action.
package struct IAMPolicy: Sendable, Equatable {
  package struct Statement: Sendable, Equatable {
    package let sid: String
    package let actions: [String]
    package let resources: [String]
  }

  package let statements: [Statement]

  /// - Parameters:
  ///   - region: of the resources; `*` for any.
  ///   - account: twelve digits, or `*` for any.
  package init(_ settings: Settings, region: String, account: String) {
    let names = ResourceNames(region: region, account: account)
    let groups = settings.groupResourceNames(names)
    var list: [Statement] = []
    func allow(_ sid: String, _ actions: [String], _ resources: [String] = ["*"]) {
      if !actions.isEmpty { list.append(Statement(sid: sid, actions: actions, resources: resources)) }
    }
    // Describe actions know no resources.
    var describing = ["ec2:DescribeInstances"]
    if case .tags = settings.membership {} else { describing.append("autoscaling:DescribeAutoScalingGroups") }
    if settings.asksForOwnGroup { describing.append("autoscaling:DescribeAutoScalingInstances") }
    allow("DiscoverServers", describing.sorted())
    if settings.lifecycleHook != nil { allow("CompleteLifecycleHook", ["autoscaling:CompleteLifecycleAction"], groups) }
    let parameters = settings.secretReferences.compactMap {
      if case .ssm(let name) = $0 { names.parameter(name) } else { nil }
    }
    if !parameters.isEmpty { allow("ReadParameters", ["ssm:GetParameter"], parameters.unique) }
    if settings.createsGossipKey, case .ssm(let name)? = settings.gossipKey {
      allow("CreateGossipKey", ["ssm:PutParameter"], [names.parameter(name)])
    }
    let secrets = settings.secretReferences.compactMap {
      if case .secretsManager(let id, _) = $0 { names.secret(id) } else { nil }
    }
    if !secrets.isEmpty { allow("ReadSecrets", ["secretsmanager:GetSecretValue"], secrets.unique) }
    if !settings.logs.isEmpty {
      allow("ForwardLogs", settings.logActions.sorted(), settings.logGroupPatterns.flatMap(names.logGroup))
    }
    statements = list
  }

  package var actions: [String] { statements.flatMap(\.actions) }

  package var json: JSONValue {
    .object([
      "Version": "2012-10-17",
      "Statement": .array(
        statements.map { statement in
          .object([
            "Sid": .string(statement.sid), "Effect": "Allow", "Action": .strings(statement.actions),
            "Resource": .strings(statement.resources),
          ])
        }),
    ])
  }
}

/// Amazon resource names, as the service authorization reference forms them.
private struct ResourceNames {
  let region: String
  let account: String

  /// By the beginning of the region's name (botocore's `partitions.json`). No star may stand for one.
  private static let partitions = [
    "cn-": "aws-cn", "us-gov-": "aws-us-gov", "us-iso-": "aws-iso", "us-isob-": "aws-iso-b", "eu-isoe-": "aws-iso-e",
    "us-isof-": "aws-iso-f",
    "eu-isof-": "aws-iso-f", "eusc-": "aws-eusc",
  ]

  private var partition: String {
    Self.partitions.first { region.hasPrefix($0.key) }?.value ?? "aws"
  }

  private func name(_ service: String, _ resource: String) -> String {
    "arn:\(partition):\(service):\(region):\(account):\(resource)"
  }

  func parameter(_ name: String) -> String {
    if name.hasPrefix("arn:") { return name }
    // GetParameter takes name:version and name:label; the resource is the parameter.
    let plain = name.split(separator: ":", maxSplits: 1).first.map(String.init) ?? name
    return self.name("ssm", "parameter\(plain.hasPrefix("/") ? "" : "/")\(plain)")
  }

  /// Secrets Manager appends a hyphen and six characters to a secret's name.
  func secret(_ id: String) -> String { id.hasPrefix("arn:") ? id : name("secretsmanager", "secret:\(id)-??????") }

  func scalingGroup(_ group: String) -> String {
    name("autoscaling", "autoScalingGroup:*:autoScalingGroupName/\(group)")
  }

  /// The group itself, and the streams in it.
  func logGroup(_ pattern: String) -> [String] {
    [name("logs", "log-group:\(pattern)"), name("logs", "log-group:\(pattern):*")]
  }
}

extension Settings {
  fileprivate var asksForOwnGroup: Bool {
    membership == .ownGroup || lifecycleHook != nil || logNamesNeedGroup
  }

  /// A server counts itself among the groups that it names; a client is in another.
  fileprivate func groupResourceNames(_ names: ResourceNames) -> [String] {
    guard role == .server, case .groups(let groups) = membership else { return [names.scalingGroup("*")] }
    return groups.map(names.scalingGroup)
  }

  fileprivate var logActions: [String] {
    // AWS's own agents make what they need, and so does the sidecar.
    var actions = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
    if logRetention != nil || logs.contains(where: { $0.retention != nil }) {
      actions.append("logs:PutRetentionPolicy")
    }
    if !logTags.isEmpty { actions.append("logs:TagResource") }
    if logAgent != nil { actions.append("logs:DescribeLogStreams") }
    return actions
  }

  /// The names of the log groups; a star for what each instance fills in for itself.
  fileprivate var logGroupPatterns: [String] {
    logs.map { log in
      NameTemplate.expand(log.group ?? logGroup) { field in
        switch field {
        case "datacenter" where layout == .single: datacenter
        // Each file that matches has its own.
        case "source" where !log.source.isPattern: log.source.nameInStream
        default: "*"
        }
      } ?? "*"
    }.unique
  }
}

extension [String] {
  /// Each once, in the order of their first appearance.
  fileprivate var unique: [String] {
    var seen: Set<String> = []
    return filter { seen.insert($0).inserted }
  }
}
