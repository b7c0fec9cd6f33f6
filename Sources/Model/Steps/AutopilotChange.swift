package import Base

/// Autopilot options for a cluster that exists: only the first leader of a cluster reads them from a file (Consul
/// documentation, "Autopilot").
package struct AutopilotChange: Sendable, Equatable {
  package struct Value: Sendable, Equatable {
    /// Without the dashes.
    package let option: String
    /// In the operator API's document.
    package let key: String
    package let value: JSONValue
  }

  package let agentAddress: String
  package let token: Secret?
  /// Those that were set explicitly: a default never overrides what a cluster has.
  package let values: [Value]

  /// Nil if no such option was set explicitly.
  package init?(_ settings: Settings, agentAddress: String, token: Secret?) {
    let options: [(option: String, key: String, value: JSONValue?)] = [
      ("cleanup-dead-servers", "CleanupDeadServers", settings.cleanupDeadServers.map(JSONValue.bool)),
      (
        "last-contact-threshold", "LastContactThreshold",
        settings.lastContactThreshold.map { .string($0.canonicalGoText) }
      ),
      ("min-quorum", "MinQuorum", settings.minQuorum.map { .integer(Int64($0)) }),
      (
        "server-stabilization-time", "ServerStabilizationTime",
        settings.serverStabilizationTime.map { .string($0.canonicalGoText) }
      ),
    ]
    values = options.compactMap { option in
      option.value.map { Value(option: option.option, key: option.key, value: $0) }
    }
    guard !values.isEmpty else { return nil }
    self.agentAddress = agentAddress
    self.token = token
  }
}
