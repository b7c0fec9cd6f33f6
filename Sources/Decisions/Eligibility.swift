package import Base
package import Model

/// Whether an instance is eligible as a member, or why not.
package enum Eligibility: Sendable, Equatable {
  case eligible(IPv4Address)
  case ineligible(reason: String)

  /// A launch hook holds instances in `Pending:Wait` until they are healthy, so a wait for `InService` would never end.
  static let launchingStates: Set = ["Pending", "Pending:Wait", "Pending:Proceed"]
  /// States of launching and serving instances.
  private static let eligibleLifecycleStates = launchingStates.union(["InService"])
  static let livingStates: Set = ["pending", "running"]

  package init(_ instance: Instance, vpcID: String?) {
    if !instance.isListed {
      self = .ineligible(reason: "no longer listed by its group, instance state \(instance.instanceState ?? "unknown")")
    } else if let state = instance.lifecycleState, !Self.eligibleLifecycleStates.contains(state) {
      self = .ineligible(reason: "lifecycle state \(state)")
    } else if let state = instance.instanceState, !Self.livingStates.contains(state) {
      self = .ineligible(reason: "instance state \(state)")
    } else if instance.instanceState == nil {
      self = .ineligible(reason: "not known to EC2 yet")
    } else if let vpcID, let other = instance.vpcID, other != vpcID {
      self = .ineligible(reason: "in another VPC, \(other)")
    } else if let address = instance.privateIP {
      self = .eligible(address)
    } else {
      self = .ineligible(reason: "no private address yet")
    }
  }

  package var address: IPv4Address? { if case .eligible(let address) = self { address } else { nil } }
}
