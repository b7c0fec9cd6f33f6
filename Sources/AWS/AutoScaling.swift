/// An Auto Scaling group as DescribeAutoScalingGroups shows it.
package struct AutoScalingGroup: Sendable, Equatable {
  package struct Instance: Sendable, Equatable {
    package let instanceID: String
    package let availabilityZone: String
    /// As AWS spells it: `Pending:Wait`, `InService`, …
    package let lifecycleState: String
    /// Of a group that counts in units, as mixed instances policies may.
    package let weightedCapacity: Int?

    package init(instanceID: String, availabilityZone: String, lifecycleState: String, weightedCapacity: Int? = nil) {
      self.instanceID = instanceID
      self.availabilityZone = availabilityZone
      self.lifecycleState = lifecycleState
      self.weightedCapacity = weightedCapacity
    }
  }

  package let name: String
  package let desiredCapacity: Int
  /// Names, as this account knows them; at least one.
  package let availabilityZones: [String]
  package let instances: [Instance]
  /// Names, as AWS has them: `Launch`, `Terminate`, `ReplaceUnhealthy`, …
  package let suspendedProcesses: [String]
  /// Nil if the answer does not have it.
  package let maxSize: Int?
  /// One or more, separated by commas: `EC2`, `ELB`, …
  package let healthCheckType: String?

  package init(
    name: String, desiredCapacity: Int, availabilityZones: [String], instances: [Instance],
    suspendedProcesses: [String] = [], maxSize: Int? = nil, healthCheckType: String? = nil
  ) {
    (self.maxSize, self.healthCheckType) = (maxSize, healthCheckType)
    self.name = name
    self.desiredCapacity = desiredCapacity
    self.availabilityZones = availabilityZones
    self.instances = instances
    self.suspendedProcesses = suspendedProcesses
  }
}

extension AWSAction {
  package static let describeAutoScalingGroups = AWSAction(.autoScaling, "DescribeAutoScalingGroups", on: .any)
  package static let describeAutoScalingInstances = AWSAction(.autoScaling, "DescribeAutoScalingInstances", on: .any)
  package static let describeLifecycleHooks = AWSAction(.autoScaling, "DescribeLifecycleHooks", on: .any)
  package static let completeLifecycleAction = AWSAction(
    .autoScaling, "CompleteLifecycleAction", on: .autoScalingGroup)
  package static let recordLifecycleActionHeartbeat = AWSAction(
    .autoScaling, "RecordLifecycleActionHeartbeat", on: .autoScalingGroup)
}

