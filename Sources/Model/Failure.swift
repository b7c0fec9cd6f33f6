internal import Base

/// The program's exit status, as documented in docs/options.md and by `--help`.
package enum ExitStatus: Int32, Sendable, CaseIterable {
  case done = 0
  case problemsFound = 1
  case usage = 2
  case noMetadata = 10
  case noCredentials = 11
  case awsFailed = 12
  case groupIncomplete = 13
  case configurationRejected = 14
  case agentNotStarted = 15
  case agentUnhealthy = 16
  case anotherRun = 17
  case clusterExisted = 18
  case notLeft = 19
  /// EX_SOFTWARE of sysexits.h.
  case internalError = 70

  /// One line for help and documents.
  package var meaning: String {
    switch self {
    case .done: "done"
    case .problemsFound: "status --check or doctor found problems"
    case .usage: "invalid command line, environment variable or configuration file"
    case .noMetadata: "no instance metadata"
    case .noCredentials: "no AWS credentials"
    case .awsFailed: "AWS refused a call or failed"
    case .groupIncomplete: "the group was not complete in time"
    case .configurationRejected: "the configuration cannot be written, or Consul rejects it"
    case .agentNotStarted: "the Consul agent did not start"
    case .agentUnhealthy: "the agent started but is not healthy"
    case .anotherRun: "another consul-bootstrap is running on this machine"
    case .clusterExisted: "a cluster existed, and no new one is formed silently in its place"
    case .notLeft: "this machine has not left its cluster"
    case .internalError: "an internal error"
    }
  }
}

/// An error as the user sees it: what failed in the user's words, what exactly happened, what to do.
///
/// Flows throw it; only `Commands` prints it, once.
/// - Important: no part of it may hold a secret.
package struct Failure: ExplainedError, Sendable, Equatable {
  package let status: ExitStatus
  /// What failed, in the user's words; no capital, no full stop.
  package let message: String
  /// What exactly happened, a line each.
  package var details: [String]
  /// What to do about it.
  package var hint: String?
  /// Whether the cluster has to be repaired first: another instance in place of this one would fail in the same way.
  package var needsRepair = false

  package init(_ status: ExitStatus, _ message: String, details: [String] = [], hint: String? = nil) {
    self.status = status
    self.message = message
    self.details = details
    self.hint = hint
  }

  /// One line for a log.
  package var explanation: String {
    ([message] + details + (hint.map { ["hint: " + $0] } ?? [])).joined(separator: "; ")
  }

  /// The details of a failure at AWS have a request ID.
  package var stableExplanation: String { [message, hint].compactMap { $0 }.joined(separator: "; ") }

  /// The lines of the report, the first without the program's name.
  package var lines: [String] {
    [message] + details.map { "  " + $0 } + (hint.map { ["  hint: " + $0] } ?? [])
  }
}
