internal import AWS
package import Base
package import Model

/// The least that a role needs for a run with these settings, its sidecar included; resources are narrowed where AWS's
/// Service Authorization Reference lists a resource type for the action.
package struct IAMPolicy: Sendable, Equatable {
  package struct Statement: Sendable, Equatable {
    package let sid: String
    package fileprivate(set) var actions: [String]
    package let resources: [String]
  }

  package let statements: [Statement]

  /// - Parameters:
  ///   - region: region of the resources; `*` for any.
  ///   - account: account of the resources, twelve digits; `*` for any.
  package init(_ settings: Settings, region: String, account: String) {
    let names = ResourceNames(region: region, account: account)
    var list: [Statement] = []
    for permission in IAMPermission.all {
      let resources = permission.names(settings).flatMap { names.resources(permission.action.resource, $0) }.unique
      guard !resources.isEmpty else { continue }
      let action = permission.action.iamAction
      if let index = list.firstIndex(where: { $0.sid == permission.sid && $0.resources == resources }) {
        list[index].actions.append(action)
      } else {
        list.append(Statement(sid: permission.sid, actions: [action], resources: resources))
      }
    }
    for index in list.indices { list[index].actions.sort() }
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

/// Amazon resource names (service authorization reference).
private struct ResourceNames {
  let region: String
  let account: String

  /// A policy cannot have `*` for a partition.
  private var partition: String { Partition.of(region: region).name }

  private func name(_ service: String, _ resource: String) -> String {
    "arn:\(partition):\(service):\(region):\(account):\(resource)"
  }

  /// The resources of a type that a policy names for one name.
  func resources(_ type: AWSAction.Resource, _ name: String) -> [String] {
    switch type {
    case .any: ["*"]
    case .autoScalingGroup: [self.name("autoscaling", "autoScalingGroup:*:autoScalingGroupName/\(name)")]
    case .parameter: [parameter(name)]
    case .secret: [secret(name)]
    // The group itself, and the streams in it.
    case .logGroup: [self.name("logs", "log-group:\(name)"), self.name("logs", "log-group:\(name):*")]
    }
  }

  private func parameter(_ name: String) -> String {
    if name.hasPrefix("arn:") { return name }
    // GetParameter accepts name:version and name:label; the resource is the parameter.
    let plain = name.split(separator: ":", maxSplits: 1).first.map(String.init) ?? name
    return self.name("ssm", "parameter\(plain.hasPrefix("/") ? "" : "/")\(plain)")
  }

  /// Secrets Manager appends a hyphen and six characters to a secret's name.
  private func secret(_ id: String) -> String {
    id.hasPrefix("arn:") ? id : name("secretsmanager", "secret:\(id)-??????")
  }
}

extension [String] {
  /// Without repetitions, in the order of the first appearance.
  fileprivate var unique: [String] {
    var seen: Set<String> = []
    return filter { seen.insert($0).inserted }
  }
}
