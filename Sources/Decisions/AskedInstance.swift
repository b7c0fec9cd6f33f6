package import Base
internal import Model

/// An instance that may hold a cluster's data. It is asked before a new cluster is formed, whatever its lifecycle
/// state: one on standby, or held by a termination hook, still runs its agent, and one that is stopped may start again.
package struct AskedInstance: Sendable, Equatable {
  package let instanceID: String
  /// Nil for an instance that cannot be asked now.
  package let address: IPv4Address?
  /// What AWS says about it, for people; nil for one that counts.
  package let standing: String?
  /// Whether it counts towards completeness: it is expected to start an agent.
  package let isCounted: Bool
  /// Whether EC2 says that it runs, or is about to.
  package let isRunning: Bool
  /// An instance of a warm pool: this program sets up nothing there.
  package let isWarm: Bool
  /// An operator says that its data will not come back (`--assume-dead`).
  package let isAssumedDead: Bool

  /// Nil for an instance that holds no data of this network: terminated, in another VPC, or so new that EC2 does not
  /// know it or it has no address.
  init?(_ instance: Instance, _ eligibility: Eligibility, vpcID: String?, assumedDead: Set<String>) {
    if instance.instanceState == "terminated" { return nil }
    if let vpcID, let other = instance.vpcID, other != vpcID { return nil }
    let isLaunching = instance.lifecycleState.map(Eligibility.launchingStates.contains) ?? true
    if instance.privateIP == nil, isLaunching, instance.instanceState ?? "pending" == "pending" { return nil }
    instanceID = instance.instanceID
    isCounted = eligibility.address != nil
    isWarm = instance.lifecycleState?.hasPrefix("Warmed:") ?? false
    isAssumedDead = assumedDead.contains(instance.instanceID)
    if case .ineligible(let reason) = eligibility { standing = reason } else { standing = nil }
    // The network of an instance in any other state does not answer.
    isRunning = instance.instanceState.map(Eligibility.livingStates.contains) ?? false
    address = ["pending", "running", "shutting-down"].contains(instance.instanceState) ? instance.privateIP : nil
  }

  /// For lists: the ID, and what AWS says.
  package var text: String { "\(instanceID)\(standing.map { " (\($0))" } ?? "")" }

  /// For evidence: the address first, where there is one.
  var evidenceText: String {
    guard let address else { return text }
    return "\(address) (\(instanceID)\(standing.map { ", \($0)" } ?? ""))"
  }
}
