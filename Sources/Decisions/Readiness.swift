package import Base
package import Model

/// An eligible instance.
package struct Member: Sendable, Equatable {
  package let instanceID: String
  /// Address of its agent.
  package let address: IPv4Address
  package let publicIP: IPv4Address?
  package let availabilityZone: String
}

/// Which instances are eligible, and what is missing for a complete datacenter.
package struct Readiness: Sendable, Equatable {
  /// Every instance that was considered, in numeric order of address.
  package let evaluated: [EvaluatedInstance]
  /// Number of servers of this datacenter; nil if it is not known, with the reason in `expectationFailure`.
  package let expected: Int?
  package let expectationFailure: Failure?
  /// Eligible servers of this datacenter, in numeric order of address.
  package let members: [Member]
  /// The other datacenters in the layout of one per zone: every other zone of the groups or of their instances.
  package let otherZones: [OtherZone]
  package let includesThisInstance: Bool
  package let role: Settings.Role
  private let layout: Settings.Layout
  private let zone: String

  package struct EvaluatedInstance: Sendable, Equatable {
    package let instance: Instance
    package let eligibility: Eligibility
  }

  package struct OtherZone: Sendable, Equatable {
    package let name: String
    /// Nil if the number of servers in this zone is not known.
    package let expected: Int?
    /// Eligible servers of this zone.
    package let members: [Member]

    /// Whether all expected servers are eligible; one is enough if their number is not known.
    package var isComplete: Bool { members.count >= expected ?? 1 }
  }

  package init(_ group: GroupObservation, identity: Identity, settings: Settings) {
    evaluated = group.instances.map {
      EvaluatedInstance(instance: $0, eligibility: Eligibility($0, vpcID: identity.vpcID))
    }
    let eligible = evaluated.compactMap { evaluated in
      evaluated.eligibility.address.map {
        Member(
          instanceID: evaluated.instance.instanceID, address: $0, publicIP: evaluated.instance.publicIP,
          availabilityZone: evaluated.instance.availabilityZone)
      }
    }.sorted { $0.address < $1.address }
    role = settings.role
    layout = settings.layout
    zone = identity.availabilityZone
    includesThisInstance = eligible.contains { $0.instanceID == identity.instanceID }
    let expectation: Result<Int, Failure>
    switch settings.layout {
    case .single:
      members = eligible
      otherZones = []
      expectation = Self.wholeGroup(group, expect: settings.expect)
    case .datacenterPerAZ:
      members = eligible.filter { $0.availabilityZone == identity.availabilityZone }
      expectation = Self.share(of: identity.availabilityZone, group, expect: settings.expect)
      let zones = Set(group.scalingGroups.flatMap(\.zones) + group.instances.map(\.availabilityZone))
      otherZones = zones.subtracting([identity.availabilityZone]).sorted().map { zone in
        OtherZone(
          name: zone, expected: Self.share(of: zone, group, expect: settings.expect).value,
          members: eligible.filter { $0.availabilityZone == zone })
      }
    }
    expected = expectation.value
    if case .failure(let failure) = expectation { expectationFailure = failure } else { expectationFailure = nil }
  }

  // MARK: The expected number

  /// The desired capacity of all groups.
  private static func wholeGroup(_ group: GroupObservation, expect: Int?) -> Result<Int, Failure> {
    if let expect { return .success(expect) }
    guard let desired = group.desiredCapacity else { return .failure(unknownCapacity(hint: "set --expect N")) }
    guard desired > 0 else {
      return .failure(
        Failure(
          .usage, "the expected number of servers is \(desired)",
          details: ["the desired capacity of Auto Scaling \(groupNames(group)) is \(desired)"],
          hint: "raise the desired capacity, set --expect N, or correct --group"))
    }
    return .success(desired)
  }

  /// What a zone gets of the desired capacity: Auto Scaling spreads a group evenly over its zones.
  private static func share(of zone: String, _ group: GroupObservation, expect: Int?) -> Result<Int, Failure> {
    if let expect { return .success(expect) }
    guard !group.scalingGroups.isEmpty else {
      return .failure(unknownCapacity(hint: "set --expect N, the number of servers in each zone"))
    }
    var share = 0
    for group in group.scalingGroups where group.zones.contains(zone) {
      guard group.desiredCapacity.isMultiple(of: group.zones.count) else {
        return .failure(
          Failure(
            .usage,
            "the expected number of servers in \(zone) cannot be derived from Auto Scaling group \(group.name)",
            details: [
              "its desired capacity of \(group.desiredCapacity) is not a multiple of its "
                + "\(group.zones.count) zones (\(group.zones.joined(separator: ", ")))"
            ],
            hint: "set --expect N, the number of servers in each zone, or change the desired capacity"))
      }
      share = share.saturatingAdding(group.desiredCapacity / group.zones.count)
    }
    guard share > 0 else {
      return .failure(
        Failure(
          .usage, "the expected number of servers in \(zone) is \(share)",
          details: ["Auto Scaling \(groupNames(group)) desires none there"],
          hint: "set --expect N, or correct --group"))
    }
    return .success(share)
  }

  private static func unknownCapacity(hint: String) -> Failure {
    Failure(
      .usage, "the expected number of servers is not known", details: ["tags have no desired capacity"], hint: hint)
  }

  private static func groupNames(_ group: GroupObservation) -> String {
    (group.scalingGroups.count == 1 ? "group " : "groups ") + group.scalingGroups.map(\.name).joined(separator: ", ")
  }

  // MARK: Completeness

  /// Servers: all expected servers are eligible, this instance among them. Clients: any server is enough.
  package var isComplete: Bool {
    if role == .client { return !members.isEmpty }
    guard let expected else { return false }
    return members.count >= expected && includesThisInstance
  }

  /// Whether every other zone is complete. Without any other zone, one is expected to appear.
  package var knowsOtherZones: Bool { !otherZones.isEmpty && otherZones.allSatisfy(\.isComplete) }

  /// Whether the instance belongs to this datacenter.
  package func isLocal(_ instance: Instance) -> Bool { layout == .single || instance.availabilityZone == zone }

  /// What is missing: ineligible instances with their reasons, and the number of those that are not launched.
  package func missing(identity: Identity) -> [String] {
    var missing = evaluated.compactMap { evaluated -> String? in
      guard case .ineligible(let reason) = evaluated.eligibility, isLocal(evaluated.instance) else { return nil }
      return "\(evaluated.instance.instanceID) (\(reason))"
    }
    guard role == .server else { return missing }
    if !evaluated.contains(where: { $0.instance.instanceID == identity.instanceID }) {
      missing.append("\(identity.instanceID) (this instance is not listed)")
    }
    if let expected, expected > members.count + missing.count {
      missing.append("\(expected - members.count - missing.count) not launched yet")
    }
    return missing
  }
}

extension Result {
  fileprivate var value: Success? { if case .success(let value) = self { value } else { nil } }
}
