package import Base

/// What the sidecar of a server knows of an outage of its cluster, for `status` and for `recover`: a file that exists
/// while the cluster has no leader.
package struct OutageReport: Sendable, Equatable {
  package enum Decision: String, Sendable {
    /// Something is missing.
    case wait
    /// A server can recover the cluster: this one, or another.
    case recoverable
    /// This server recovers it.
    case recovering
    /// The recovery has not brought a leader: it is not tried again.
    case failed
    /// No server has data, and all that had are gone.
    case lost
  }

  package let decision: Decision
  package let reason: String
  /// What is missing or what is there, a line each.
  package let details: [String]
  /// The instance with the longest log.
  package let best: String?
  package let time: Timestamp
  package let uptime: Duration
  package let bootID: String

  package init(
    _ decision: Decision, reason: String, details: [String], best: String? = nil, time: Timestamp, uptime: Duration,
    bootID: String
  ) {
    self.decision = decision
    self.reason = reason
    self.details = details
    self.best = best
    self.time = time
    self.uptime = uptime
    self.bootID = bootID
  }

  /// The sidecar writes one every 15 s.
  private static let freshness = Duration.seconds(45)

  /// Whether it tells of now.
  package func isCurrent(uptime now: Duration, bootID: String) -> Bool {
    self.bootID == bootID && uptime <= now && now - uptime <= Self.freshness
  }

  package static let sizeLimit = 64 << 10

  package var json: JSONValue {
    [
      "decision": .string(decision.rawValue), "reason": .string(reason), "details": .strings(details),
      "best": best.map(JSONValue.string) ?? .null, "time": .string(time.iso8601),
      "uptime_milliseconds": .integer(uptime.wholeMilliseconds), "boot_id": .string(bootID),
    ]
  }

  /// What needs attention, while the agent knows no leader.
  /// - Parameter path: of the report.
  package static func problems(at path: String, _ files: any FileReader) -> [Problem] {
    do {
      guard let bytes = try files.readIfPresent(path, limit: sizeLimit),
        let report = OutageReport(json: try JSONValue(parsing: bytes))
      else { return [] }
      let details = report.details.isEmpty ? "" : ": " + report.details.joined(separator: "; ")
      return [Problem("the outage: \(report.reason)\(details)", hint: "consul-bootstrap recover --dry-run explains it")]
    } catch {
      return [
        Problem(
          "cannot read the sidecar's report on the outage: \(error.explained)",
          hint: "the next report replaces it: check the sidecar's log")
      ]
    }
  }

  /// Nil if it is no such report.
  package init?(json: JSONValue) {
    guard let decision = json["decision"]?.string.flatMap(Decision.init), let reason = json["reason"]?.string,
      let time = json["time"]?.string.flatMap({ Timestamp(iso8601: $0) }),
      let uptime = json["uptime_milliseconds"]?.integer, let bootID = json["boot_id"]?.string
    else { return nil }
    self.init(
      decision, reason: reason, details: (json["details"]?.array ?? []).compactMap(\.string),
      best: json["best"]?.string, time: time, uptime: .milliseconds(uptime), bootID: bootID)
  }
}

/// What a person has asked the sidecar to do: `consul-bootstrap recover` writes it, and the sidecar removes it.
package struct RecoveryRequest: Sendable, Equatable {
  /// Instances whose data will not come back, by that person's word.
  package let assumedDead: Set<String>
  package let uptime: Duration
  package let bootID: String

  package init(assumedDead: Set<String>, uptime: Duration, bootID: String) {
    self.assumedDead = assumedDead
    self.uptime = uptime
    self.bootID = bootID
  }

  /// For so long `recover` waits: 15 s for a look, 100 s for a copy of the raft data, and 60 s for a leader.
  package static let lifetime = Duration.seconds(180)

  /// Whether the person still waits for it: one that was interrupted must not act hours later.
  package func isCurrent(uptime now: Duration, bootID: String) -> Bool {
    self.bootID == bootID && uptime <= now && now - uptime <= Self.lifetime
  }

  package static let sizeLimit = 16 << 10

  package var json: JSONValue {
    [
      "assume_dead": .strings(assumedDead.sorted()), "boot_id": .string(bootID),
      "uptime_milliseconds": .integer(uptime.wholeMilliseconds),
    ]
  }

  /// Nil if it is no such request.
  package init?(json: JSONValue) {
    guard let bootID = json["boot_id"]?.string, let dead = json["assume_dead"]?.array,
      let uptime = json["uptime_milliseconds"]?.integer
    else { return nil }
    self.init(assumedDead: Set(dead.compactMap(\.string)), uptime: .milliseconds(uptime), bootID: bootID)
  }
}
