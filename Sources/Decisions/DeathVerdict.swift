package import Base

/// One answer of EC2 about instances, in which this instance is asked about, too: the control.
package struct InstanceAnswer: Sendable, Equatable {
  /// By uptime: when the request was sent, and when its answer was complete.
  package let askedAt: Duration
  package let answeredAt: Duration
  /// IDs of the instances that it was asked about.
  package let instances: Set<String>
  /// By instance ID, as EC2 spells them; those that EC2 does not know are missing.
  package let states: [String: String]

  package init(askedAt: Duration, answeredAt: Duration, instances: Set<String>, states: [String: String]) {
    self.askedAt = askedAt
    self.answeredAt = answeredAt
    self.instances = instances
    self.states = states
  }
}

/// A node that may be dead, as this cluster and the network show it.
package struct SuspectedNode: Sendable, Equatable {
  package let node: String
  /// Nil if the node does not name its instance.
  package let instanceID: String?
  /// For how long gossip has continuously known it as failed, or not at all; nil while gossip knows it as alive or
  /// leaving.
  package let failedFor: Duration?
  /// Of its gossip port, now; nil if it has not been probed, or has no address.
  package let probe: ProbeResult?
  /// Members that are alive and have its address or its instance ID.
  package let livingTwins: [String]
  /// EC2 has known its instance, in any state: one of another account or region it never knows.
  package let wasKnown: Bool

  package init(
    node: String, instanceID: String?, failedFor: Duration?, probe: ProbeResult?, livingTwins: [String] = [],
    wasKnown: Bool
  ) {
    self.node = node
    self.instanceID = instanceID
    self.wasKnown = wasKnown
    self.failedFor = failedFor
    self.probe = probe
    self.livingTwins = livingTwins
  }
}

/// Whether a node can never come back: EC2 has said twice that its instance is terminated, and neither gossip, the
/// network nor Auto Scaling contradicts.
///
/// An unreachable service, an incomplete answer and a node that is merely unreachable are all `unknown`.
package enum DeathVerdict: Sendable, Equatable {
  /// With what proves it, for the log.
  case gone(evidence: String)
  case unknown(reason: String)
  case alive(reason: String)

  package struct Rules: Sendable, Equatable {
    /// Between the end of the first call and the start of the second.
    package var interval: Duration
    /// A failure detector may be wrong about a node that is paused or partitioned.
    package var failedFor: Duration
    /// EC2 forgets an instance about an hour after its termination.
    package var absentAfter = Duration.seconds(7200)

    package init(interval: Duration = .seconds(15), failedFor: Duration = .seconds(30)) {
      self.interval = interval
      self.failedFor = failedFor
    }
  }

  /// - Parameters:
  ///   - own: ID of this instance, which EC2 has to report as running: then the answers are of this region and account.
  ///   - first: EC2's earlier answer.
  ///   - second: its later one.
  ///   - lifecycleStates: of the instances that Auto Scaling lists, by instance ID; nil if it has not been asked.
  package init(
    of suspect: SuspectedNode, own: String, first: InstanceAnswer?, second: InstanceAnswer?,
    lifecycleStates: [String: String]?, rules: Rules = Rules()
  ) {
    guard let failedFor = suspect.failedFor else {
      self = .alive(reason: "gossip does not know it as failed")
      return
    }
    guard let instanceID = suspect.instanceID else {
      self = .unknown(reason: "it does not name its instance (node_meta.instance_id)")
      return
    }
    guard instanceID != own else {
      self = .alive(reason: "\(own) is this instance")
      return
    }
    guard suspect.livingTwins.isEmpty else {
      let twins = suspect.livingTwins.joined(separator: ", ")
      self = .unknown(reason: "\(twins) is alive and has its address or its instance ID")
      return
    }
    guard failedFor >= rules.failedFor else {
      self = .unknown(reason: "it has failed for less than \(rules.failedFor.components.seconds) s")
      return
    }
    if let doubt = Self.doubt(
      about: instanceID, own: own, first: first, second: second, wasKnown: suspect.wasKnown,
      isOld: failedFor >= rules.absentAfter, rules)
    {
      self = .unknown(reason: doubt)
      return
    }
    guard let lifecycleStates else {
      self = .unknown(reason: "Auto Scaling has not answered whether it lists \(instanceID)")
      return
    }
    let isForgotten = first?.states[instanceID] == nil || second?.states[instanceID] == nil
    if let state = lifecycleStates[instanceID], isForgotten || Self.isServing(state) {
      self = .unknown(reason: "Auto Scaling lists \(instanceID) as \(state)")
      return
    }
    switch suspect.probe {
    case nil: self = .unknown(reason: "its gossip port has not been probed")
    case .open?: self = .alive(reason: "its gossip port accepts connections")
    case .refused?, .silent?, .unreachable?:
      let words = isForgotten ? "no longer known to EC2" : "terminated"
      self = .gone(
        evidence: "\(instanceID) is \(words) by two answers that report \(own) as running, failed for "
          + "\(failedFor.components.seconds) s, not served by Auto Scaling, and its gossip port does not answer")
    }
  }

  /// Why the two answers do not prove that the instance is terminated; nil if they do.
  private static func doubt(
    about instanceID: String, own: String, first: InstanceAnswer?, second: InstanceAnswer?, wasKnown: Bool,
    isOld: Bool, _ rules: Rules
  ) -> String? {
    guard let first, let second, [first, second].allSatisfy({ $0.instances.contains(instanceID) }) else {
      return "EC2 has not answered twice"
    }
    for answer in [first, second] {
      guard answer.states[own] == "running" else {
        let state = answer.states[own].map { "as \($0)" } ?? "not at all"
        return "EC2 reports this instance, \(own), \(state): its answer proves nothing"
      }
    }
    for answer in [first, second] {
      switch answer.states[instanceID] {
      case "terminated"?: continue
      case nil where !wasKnown:
        return "EC2 has never known \(instanceID): it may be of another account or region"
      case nil where isOld: continue
      case nil:
        return "EC2 does not know \(instanceID), which counts once it has failed for "
          + "\(rules.absentAfter.components.seconds / 3600) h"
      case let state?: return "EC2 reports \(instanceID) as \(state)"
      }
    }
    guard second.askedAt - first.answeredAt >= rules.interval else {
      return "EC2's two answers are less than \(rules.interval.components.seconds) s apart"
    }
    return nil
  }

  /// States in which Auto Scaling counts the instance, or is about to.
  private static func isServing(_ lifecycleState: String) -> Bool {
    lifecycleState == "InService" || lifecycleState.hasPrefix("Pending")
  }

  package var isGone: Bool {
    if case .gone = self { true } else { false }
  }
}
