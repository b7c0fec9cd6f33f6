package import Base

/// What EC2 or Auto Scaling announces for this instance and is no departure: the sidecar reports it for `status`.
package struct InstanceNotice: Sendable, Equatable {
  package enum Kind: String, Sendable {
    /// The spot instance is at an elevated risk of interruption.
    case rebalance
    /// EC2 will restart, stop or retire the instance, or maintain its host.
    case scheduled
    /// Auto Scaling does not count the instance any more, for a while or for good.
    case standby, detached
  }

  package let kind: Kind
  /// Tells two notices apart.
  package let id: String
  /// Of a scheduled event, as EC2 names it; empty without one.
  package let code: String
  /// Of a scheduled event; nil without one, or if EC2's time cannot be read.
  package let notBefore: Timestamp?
  /// The time until then, by the clock of the service: that of this machine may be wrong.
  package let startsIn: Duration?

  package init(
    _ kind: Kind, id: String? = nil, code: String = "", notBefore: Timestamp? = nil, startsIn: Duration? = nil
  ) {
    self.kind = kind
    self.id = id ?? kind.rawValue
    self.code = code
    self.notBefore = notBefore
    self.startsIn = startsIn
  }

  /// The same, so long after it was read.
  package func later(by time: Duration) -> Self {
    Self(kind, id: id, code: code, notBefore: notBefore, startsIn: startsIn.map { $0 - time })
  }

  /// So long before its start a scheduled event is a problem.
  private static let warning = Duration.seconds(86_400)

  /// Whether it is a scheduled event that begins soon, or at a time that is not known.
  package var isNear: Bool { kind == .scheduled && startsIn.map { $0 <= Self.warning } ?? true }

  package var text: String {
    switch kind {
    case .rebalance: "EC2 recommends to replace this spot instance: it may soon be interrupted"
    case .scheduled:
      "EC2 has scheduled \(code) for this instance, "
        + (notBefore.map { "not before \($0.iso8601)" } ?? "at a time that cannot be read")
    case .standby: "Auto Scaling has this instance in Standby, and does not count it: it stays a member"
    case .detached: "this instance is detached from its Auto Scaling group: it stays a member that nothing replaces"
    }
  }

  /// What to do about a scheduled event.
  package var hint: String {
    switch code {
    case "instance-retirement", "instance-stop":
      "terminate the instance in its Auto Scaling group before then, which replaces it"
    default: "make sure that the other servers are well then: this instance returns with its data"
    }
  }
}

// MARK: As JSON

extension InstanceNotice {
  package var json: JSONValue {
    [
      "kind": .string(kind.rawValue), "id": .string(id), "code": .string(code),
      "not_before": notBefore.map { .string($0.iso8601) } ?? .null,
      "starts_in_seconds": startsIn.map { .integer($0.components.seconds) } ?? .null,
    ]
  }

  /// Nil if the value is none.
  package init?(json: JSONValue) {
    guard let kind = json["kind"]?.string.flatMap(Kind.init), let id = json["id"]?.string,
      let code = json["code"]?.string
    else { return nil }
    self.init(
      kind, id: id, code: code, notBefore: json["not_before"]?.string.flatMap { Timestamp(iso8601: $0) },
      startsIn: json["starts_in_seconds"]?.integer.map { .seconds($0) })
  }
}
