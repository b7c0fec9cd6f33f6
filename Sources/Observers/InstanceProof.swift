package import Base
internal import AWS
package import Decisions
package import Model

/// Asks AWS whether instances can come back, with this instance as the control: an answer that does not know it, or
/// does not report it as running, is of another account or region, or incomplete.
package struct InstanceProof: Sendable {
  private let settings: Settings
  private let context: RuntimeContext
  private let instance: LocatedInstance

  package init(settings: Settings, context: RuntimeContext, instance: LocatedInstance) {
    self.settings = settings
    self.context = context
    self.instance = instance
  }

  /// An AWS call with its retries: after a network cut one may hang as long as the cut has lasted.
  private static let timeout = Duration.seconds(20)
  /// EC2 takes at most so many values of a filter (Amazon EC2 API Reference, DescribeInstances).
  private static let instancesPerCall = 200
  private static let maximumCalls = 5

  /// By filter and not by ID: one forgotten ID would fail the whole call.
  /// - Throws: `Failure`, or `CancellationError`.
  package func ask(about instances: [String]) async throws -> InstanceAnswer {
    let own = instance.identity.instanceID, size = Self.instancesPerCall - 1
    let askedAt = context.uptime()
    let asked = instances.prefix(size * Self.maximumCalls)
    var states: [String: String] = [:], controls: [String?] = []
    for start in stride(from: 0, to: asked.count, by: size) {
      let page = asked[start..<min(start + size, asked.count)]
      let found = try await bounded("ask EC2 about failed members") {
        try await EC2(client: instance.client).describeInstances([.init("instance-id", [own] + page)])
      }
      for one in found where page.contains(one.instanceID) { states[one.instanceID] = one.state }
      controls.append(found.first { $0.instanceID == own }?.state)
    }
    // One page without its control spoils the answer.
    states[own] = controls.first { $0 != "running" } ?? "running"
    return InstanceAnswer(
      askedAt: askedAt, answeredAt: context.uptime(), instances: Set(asked).union([own]), states: states)
  }

  /// Of the instances in the servers' groups; empty where tags find the servers.
  /// - Parameter ownGroup: the name of this instance's group, once it has been found.
  /// - Throws: `Failure`, or `CancellationError`.
  package func lifecycleStates(_ ownGroup: inout String?) async throws -> [String: String] {
    let scaling = AutoScaling(client: instance.client), own = instance.identity.instanceID
    let names: [String]
    switch settings.membership {
    case .tags: return [:]
    case .groups(let groups): names = groups
    case .ownGroup:
      if let name = instance.identity.groupName ?? ownGroup {
        names = [name]
      } else {
        let name = try await bounded("find the Auto Scaling group of \(own)") {
          try await scaling.groupName(ofInstance: own)
        }
        guard let name else {
          throw Failure(
            .groupIncomplete, "this instance belongs to no Auto Scaling group",
            hint: "name the servers with --group or --tag")
        }
        ownGroup = name
        names = [name]
      }
    }
    let groups = try await bounded("describe the group") { try await scaling.describeAutoScalingGroups(names) }
    let states = groups.flatMap(\.instances).map { ($0.instanceID, $0.lifecycleState) }
    let byID = Dictionary(states, uniquingKeysWith: { _, last in last })
    // The control: an answer of another account or region has no such group, or another one.
    guard byID[own] != nil else {
      throw Failure(
        .groupIncomplete, "Auto Scaling does not list this instance, \(own), in \(names.joined(separator: ", "))",
        hint: "check --group, and the account and region of the credentials")
    }
    return byID
  }

  private func bounded<Value: Sendable>(
    _ purpose: String, _ call: @escaping @Sendable () async throws -> Value
  ) async throws -> Value {
    do {
      guard let value = try await context.within(Self.timeout, call) else {
        throw Failure(
          .awsFailed, "cannot \(purpose): no answer within \(Self.timeout.components.seconds) s",
          hint: "check this machine's way to AWS: consul-bootstrap doctor")
      }
      return value
    } catch {
      throw error.asFailure(purpose)
    }
  }
}
