internal import Base

/// An Auto Scaling group as DescribeAutoScalingGroups shows it.
package struct AutoScalingGroup: Sendable, Equatable {
  package struct Instance: Sendable, Equatable {
    package let instanceID: String
    package let availabilityZone: String
    /// AWS's own words: `Pending:Wait`, `InService`, …
    package let lifecycleState: String

    package init(instanceID: String, availabilityZone: String, lifecycleState: String) {
      self.instanceID = instanceID
      self.availabilityZone = availabilityZone
      self.lifecycleState = lifecycleState
    }
  }

  package let name: String
  package let desiredCapacity: Int
  /// Names, as this account knows them.
  package let availabilityZones: [String]
  package let instances: [Instance]

  package init(name: String, desiredCapacity: Int, availabilityZones: [String], instances: [Instance]) {
    self.name = name
    self.desiredCapacity = desiredCapacity
    self.availabilityZones = availabilityZones
    self.instances = instances
  }
}

/// The Auto Scaling API (2011-01-01): the handful of actions used. Each throws `AWSError` or `Failure`.
package struct AutoScaling: Sendable {
  private let client: AWSClient

  package init(client: AWSClient) { self.client = client }

  /// 100 is the most that a page holds.
  private static let pageSize = "100"
  /// More pages than any account has groups.
  private static let maximumPages = 1000

  /// The groups of these names that exist.
  /// - Parameter names: empty describes every group of the account and region.
  package func describeAutoScalingGroups(_ names: [String]) async throws -> [AutoScalingGroup] {
    var groups: [AutoScalingGroup] = []
    var parameters = names.enumerated().map { ("AutoScalingGroupNames.member.\($0.offset + 1)", $0.element) }
    parameters.append(("MaxRecords", Self.pageSize))
    var token: String?
    for _ in 0..<Self.maximumPages {
      let page = try await client.query(
        .autoScaling, "DescribeAutoScalingGroups", parameters + (token.map { [("NextToken", $0)] } ?? []))
      guard let result = page.root.child("DescribeAutoScalingGroupsResult") else {
        throw AWSError.unexpected(.autoScaling, "DescribeAutoScalingGroups", page.root.name)
      }
      groups += result.list("AutoScalingGroups").map(AutoScalingGroup.init)
      token = result["NextToken"]
      if token == nil { break }
    }
    return groups
  }

  /// The group that an instance belongs to; nil if it belongs to none.
  package func groupName(ofInstance id: String) async throws -> String? {
    let page = try await client.query(.autoScaling, "DescribeAutoScalingInstances", [("InstanceIds.member.1", id)])
    guard let result = page.root.child("DescribeAutoScalingInstancesResult") else {
      throw AWSError.unexpected(.autoScaling, "DescribeAutoScalingInstances", page.root.name)
    }
    return result.list("AutoScalingInstances").first { $0["InstanceId"] == id }?["AutoScalingGroupName"]
  }

  package enum LifecycleActionResult: String, Sendable {
    case proceed = "CONTINUE"
    case abandon = "ABANDON"
  }

  package func completeLifecycleAction(
    hook: String, group: String, instanceID: String, _ result: LifecycleActionResult
  ) async throws {
    _ = try await client.query(
      .autoScaling, "CompleteLifecycleAction",
      [
        ("LifecycleHookName", hook), ("AutoScalingGroupName", group), ("InstanceId", instanceID),
        ("LifecycleActionResult", result.rawValue),
      ])
  }

  /// No action has this token: who may complete one is told that there is none, and nothing happens.
  private static let noToken = "00000000-0000-4000-8000-000000000000"

  /// Whether the call would be allowed; throws if not.
  package func tryCompletingLifecycleAction(hook: String, group: String) async throws {
    do {
      _ = try await client.query(
        .autoScaling, "CompleteLifecycleAction",
        [
          ("LifecycleHookName", hook), ("AutoScalingGroupName", group), ("LifecycleActionToken", Self.noToken),
          ("LifecycleActionResult", LifecycleActionResult.proceed.rawValue),
        ])
    } catch let error as AWSError where error.code == "ValidationError" {}
  }
}

extension AutoScalingGroup {
  fileprivate init(_ element: XMLElement) {
    name = element["AutoScalingGroupName"] ?? ""
    desiredCapacity = element["DesiredCapacity"].flatMap { Int($0) } ?? 0
    availabilityZones = element.list("AvailabilityZones").map(\.text)
    instances = element.list("Instances").compactMap { instance in
      guard let id = instance["InstanceId"] else { return nil }
      return Instance(
        instanceID: id, availabilityZone: instance["AvailabilityZone"] ?? "",
        lifecycleState: instance["LifecycleState"] ?? "")
    }
  }
}

extension AWSError {
  /// Well-formed XML of another shape: not AWS, or not any more.
  static func unexpected(_ service: AWSService, _ action: String, _ root: String) -> AWSError {
    AWSError(
      service: service, action: action, kind: .malformed, httpStatus: 200, code: nil,
      message: "the body is a \(root.prefix(60)), not the answer to \(action)", requestID: nil, attempts: 1)
  }
}
