package import Base
package import Model

/// An instance that counts towards completeness.
package struct Member: Sendable, Equatable {
  package let instanceID: String
  /// Address of its agent.
  package let address: IPv4Address
  package let publicIP: IPv4Address?
  package let availabilityZone: String
  /// What it counts towards a desired capacity in units; nil where instances count.
  package let weight: Int?

  init(_ instance: Instance, address: IPv4Address) {
    instanceID = instance.instanceID
    self.address = address
    publicIP = instance.publicIP
    availabilityZone = instance.availabilityZone
    weight = instance.weight
  }
}

/// Which instances are eligible, and what is missing for a complete datacenter.
package struct Readiness: Sendable, Equatable {
  /// Every instance that was considered, in numeric order of address.
  package let evaluated: [EvaluatedInstance]
  /// Number of servers of this datacenter; nil if it is not known, with the reason in `expectationFailure`.
  package let expected: Int?
  package let expectationFailure: Failure?
  /// Servers that count: the eligible ones of this datacenter, in numeric order of address.
  package let members: [Member]
  /// Servers to ask before a new cluster is formed: every instance of this datacenter that may hold data, this one not
  /// among them.
  package let asked: [AskedInstance]
  /// The other datacenters in the layout of one per zone: every other zone of the groups or of their instances.
  package let otherZones: [OtherZone]
  package let includesThisInstance: Bool
  package let role: Settings.Role
  /// Processes without which a group does not fill, and which are suspended, each with its group.
  private let suspended: [String]
  private let layout: Settings.Layout
  private let zone: String

  /// What launches an instance, and what replaces one that has failed (Auto Scaling User Guide, "Types of processes").
  private static let fillingProcesses: Set = ["Launch", "HealthCheck", "ReplaceUnhealthy"]

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
        (member: Member(evaluated.instance, address: $0), group: evaluated.instance.group)
      }
    }.sorted { $0.member.address < $1.member.address }
    let members = eligible.map(\.member)
    role = settings.role
    layout = settings.layout
    zone = identity.availabilityZone
    suspended = group.scalingGroups.flatMap { group in
      group.suspendedProcesses.filter(Self.fillingProcesses.contains).map {
        "\($0) of Auto Scaling group \(group.name)"
      }
    }
    includesThisInstance = members.contains { $0.instanceID == identity.instanceID }
    asked = evaluated.compactMap { evaluated in
      let instance = evaluated.instance
      guard instance.instanceID != identity.instanceID,
        settings.layout == .single || instance.availabilityZone == identity.availabilityZone
      else { return nil }
      return AskedInstance(
        instance, evaluated.eligibility, vpcID: identity.vpcID, assumedDead: settings.assumedDead)
    }
    let capacity = Capacity(group, members: eligible)
    let expectation: Result<Int, Failure>
    switch settings.layout {
    case .single:
      self.members = members
      otherZones = []
      expectation = capacity.wholeGroup(expect: settings.expect)
    case .datacenterPerAZ:
      self.members = members.filter { $0.availabilityZone == identity.availabilityZone }
      expectation = capacity.share(of: identity.availabilityZone, expect: settings.expect)
      let zones = Set(group.scalingGroups.flatMap(\.zones) + group.instances.map(\.availabilityZone))
      otherZones = zones.subtracting([identity.availabilityZone]).sorted().map { zone in
        OtherZone(
          name: zone, expected: capacity.share(of: zone, expect: settings.expect).value,
          members: members.filter { $0.availabilityZone == zone })
      }
    }
    expected = expectation.value
    if case .failure(let failure) = expectation { expectationFailure = failure } else { expectationFailure = nil }
  }

  // MARK: Completeness

  /// Servers: all expected servers are eligible, this instance among them. Clients: any server is enough.
  package var isComplete: Bool {
    if role == .client { return !joinableServers.isEmpty }
    guard let expected else { return false }
    return members.count >= expected && includesThisInstance
  }

  /// What a client may join: every server of this datacenter that runs, whatever its lifecycle state.
  package var joinableServers: [AskedInstance] { asked.filter { $0.isRunning && $0.address != nil } }

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
    guard let expected, expected > members.count else { return missing }
    if expected > members.count + missing.count {
      missing.append("\(expected - members.count - missing.count) not launched yet")
    }
    return missing + suspended.map { "the process \($0) is suspended" }
  }
}

extension Result {
  var value: Success? { if case .success(let value) = self { value } else { nil } }
}
