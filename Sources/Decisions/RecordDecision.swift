internal import Base
package import Model

/// What the cluster's record says to a server that would found a new cluster by everything else that is known.
package enum RecordDecision: Sendable, Equatable {
  /// Creates the next entry: this and the other servers that count found a cluster, unless another server is first.
  case claim(number: Int, epoch: Int64, founders: [ClusterRecord.Server])
  /// The newest entry names this server among the founders: it waits for all of them.
  case found(RecordEntry)
  /// Why this server must not found a cluster now.
  case wait(reason: String)
  /// The record cannot be read.
  case unavailable(Failure)
  /// A cluster exists, and this server cannot see it.
  case refuse(RecordRefusal)

  /// - Parameters:
  ///   - members: the servers that count, this one among them.
  ///   - asked: the other instances whose data was asked for, each with its answer if there is one.
  package init(
    _ observation: RecordObservation, identity: Identity, members: [Member],
    asked: [(instanceID: String, answersEmpty: Bool)], _ settings: Settings
  ) {
    let founders = members.map { ClusterRecord.Server(instance: $0.instanceID, address: $0.address) }
    switch observation.newest {
    case .unavailable(let failure): self = .unavailable(failure)
    case .notRead, .none:
      self = Self.claim(1, epoch: 1, founders, observation)
    case .entry(let entry):
      let record = entry.record
      let name = observation.parameter(entry.number)
      let next = Self.claim(entry.number + 1, epoch: record.epoch.saturatingAdding(1), founders, observation)
      switch record.state {
      case .closed: self = next
      case .recovering, .restoring:
        self = .wait(reason: "\(name) says that \(record.by ?? "an instance") is \(record.state.rawValue) the cluster")
      case .forming:
        self = Self.join(entry, name, observation, identity, members: members, settings, next: next)
      case .formed:
        let refusal = RecordRefusal(entry, name: name, observation, asked: asked)
        self = refusal.isTotalLoss && settings.onTotalLoss == .new ? next : .refuse(refusal)
      }
    }
  }

  private static func claim(
    _ number: Int, epoch: Int64, _ founders: [ClusterRecord.Server], _ observation: RecordObservation
  ) -> RecordDecision {
    guard observation.mayClaim else {
      return .wait(reason: "only a run adds to the cluster's record \(observation.path)")
    }
    guard number <= RecordEntry.maximumNumber else {
      return .wait(reason: "the cluster's record \(observation.path) is full: name another one")
    }
    return .claim(number: number, epoch: epoch, founders: founders)
  }

  /// An entry that is forming holds as long as all its founders may come. One of them that is gone would be waited for
  /// in vain: any server that sees so starts again, with the servers that count now. All founders that are left must be
  /// among them: those of the entry before and those of the next then never bootstrap without each other.
  private static func join(
    _ entry: RecordEntry, _ name: String, _ observation: RecordObservation, _ identity: Identity,
    members: [Member], _ settings: Settings, next: RecordDecision
  ) -> RecordDecision {
    let record = entry.record
    func isGone(_ server: ClusterRecord.Server) -> Bool {
      guard let instance = server.instance else { return false }
      return settings.assumedDead.contains(instance) || observation.standings[instance]?.isGone ?? false
    }
    let living = record.servers.filter { !isGone($0) }
    guard living.count < record.servers.count else {
      return record.names(identity.instanceID)
        ? .found(entry)
        : .wait(reason: "\(name) names others as the founders: \(record.servers.map(\.text).joined(separator: ", "))")
    }
    let left = living.filter { server in !members.contains { $0.instanceID == server.instance } }
    guard left.isEmpty else {
      let names = left.map(\.text).joined(separator: ", ")
      return .wait(reason: "\(name) names founders that are not terminated and do not count: \(names)")
    }
    return next
  }
}

/// A cluster that exists by the record, and that this server cannot join.
package struct RecordRefusal: Sendable, Equatable {
  /// Name of the parameter.
  package let name: String
  package let record: ClusterRecord
  /// Servers that neither answered as part of the cluster nor are terminated.
  package let unreachable: [String]
  /// Servers whose agent runs without data.
  package let empty: [String]
  /// Servers that are proven to be gone.
  package let gone: [String]

  /// Whether no server can bring the data back.
  package var isTotalLoss: Bool { unreachable.isEmpty && empty.isEmpty }

  init(
    _ entry: RecordEntry, name: String, _ observation: RecordObservation,
    asked: [(instanceID: String, answersEmpty: Bool)]
  ) {
    self.name = name
    record = entry.record
    var unreachable: [String] = [], empty: [String] = [], gone: [String] = []
    for server in entry.record.servers {
      guard let instance = server.instance else {
        unreachable.append(server.text)
        continue
      }
      if observation.standings[instance]?.isGone ?? false {
        gone.append(instance)
      } else if asked.contains(where: { $0.instanceID == instance && $0.answersEmpty }) {
        empty.append(instance)
      } else {
        unreachable.append(instance)
      }
    }
    self.unreachable = unreachable
    self.empty = empty
    self.gone = gone
  }
}

extension RecordRefusal {
  /// What the record says against what is here.
  package var text: String {
    let parts = [
      (unreachable, "neither reachable nor terminated"), (empty, "running without the cluster's data"),
      (gone, "terminated"),
    ].filter { !$0.0.isEmpty }.map { names, state in "\(names.joined(separator: ", ")) \(state)" }
    return "\(name) says that a cluster exists, but none answers: \(parts.joined(separator: "; "))"
  }

  /// The end of a boot, with status 18.
  package var failure: Failure {
    let servers = (unreachable + empty).joined(separator: ", ")
    let restart =
      "start over, without the old data: \(isTotalLoss ? "" : "terminate all of them and ")set --on-total-loss new, "
      + "or close the record (docs/operations.md)"
    var failure = Failure(
      .clusterExisted, text,
      details: [
        "cluster \(record.cluster), epoch \(record.epoch), last recorded by \(record.by ?? "an operator")"
          + (record.at.map { " at \($0.iso8601)" } ?? "")
      ],
      hint: isTotalLoss
        ? "all its servers are terminated: restore a snapshot into a new cluster, or \(restart)"
        : "bring \(servers) back with \(servers.contains(",") ? "their" : "its") data, or restore a snapshot, "
          + "or \(restart)"
    )
    failure.needsRepair = true
    return failure
  }
}
