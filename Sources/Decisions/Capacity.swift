internal import Base
package import Model

extension GroupObservation {
  /// What the groups want for one datacenter, 0 for none: in the layout of one per zone, the most that Auto Scaling may
  /// launch there. Nil if tags find the servers.
  package func desiredServers(in zone: String, _ layout: Settings.Layout) -> Int? {
    guard !scalingGroups.isEmpty else { return nil }
    return scalingGroups.reduce(0) { sum, group in
      switch layout {
      case .single: return sum.saturatingAdding(group.desiredCapacity)
      case .datacenterPerAZ:
        guard group.zones.contains(zone) else { return sum }
        let (share, rest) = group.desiredCapacity.quotientAndRemainder(dividingBy: max(1, group.zones.count))
        return sum.saturatingAdding(share + (rest > 0 ? 1 : 0))
      }
    }
  }
}

/// How many servers the groups want: the number of instances that make the desired capacity.
struct Capacity {
  private let group: GroupObservation
  /// Servers that count, with the names of their groups.
  private let members: [(member: Member, group: String?)]

  init(_ group: GroupObservation, members: [(member: Member, group: String?)]) {
    self.group = group
    self.members = members
  }

  /// The desired capacity of all groups.
  func wholeGroup(expect: Int?) -> Result<Int, Failure> {
    if let expect { return .success(expect) }
    guard let desired = group.desiredCapacity else { return .failure(unknown(hint: "set --expect N")) }
    guard desired > 0 else {
      return .failure(
        Failure(
          .usage, "the expected number of servers is \(desired)",
          details: ["the desired capacity of Auto Scaling \(groupNames) is \(desired)"],
          hint: "raise the desired capacity, set --expect N, or correct --group"))
    }
    return .success(
      group.scalingGroups.reduce(0) { sum, group in
        sum.saturatingAdding(instances(units: group.desiredCapacity, group.name, zone: nil))
      })
  }

  /// What a zone gets of the desired capacity: Auto Scaling spreads a group evenly over its zones.
  func share(of zone: String, expect: Int?) -> Result<Int, Failure> {
    if let expect { return .success(expect) }
    guard !group.scalingGroups.isEmpty else {
      return .failure(unknown(hint: "set --expect N, the number of servers in each zone"))
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
      let units = group.desiredCapacity / group.zones.count
      share = share.saturatingAdding(instances(units: units, group.name, zone: zone))
    }
    guard share > 0 else {
      return .failure(
        Failure(
          .usage, "the expected number of servers in \(zone) is \(share)",
          details: ["Auto Scaling \(groupNames) desires none there"],
          hint: "set --expect N, or correct --group"))
    }
    return .success(share)
  }

  /// How many instances make so many units: the heaviest of those that are there, and for the rest as many as it takes
  /// of the heaviest known weight. Without weights an instance is a unit.
  private func instances(units: Int, _ group: String, zone: String?) -> Int {
    let weights = members.filter { entry in
      entry.group == group && (zone == nil || entry.member.availabilityZone == zone)
    }.compactMap(\.member.weight).sorted(by: >)
    guard let heaviest = weights.first else { return units }
    var rest = units, count = 0
    for weight in weights where rest > 0 {
      rest -= weight
      count += 1
    }
    guard rest > 0 else { return count }
    return count.saturatingAdding((rest - 1) / heaviest + 1)
  }

  private func unknown(hint: String) -> Failure {
    Failure(
      .usage, "the expected number of servers is not known", details: ["tags have no desired capacity"], hint: hint)
  }

  private var groupNames: String {
    (group.scalingGroups.count == 1 ? "group " : "groups ")
      + group.scalingGroups.map(\.name).joined(separator: ", ")
  }
}
