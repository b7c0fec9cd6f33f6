package import Base
internal import Decisions
package import Model

/// Whether the sidecar runs: by its unit where it has one, and by its report.
package struct SidecarStatus: Sendable {
  package enum Unit: Sendable, Equatable {
    /// None: the sidecar runs in the process that supervises the agent, or there is no sidecar.
    case none
    /// - Parameter runs: for how long its process has run.
    case active(runs: Duration?)
    case starting
    case crashing(reason: String)
    case inactive(reason: String)
    case unknown(reason: String)
  }

  package enum Report: Sendable, Equatable {
    case absent
    /// - Parameter age: how long the sidecar has not reported.
    case present(SidecarReport, age: Duration)
    case unreadable(reason: String)
  }

  package let unit: Unit
  /// A run has left the options with which the unit starts.
  package let isExpected: Bool
  package let report: Report

  package init(unit: Unit, isExpected: Bool, report: Report) {
    self.unit = unit
    self.isExpected = isExpected
    self.report = report
  }

  /// How to start it again.
  package var restart: String {
    unit == .none
      ? "run consul-bootstrap again, in the place of the process that supervises the agent"
      : "systemctl restart \(SidecarUnit.name)"
  }

  package var problems: [Problem] {
    switch unit {
    case .inactive(let reason) where isExpected:
      return [Problem("the sidecar does not run: \(reason)", hint: "systemctl start \(SidecarUnit.name)")]
    case .crashing(let reason):
      return [Problem("the sidecar crashes: \(reason)", hint: "fix what journalctl -u \(SidecarUnit.name) reports")]
    case .inactive, .starting: return []
    case .none, .active, .unknown: break
    }
    switch report {
    case .unreadable(let reason): return [Problem("cannot read the sidecar's report: \(reason)", hint: restart)]
    case .present(let report, let age):
      guard age > report.freshness, runs > report.freshness else { return [] }
      return [
        Problem("the sidecar has not reported for \(age.humanReadable), since \(report.time.iso8601)", hint: restart)
      ]
    case .absent:
      guard isExpected, case .active = unit, runs > SidecarReport.longestInterval * 3 else { return [] }
      return [Problem("the sidecar has not reported since its start", hint: restart)]
    }
  }

  /// A sidecar that has just started is not late. Without a unit only its report tells.
  private var runs: Duration { if case .active(let runs?) = unit { runs } else { .seconds(Int64.max) } }

  /// By a report that is not late.
  package var notices: [InstanceNotice] {
    guard case .present(let report, let age) = report, problems.isEmpty else { return [] }
    return report.notices.map { $0.later(by: age) }
  }

  /// Scheduled events that are near.
  package var noticeProblems: [Problem] {
    notices.filter(\.isNear).map { Problem($0.text, hint: $0.hint) }
  }

  package var notes: [String] {
    if case .unknown(let reason) = unit { return ["cannot check whether the sidecar runs: \(reason)"] }
    guard case .present(let report, _) = report, problems.isEmpty else { return [] }
    return report.problems + notices.filter { !$0.isNear }.map(\.text)
  }
}

extension SidecarStatus.Unit {
  static let properties =
    "ActiveState,SubState,LoadState,Result,NRestarts,ExecMainStatus,ExecMainStartTimestampMonotonic"

  /// - Parameters:
  ///   - unit: the output of `systemctl show` of these properties.
  ///   - uptime: by the monotonic clock, as systemd's own time stamps.
  init(_ unit: [String: String], uptime: Duration) {
    let name = SidecarUnit.name, result = unit["Result"] ?? "unknown"
    let started = unit["ExecMainStartTimestampMonotonic"].flatMap { Int64($0) }.flatMap { $0 > 0 ? $0 : nil }
    switch (unit["ActiveState"], unit["SubState"]) {
    case (_, "auto-restart"), (_, "auto-restart-queued"):
      self = .crashing(
        reason: "systemd has restarted \(name) \(unit["NRestarts"] ?? "several") times (result: \(result), status: "
          + "\(unit["ExecMainStatus"] ?? "unknown"))")
    case ("active", _), ("reloading", _): self = .active(runs: started.map { uptime - .microseconds($0) })
    case ("activating", _): self = .starting
    case ("failed", _): self = .inactive(reason: "\(name) has failed (result: \(result))")
    case ("inactive", _), ("deactivating", _):
      self = .inactive(reason: unit["LoadState"] == "not-found" ? "there is no \(name)" : "\(name) is inactive")
    default: self = .unknown(reason: "systemctl reports no state of \(name)")
    }
  }
}

// MARK: As JSON

extension SidecarStatus {
  package var json: JSONValue {
    var found: SidecarReport?, seconds: Int64?, error: String?
    switch report {
    case .absent: break
    case .present(let report, let age): (found, seconds) = (report, age.components.seconds)
    case .unreadable(let reason): error = reason
    }
    return .object([
      "unit": unitText.map(JSONValue.string) ?? .null, "age_seconds": seconds.map(JSONValue.integer) ?? .null,
      "report": found?.json ?? .null, "error": error.map(JSONValue.string) ?? .null,
    ])
  }

  private var unitText: String? {
    switch unit {
    case .none: nil
    case .active: "active"
    case .starting: "activating"
    case .crashing: "crashing"
    case .inactive: "inactive"
    case .unknown: "unknown"
    }
  }
}
