internal import Base
internal import Consul

/// Whether a server that joined carries its part of the quorum. Its launch hook waits for this: with the hook's
/// CONTINUE an instance refresh terminates an old server.
struct StabilityCheck {
  private let stabilization: Duration
  private let context: RuntimeContext
  private let lastLog: HealthCheck.LastLog?
  private var answer = Answer.none(reason: "autopilot was not asked yet")
  /// Uptime since when autopilot's answer about this voter is waited for.
  private var unansweredSince: Duration?
  /// When the server's health last changed by the leader's clock, and the uptime at which this check first saw that.
  private var stable: (since: Timestamp, seenAt: Duration)?

  /// What autopilot answers about this server; its health is in `stable`.
  private enum Answer {
    case none(reason: String)
    case known
    /// ACLs hide it from this program's token, or this release has no autopilot.
    case hidden
  }

  /// An election takes a second or two, and a new leader's autopilot a few more.
  private static let autopilotTimeout = Duration.seconds(10)
  /// Autopilot's default `max_trailing_logs`.
  private static let maximumLag: UInt64 = 250

  /// - Parameters:
  ///   - stabilization: how long the server must be healthy.
  ///   - lastLog: for where autopilot gives no answer.
  init(_ stabilization: Duration, context: RuntimeContext, lastLog: HealthCheck.LastLog?) {
    (self.stabilization, self.context, self.lastLog) = (stabilization, context, lastLog)
  }

  /// Asks autopilot, also before the server has its vote: the time counts from the first answer.
  /// - Parameter own: address and port of this server's raft.
  /// - Throws: `CancellationError`.
  mutating func poll(_ own: String, _ client: AgentClient) async throws {
    if case .hidden = answer { return }
    do {
      if let server = try await client.autopilotServers().first(where: { $0.address == own }) {
        return update(server)
      }
      answer = .none(reason: "autopilot does not list this server yet")
    } catch AgentError.refused(let status, _) where [403, 404].contains(status) {
      answer = .hidden
    } catch let error as AgentError {
      answer = .none(reason: "cannot ask autopilot for this server's health: \(error.explanation)")
    }
  }

  /// Two machines' clocks may differ: what counts is for how long this check sees the same time.
  private mutating func update(_ server: AutopilotServer) {
    answer = .known
    unansweredSince = nil
    guard server.isHealthy, let since = server.stableSince else {
      stable = nil
      return
    }
    if stable?.since != since { stable = (since, context.uptime()) }
  }

  /// What is missing of a voter, by the last poll; nil if nothing.
  /// - Parameters:
  ///   - own: address and port of this server's raft.
  ///   - leader: the same of the leader's.
  /// - Throws: `CancellationError`.
  mutating func missing(of own: String, leader: String) async throws -> String? {
    let now = context.uptime(), waitsSince = unansweredSince ?? now
    unansweredSince = waitsSince
    switch answer {
    case .known:
      guard let stable else { return "autopilot does not call this server healthy yet" }
      return now - stable.seenAt >= stabilization
        ? nil : "this server is not stable for \(stabilization.humanReadable) yet"
    case .none(let reason) where now - waitsSince < Self.autopilotTimeout: return reason
    case .none, .hidden: return try await compareLogs(own, leader)
    }
  }

  /// Port 8300 answers without a token, and without autopilot.
  private func compareLogs(_ own: String, _ leader: String) async throws -> String? {
    guard let lastLog, let ownAddress = IPv4Address(raftAddress: own),
      let leaderAddress = IPv4Address(raftAddress: leader)
    else {
      return "cannot compare this server's log with the leader's"
    }
    do {
      let last = try await lastLog(leaderAddress).index, mine = try await lastLog(ownAddress).index
      let (limit, overflows) = mine.addingReportingOverflow(Self.maximumLag)
      if overflows || limit >= last { return nil }
      return "this server's log ends at \(mine), the leader's at \(last)"
    } catch let error as CancellationError {
      throw error
    } catch {
      return "cannot compare this server's log with the leader's: \(error.explained)"
    }
  }
}