/// The Auto Scaling API (2011-01-01), the actions used here. Each throws `AWSError`, `CredentialError` or
/// `MetadataError`.
package struct AutoScaling: Sendable {
  let client: AWSClient

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
        .describeAutoScalingGroups, parameters + (token.map { [("NextToken", $0)] } ?? [])
      ) { root in
        let result = try root.requiredChild("DescribeAutoScalingGroupsResult", of: root.name)
        let list = try result.requiredList("AutoScalingGroups", of: root.name)
        return (groups: try list.map(AutoScalingGroup.init), nextToken: result["NextToken"])
      }
      groups += page.groups
      token = page.nextToken
      if token == nil { return groups }
    }
    throw AWSError.malformed(
      .describeAutoScalingGroups, "more than \(Self.maximumPages) pages", requestID: nil, role: nil, attempts: 1)
  }

  /// An instance's place in Auto Scaling.
  package struct Membership: Sendable, Equatable {
    package let group: String
    package let lifecycleState: String
  }

  /// The group that an instance belongs to, warm pools included, and its state there; nil if it belongs to none.
  package func membership(ofInstance id: String) async throws -> Membership? {
    try await client.query(.describeAutoScalingInstances, [("InstanceIds.member.1", id)]) { root in
      let result = try root.requiredChild("DescribeAutoScalingInstancesResult", of: root.name)
      let list = try result.requiredList("AutoScalingInstances", of: root.name)
      return try list.first { $0["InstanceId"] == id }.map { instance in
        Membership(
          group: try instance.required("AutoScalingGroupName", of: "instance \(id)"),
          lifecycleState: try instance.required("LifecycleState", of: "instance \(id)"))
      }
    }
  }

  package func groupName(ofInstance id: String) async throws -> String? {
    try await membership(ofInstance: id)?.group
  }

  /// Restarts the time-out of a hook that holds this instance.
  package func recordLifecycleActionHeartbeat(hook: String, group: String, instanceID: String) async throws {
    try await client.query(
      .recordLifecycleActionHeartbeat,
      [("LifecycleHookName", hook), ("AutoScalingGroupName", group), ("InstanceId", instanceID)]
    ) { _ in }
  }

  /// The most that one call describes.
  private static let describedInstances = 50

  /// Lifecycle states by instance ID, of those that Auto Scaling knows, warm pools included.
  package func lifecycleStates(ofInstances ids: [String]) async throws -> [String: String] {
    try await memberships(ofInstances: ids).mapValues(\.lifecycleState)
  }

  /// By instance ID, as above.
  package func memberships(ofInstances ids: [String]) async throws -> [String: Membership] {
    var memberships: [String: Membership] = [:]
    for start in stride(from: 0, to: ids.count, by: Self.describedInstances) {
      let page = ids[start..<min(start + Self.describedInstances, ids.count)]
      let parameters = page.enumerated().map { ("InstanceIds.member.\($0.offset + 1)", $0.element) }
      try await client.query(.describeAutoScalingInstances, parameters) { root in
        let result = try root.requiredChild("DescribeAutoScalingInstancesResult", of: root.name)
        return try result.requiredList("AutoScalingInstances", of: root.name).map { instance in
          let id = try instance.required("InstanceId", of: "an instance")
          return (
            id,
            Membership(
              group: try instance.required("AutoScalingGroupName", of: "instance \(id)"),
              lifecycleState: try instance.required("LifecycleState", of: "instance \(id)"))
          )
        }
      }.forEach { memberships[$0.0] = $0.1 }
    }
    return memberships
  }

  package enum LifecycleActionResult: String, Sendable {
    case proceed = "CONTINUE"
    case abandon = "ABANDON"
  }

  package func completeLifecycleAction(
    hook: String, group: String, instanceID: String, _ result: LifecycleActionResult
  ) async throws {
    try await client.query(
      .completeLifecycleAction,
      [
        ("LifecycleHookName", hook), ("AutoScalingGroupName", group), ("InstanceId", instanceID),
        ("LifecycleActionResult", result.rawValue),
      ]
    ) { _ in }
  }

  /// Whether the call would be allowed; throws if not.
  package func tryRecordingHeartbeat(hook: String, group: String) async throws {
    do {
      try await client.query(
        .recordLifecycleActionHeartbeat,
        [
          ("LifecycleHookName", hook), ("AutoScalingGroupName", group), ("LifecycleActionToken", Self.noToken),
        ]
      ) { _ in }
    } catch let error as AWSError where error.code == "ValidationError" {}
  }

  /// No lifecycle action has this token: with the permission AWS answers that there is none, and nothing changes.
  private static let noToken = "00000000-0000-4000-8000-000000000000"

  /// Whether the call would be allowed; throws if not.
  package func tryCompletingLifecycleAction(hook: String, group: String) async throws {
    do {
      try await client.query(
        .completeLifecycleAction,
        [
          ("LifecycleHookName", hook), ("AutoScalingGroupName", group), ("LifecycleActionToken", Self.noToken),
          ("LifecycleActionResult", LifecycleActionResult.proceed.rawValue),
        ]
      ) { _ in }
    } catch let error as AWSError where error.code == "ValidationError" {}
  }
}

extension AutoScalingGroup {
  /// Every field is required by the API reference (AutoScalingGroup, Instance), except the list of instances: it is
  /// empty or missing for a group without instances.
  fileprivate init(_ element: XMLElement) throws(MalformedAnswer) {
    name = try element.required("AutoScalingGroupName", of: "an Auto Scaling group")
    let owner = "Auto Scaling group \(name)"
    desiredCapacity = try element.requiredCount("DesiredCapacity", of: owner)
    availabilityZones = try element.requiredList("AvailabilityZones", of: owner).map(\.text)
    guard !availabilityZones.isEmpty, !availabilityZones.contains("") else {
      throw MalformedAnswer("the answer has no AvailabilityZones of \(owner)")
    }
    var instances: [Instance] = []
    for instance in element.list("Instances") {
      let id = try instance.required("InstanceId", of: "an instance of \(owner)")
      instances.append(
        Instance(
          instanceID: id, availabilityZone: try instance.required("AvailabilityZone", of: "instance \(id)"),
          lifecycleState: try instance.required("LifecycleState", of: "instance \(id)"),
          weightedCapacity: try instance.weightedCapacity(of: "instance \(id)")))
    }
    self.instances = instances
    suspendedProcesses = element.list("SuspendedProcesses").compactMap { $0["ProcessName"] }.sorted()
    maxSize = element["MaxSize"].flatMap { Int($0) }
    healthCheckType = element["HealthCheckType"]
  }
}

extension XMLElement {
  /// A positive number as text; nil if there is none. Weights of a template are at most 999 (API reference,
  /// LaunchTemplateOverrides), but a group may count in MiB of memory.
  fileprivate func weightedCapacity(of owner: String) throws(MalformedAnswer) -> Int? {
    guard let text = self["WeightedCapacity"], !text.isEmpty else { return nil }
    guard let weight = Int32(text), weight > 0 else {
      throw MalformedAnswer("WeightedCapacity of \(owner) is not a positive number")
    }
    return Int(weight)
  }
}
