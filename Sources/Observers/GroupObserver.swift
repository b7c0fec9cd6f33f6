package import AWS
internal import Base
internal import Decisions
package import Model

/// Looks at the group through the Auto Scaling and EC2 APIs: two calls, whatever its size up to 1,000, and both at once.
package struct GroupObserver: Sendable {
  private let membership: Settings.Membership
  private let addressing: PeerAddressing
  private let client: AWSClient

  /// - Parameter addressing: which of its addresses an instance is met under.
  package init(membership: Settings.Membership, addressing: PeerAddressing, client: AWSClient) {
    self.membership = membership
    self.addressing = addressing
    self.client = client
  }

  /// The tag that Auto Scaling gives to every instance that it launches or that is attached, and takes when it is detached
  /// (Auto Scaling User Guide, "Tag Auto Scaling groups and instances"). Nobody else can set it.
  private static let groupTag = "tag:aws:autoscaling:groupName"
  /// AWS allows 200 values in a filter.
  private static let valuesPerFilter = 200

  /// - Parameter groupName: the group of this instance, where that is the membership.
  /// - Throws: `AWSError`, `CredentialError` or `MetadataError`; `Failure` for a group that does not exist.
  package func observe(_ identity: Identity, groupName: String?) async throws -> GroupObservation {
    switch membership {
    case .ownGroup: try await observe(groups: [groupName].compactMap { $0 })
    case .groups(let names): try await observe(groups: names)
    case .tags(let tags): try await observe(tags: tags, identity)
    }
  }

  private func observe(groups names: [String]) async throws -> GroupObservation {
    precondition(!names.isEmpty && names.count <= Self.valuesPerFilter, "the options see to this")
    async let scalingGroups = AutoScaling(client: client).describeAutoScalingGroups(names)
    async let tagged = EC2(client: client).describeInstances(
      [.init(Self.groupTag, names)], withInterfaces: addressing != .primary)
    let groups = try await scalingGroups
    if let unknown = names.first(where: { name in !groups.contains { $0.name == name } }) {
      throw await unknownGroup(unknown)
    }
    let described = Dictionary(try await tagged.map { ($0.instanceID, $0) }, uniquingKeysWith: { _, last in last })
    let instances = groups.flatMap { group in
      group.instances.map { member in
        let instance = described[member.instanceID]
        return Instance(
          instanceID: member.instanceID, group: group.name, availabilityZone: member.availabilityZone,
          lifecycleState: member.lifecycleState, instanceState: instance?.state,
          privateIP: instance.flatMap(address(of:)),
          publicIP: instance?.publicIP, vpcID: instance?.vpcID)
      }
    }
    return GroupObservation(
      instances: instances.inOrder,
      scalingGroups: groups.map {
        .init(name: $0.name, desiredCapacity: $0.desiredCapacity, zones: $0.availabilityZones.sorted())
      })
  }

  /// As seed 002 does it: this VPC's pending and running instances with all of the tags.
  private func observe(tags: [Settings.Tag], _ identity: Identity) async throws -> GroupObservation {
    var filters = tags.map { EC2.Filter("tag:\($0.key)", [$0.value]) }
    filters.append(.init("instance-state-name", ["pending", "running"]))
    if let vpcID = identity.vpcID { filters.append(.init("vpc-id", [vpcID])) }
    let instances = try await EC2(client: client).describeInstances(filters, withInterfaces: addressing != .primary)
    return GroupObservation(
      instances: instances.map { instance in
        Instance(
          instanceID: instance.instanceID, group: nil, availabilityZone: instance.availabilityZone, lifecycleState: nil,
          instanceState: instance.state, privateIP: address(of: instance), publicIP: instance.publicIP,
          vpcID: instance.vpcID)
      }.inOrder, scalingGroups: [])
  }

  private func address(of instance: EC2Instance) -> IPv4Address? {
    addressing == .primary
      ? instance.privateIP : addressing.address(in: instance.interfaces.map { NetworkInterface($0) })
  }

  private func unknownGroup(_ name: String) async -> Failure {
    let seen = (try? await AutoScaling(client: client).describeAutoScalingGroups([]).map(\.name).sorted()) ?? []
    let list = seen.prefix(20).joined(separator: ", ") + (seen.count > 20 ? " and \(seen.count - 20) more" : "")
    let guess = nearestName(to: name, among: seen).map { "did you mean --group '\($0)'?" }
    return Failure(
      .awsFailed, "there is no Auto Scaling group \(name) in \(client.region)",
      details: seen.isEmpty ? [] : ["the groups there: \(list)"], hint: guess ?? "check --group and the region")
  }
}

extension NetworkInterface {
  init(_ interface: EC2Instance.Interface) {
    self.init(
      deviceNumber: interface.deviceNumber, name: nil, kind: interface.kind, privateIPs: interface.privateIPs,
      publicIPs: interface.publicIPs)
  }
}

extension [Instance] {
  /// Numeric order of address, those without one last, by id: the same whatever order the API answers in.
  fileprivate var inOrder: [Instance] {
    sorted { left, right in
      switch (left.privateIP, right.privateIP) {
      case (let a?, let b?) where a != b: a < b
      case (.some, nil): true
      case (nil, .some): false
      default: left.instanceID < right.instanceID
      }
    }
  }
}
