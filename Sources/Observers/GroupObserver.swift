package import AWS
internal import Base
internal import Decisions
package import Model

/// Observes the servers through the Auto Scaling and EC2 APIs: two concurrent calls for up to 1,000 instances.
package struct GroupObserver: Sendable {
  private let membership: Settings.Membership
  private let addressing: PeerAddressing
  private let client: AWSClient

  /// - Parameter addressing: which of an instance's addresses is its agent's.
  package init(membership: Settings.Membership, addressing: PeerAddressing, client: AWSClient) {
    self.membership = membership
    self.addressing = addressing
    self.client = client
  }

  /// The tag of every instance that Auto Scaling has launched or attached; it removes the tag at a detachment (Auto
  /// Scaling User Guide, "Tag Auto Scaling groups and instances"). Other callers cannot set it.
  private static let groupTag = "tag:aws:autoscaling:groupName"
  /// Every state but `terminated`: a stopped instance may come back with its data.
  private static let livingStates = ["pending", "running", "shutting-down", "stopping", "stopped"]
  /// Names in the list of existing groups.
  private static let listedGroups = 20

  /// - Parameter groupName: the group of this instance, if that is the membership.
  /// - Throws: `AWSError`, `CredentialError` or `MetadataError`; `Failure` for a group that does not exist.
  package func observe(_ identity: Identity, groupName: String?) async throws -> GroupObservation {
    switch membership {
    case .ownGroup:
      guard let groupName else { throw Failure.noGroup(of: identity) }
      return try await observe(groups: [groupName])
    case .groups(let names): return try await observe(groups: names)
    case .tags(let tags): return try await observe(tags: tags, identity)
    }
  }

  private func observe(groups names: [String]) async throws -> GroupObservation {
    async let scalingGroups = AutoScaling(client: client).describeAutoScalingGroups(names)
    async let tagged = EC2(client: client).describeInstances(
      [.init(Self.groupTag, names)], withInterfaces: addressing != .primary)
    let groups = try await scalingGroups
    // A group of a blue/green change that is over may be deleted before its name is taken out of the options.
    let missing = names.filter { name in !groups.contains { $0.name == name } }
    if groups.isEmpty, let unknown = missing.first { throw await unknownGroup(unknown) }
    let described = Dictionary(try await tagged.map { ($0.instanceID, $0) }, uniquingKeysWith: { _, last in last })
    let instances = groups.flatMap { group in
      group.instances.map { member in
        let instance = described[member.instanceID]
        return Instance(
          instanceID: member.instanceID, group: group.name, availabilityZone: member.availabilityZone,
          lifecycleState: member.lifecycleState, instanceState: instance?.state,
          privateIP: instance.flatMap(address(of:)), publicIP: instance?.publicIP, vpcID: instance?.vpcID,
          weight: member.weightedCapacity)
      }
    }
    let listed = Set(instances.map(\.instanceID))
    let unlisted = try await unlistedInstances(
      described.values.filter { !listed.contains($0.instanceID) && $0.state != "terminated" })
    return GroupObservation(
      instances: (instances + unlisted).inOrder,
      scalingGroups: groups.map(GroupObservation.ScalingGroup.init), missingGroups: missing)
  }

  /// Instances that have the tag of a group and still run: it has detached or forgotten them, or they are in its warm
  /// pool, which only DescribeAutoScalingInstances tells. Where the role may not call it, they count as detached.
  private func unlistedInstances(_ instances: [EC2Instance]) async throws -> [Instance] {
    guard !instances.isEmpty else { return [] }
    var states: [String: String] = [:]
    do {
      states = try await AutoScaling(client: client).lifecycleStates(ofInstances: instances.map(\.instanceID).sorted())
    } catch let error as AWSError where error.kind == .denied {}
    return instances.map { instance in
      let state = states[instance.instanceID]
      return Instance(
        instanceID: instance.instanceID, group: nil, availabilityZone: instance.availabilityZone,
        lifecycleState: state, instanceState: instance.state, privateIP: address(of: instance),
        publicIP: instance.publicIP, vpcID: instance.vpcID, isListed: state?.hasPrefix("Warmed:") ?? false)
    }
  }

  private func observe(tags: [Settings.Tag], _ identity: Identity) async throws -> GroupObservation {
    var filters = tags.map { EC2.Filter("tag:\($0.key)", [$0.value]) }
    filters.append(.init("instance-state-name", Self.livingStates))
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

  /// Where tags find the servers: the groups of those that were found, of which this instance is one.
  /// - Returns: nil if not all of that is known.
  package func scalingGroups(
    of instances: [Instance], _ identity: Identity
  ) async throws -> [GroupObservation.ScalingGroup]? {
    let scaling = AutoScaling(client: client)
    let memberships = try await scaling.memberships(ofInstances: instances.map(\.instanceID))
    guard memberships[identity.instanceID] != nil else { return nil }
    let names = Set(memberships.values.map(\.group)).sorted()
    let groups = try await scaling.describeAutoScalingGroups(names)
    return groups.count == names.count ? groups.map(GroupObservation.ScalingGroup.init) : nil
  }

  private func address(of instance: EC2Instance) -> IPv4Address? {
    addressing == .primary
      ? instance.privateIP : addressing.address(in: instance.interfaces.map { NetworkInterface($0) })
  }

  /// The error for a group that does not exist, with the existing groups and the nearest name.
  private func unknownGroup(_ name: String) async -> Failure {
    let message = "there is no Auto Scaling group \(name) in \(client.region)"
    let hint = "check --group and the region"
    let existing: [String]
    do {
      existing = try await AutoScaling(client: client).describeAutoScalingGroups([]).map(\.name).sorted()
    } catch {
      return Failure(
        .awsFailed, message, details: ["cannot list the existing groups: \(error.explained)"], hint: hint)
    }
    guard !existing.isEmpty else {
      return Failure(.awsFailed, message, details: ["there are no groups in this region"], hint: hint)
    }
    let rest = existing.count - Self.listedGroups
    let list = existing.prefix(Self.listedGroups).joined(separator: ", ") + (rest > 0 ? " and \(rest) more" : "")
    return Failure(
      .awsFailed, message, details: ["the existing groups: \(list)"],
      hint: nearestName(to: name, among: existing).map { "did you mean --group '\($0)'?" } ?? hint)
  }
}

extension Failure {
  /// An instance without a group, where neither groups nor tags name the servers.
  static func noGroup(of identity: Identity) -> Failure {
    Failure(
      .groupIncomplete, "this instance belongs to no Auto Scaling group",
      details: ["DescribeAutoScalingInstances does not list \(identity.instanceID)"],
      hint: "name the servers' group with --group, or discover the servers with --tag KEY=VALUE")
  }
}

extension GroupObservation.ScalingGroup {
  init(_ group: AutoScalingGroup) {
    self.init(
      name: group.name, desiredCapacity: group.desiredCapacity, zones: group.availabilityZones.sorted(),
      suspendedProcesses: group.suspendedProcesses, maxSize: group.maxSize, healthCheckType: group.healthCheckType)
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
  /// In numeric order of address, then by ID for those without one: the same for every order of AWS's answer.
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
