package import Base
package import Model

/// A counted member.
package struct Member: Sendable, Equatable {
  package let instanceID: String
  package let address: IPv4Address
  package let publicIP: IPv4Address?
  package let availabilityZone: String
}

/// How far the group is.
package struct Readiness: Sendable, Equatable {
  package let evaluated: [EvaluatedInstance]
  /// Servers that make this datacenter; nil if it is not known, with the reason in `expectationFailure`.
  package let expected: Int?
  package let expectationFailure: Failure?
  /// Of this datacenter, in numeric order of address.
  package let members: [Member]
  /// Servers of the other datacenters, in the layout of one per zone: every other zone of the groups or of their instances.
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
    /// Nil where this zone's own number is not known either.
    package let expected: Int?
    package let members: [Member]

    package var isComplete: Bool { members.count >= expected ?? 1 }
  }

  package init(_ group: GroupObservation, identity: Identity, settings: Settings) {
    evaluated = group.instances.map {
      EvaluatedInstance(instance: $0, eligibility: Eligibility($0, vpcID: identity.vpcID))
    }
    let counted = evaluated.compactMap { evaluated in
      evaluated.eligibility.address.map {
        Member(
          instanceID: evaluated.instance.instanceID, address: $0, publicIP: evaluated.instance.publicIP,
          availabilityZone: evaluated.instance.availabilityZone)
      }
    }.sorted { $0.address < $1.address }
    role = settings.role
    layout = settings.layout
    zone = identity.availabilityZone
    includesThisInstance = counted.contains { $0.instanceID == identity.instanceID }
    switch settings.layout {
    case .single:
      members = counted
      otherZones = []
      let share = Self.wholeGroup(group, expect: settings.expect)
      expected = try? share.get()
      if case .failure(let failure) = share { expectationFailure = failure } else { expectationFailure = nil }
    case .datacenterPerAZ:
      members = counted.filter { $0.availabilityZone == identity.availabilityZone }
      let share = Self.share(of: identity.availabilityZone, group, expect: settings.expect)
      expected = try? share.get()
      if case .failure(let failure) = share { expectationFailure = failure } else { expectationFailure = nil }
      let zones = Set(group.scalingGroups.flatMap(\.zones) + group.instances.map(\.availabilityZone)).subtracting([
        identity.availabilityZone
      ])
      otherZones = zones.sorted().map { zone in
        OtherZone(
          name: zone, expected: try? Self.share(of: zone, group, expect: settings.expect).get(),
          members: counted.filter { $0.availabilityZone == zone })
      }
    }
  }

  /// The servers of the one datacenter: what the groups desire.
  private static func wholeGroup(_ group: GroupObservation, expect: Int?) -> Result<Int, Failure> {
    if let expect { return .success(expect) }
    guard let desired = group.desiredCapacity else {
      return .failure(
        Failure(
          .usage, "the number of servers to expect is not known", details: ["tags carry no desired capacity"],
          hint: "set it with --expect N"))
    }
    guard desired > 0 else {
      let names = group.scalingGroups.map(\.name).joined(separator: ", ")
      return .failure(
        Failure(
          .usage, "no server is expected", details: ["the desired capacity of Auto Scaling group \(names) is 0"],
          hint: "set the desired capacity, or the number of servers with --expect N, or correct --group"))
    }
    return .success(desired)
  }

  /// The servers that a zone gets of what the groups desire: Auto Scaling spreads a group evenly over its zones.
  private static func share(of zone: String, _ group: GroupObservation, expect: Int?) -> Result<Int, Failure> {
    if let expect { return .success(expect) }
    guard !group.scalingGroups.isEmpty else {
      return .failure(
        Failure(
          .usage, "how many servers to expect is not known", details: ["tags carry no desired capacity"],
          hint: "say it with --expect N, for each zone"))
    }
    var share = 0
    for group in group.scalingGroups where group.zones.contains(zone) {
      guard group.desiredCapacity % group.zones.count == 0 else {
        return .failure(
          Failure(
            .usage, "how many servers to expect in \(zone) cannot be told from group \(group.name)",
            details: [
              "its desired capacity of \(group.desiredCapacity) does not divide by its \(group.zones.count) zones (\(group.zones.joined(separator: ", ")))"
            ],
            hint: "say it with --expect N, the servers in each zone, or change the desired capacity"))
      }
      share += group.desiredCapacity / group.zones.count
    }
    guard share > 0 else {
      return .failure(
        Failure(
          .usage, "no server is expected in \(zone)",
          details: ["the groups \(group.scalingGroups.map(\.name).joined(separator: ", ")) desire none there"],
          hint: "say it with --expect N, or correct --group"))
    }
    return .success(share)
  }

  /// Servers: enough members count, this instance among them. Clients: any server will do.
  package var isComplete: Bool {
    if role == .client { return !members.isEmpty }
    guard let expected else { return false }
    return members.count >= expected && includesThisInstance
  }

  /// Servers of every other zone are known, as many as expected. With no other zone in sight there is one to come.
  package var knowsOtherZones: Bool { !otherZones.isEmpty && otherZones.allSatisfy(\.isComplete) }

  /// Whether the instance belongs to this datacenter.
  package func isLocal(_ instance: Instance) -> Bool { layout == .single || instance.availabilityZone == zone }

  /// Who is missing, for people: reasons for those listed, a number for those not even launched.
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
