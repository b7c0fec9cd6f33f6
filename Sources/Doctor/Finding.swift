package import Base
internal import Model

/// The result of one check of something that a boot depends on.
package struct Finding: Sendable, Equatable {
  package enum Severity: String, Sendable {
    case ok
    /// Worth knowing; a boot succeeds all the same.
    case note
    /// A boot would fail, wait in vain or leave an unhealthy node.
    case problem
  }

  /// What was checked: one word, an IAM action, an endpoint or a peer.
  package let subject: String
  package let severity: Severity
  package let message: String
  /// How to fix it.
  package var hint: String?
  /// How long the check took, where that is of interest.
  package var time: Duration?

  static func ok(_ subject: String, _ message: String, time: Duration? = nil) -> Finding {
    Finding(subject: subject, severity: .ok, message: message, time: time)
  }

  static func note(_ subject: String, _ message: String, hint: String? = nil) -> Finding {
    Finding(subject: subject, severity: .note, message: message, hint: hint)
  }

  static func problem(_ subject: String, _ message: String, hint: String? = nil) -> Finding {
    Finding(subject: subject, severity: .problem, message: message, hint: hint)
  }

  /// A `Failure` keeps its hint.
  static func problem(_ subject: String, _ error: any Error) -> Finding {
    guard let failure = error.asFailure("check \(subject)") as? Failure else {
      return problem(subject, error.explained)
    }
    return problem(subject, ([failure.message] + failure.details).joined(separator: "; "), hint: failure.hint)
  }

  package var json: JSONValue {
    .object([
      "subject": .string(subject), "severity": .string(severity.rawValue), "message": .string(message),
      "hint": hint.map(JSONValue.string) ?? .null,
      "milliseconds": time.map { .integer($0.wholeMilliseconds) } ?? .null,
    ])
  }
}
