package import Base

/// An instance that was looked at, with AWS's own words for its states.
package struct Candidate: Sendable, Equatable {
  package let instanceID: String
  /// Nil where tags are the membership.
  package let group: String?
  package let availabilityZone: String
  /// Auto Scaling's; nil where tags are the membership.
  package let lifecycleState: String?
  /// EC2's; nil if EC2 does not show the instance (yet).
  package let instanceState: String?
  package let privateIP: IPv4Address?
  package let vpcID: String?

  package init(
    instanceID: String, group: String?, availabilityZone: String, lifecycleState: String?, instanceState: String?,
    privateIP: IPv4Address?, vpcID: String?
  ) {
    self.instanceID = instanceID
    self.group = group
    self.availabilityZone = availabilityZone
    self.lifecycleState = lifecycleState
    self.instanceState = instanceState
    self.privateIP = privateIP
    self.vpcID = vpcID
  }
}

/// Whether a candidate counts as a member, or why not.
package enum Verdict: Sendable, Equatable {
  case counted(IPv4Address)
  case notCounted(reason: String)

  /// Launching and serving count. A launch hook holds members in `Pending:Wait`, where they boot like any other: waiting
  /// for `InService` would wait for ever.
  private static let countedLifecycleStates: Set = ["Pending", "Pending:Wait", "Pending:Proceed", "InService"]
  private static let countedInstanceStates: Set = ["pending", "running"]

  package init(_ candidate: Candidate, vpcID: String?) {
    if let state = candidate.lifecycleState, !Self.countedLifecycleStates.contains(state) {
      self = .notCounted(reason: "lifecycle state \(state)")
    } else if let state = candidate.instanceState, !Self.countedInstanceStates.contains(state) {
      self = .notCounted(reason: "instance state \(state)")
    } else if candidate.instanceState == nil {
      self = .notCounted(reason: "not known to EC2 yet")
    } else if let vpcID, let other = candidate.vpcID, other != vpcID {
      self = .notCounted(reason: "in another VPC, \(other)")
    } else if let address = candidate.privateIP {
      self = .counted(address)
    } else {
      self = .notCounted(reason: "no private address yet")
    }
  }

  package var address: IPv4Address? { if case .counted(let address) = self { address } else { nil } }
}

/// A counted member.
package struct Member: Sendable, Equatable {
  package let instanceID: String
  package let address: IPv4Address
  package let availabilityZone: String
}

/// How far the group is.
package struct Readiness: Sendable, Equatable {
  package let judged: [Judged]
  /// Nil if neither `--expect` nor a desired capacity says.
  package let expected: Int?
  /// In numeric order of address.
  package let members: [Member]
  package let includesThisInstance: Bool

  package struct Judged: Sendable, Equatable {
    package let candidate: Candidate
    package let verdict: Verdict
  }

  package init(_ group: GroupObservation, identity: Identity, expect: Int?) {
    judged = group.candidates.map { Judged(candidate: $0, verdict: Verdict($0, vpcID: identity.vpcID)) }
    members = judged.compactMap { judged in
      judged.verdict.address.map {
        Member(instanceID: judged.candidate.instanceID, address: $0, availabilityZone: judged.candidate.availabilityZone)
      }
    }.sorted { $0.address < $1.address }
    expected = expect ?? group.desiredCapacity
    includesThisInstance = members.contains { $0.instanceID == identity.instanceID }
  }

  /// Enough members count, this instance among them.
  package var isComplete: Bool {
    guard let expected else { return false }
    return members.count >= expected && includesThisInstance
  }

  /// Who is missing, for people: reasons for those listed, a number for those not even launched.
  package func missing(identity: Identity) -> [String] {
    var missing = judged.compactMap { judged -> String? in
      guard case .notCounted(let reason) = judged.verdict else { return nil }
      return "\(judged.candidate.instanceID) (\(reason))"
    }
    if !judged.contains(where: { $0.candidate.instanceID == identity.instanceID }) {
      missing.append("\(identity.instanceID) (this instance is not listed)")
    }
    if let expected, expected > members.count + missing.count {
      missing.append("\(expected - members.count - missing.count) not launched yet")
    }
    return missing
  }
}
