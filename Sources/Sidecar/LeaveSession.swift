internal import Base
internal import Consul
internal import Model

/// The lock by which the servers of a datacenter leave one after the other. It belongs to a session of this node, which
/// ends with the node: nothing has to be cleaned up behind a server that has left, or whose process was killed.
struct LeaveSession {
  private var session: String?
  private var renewedAt = Duration.zero
  /// By uptime: when Consul was asked for the lock that it has given last.
  private(set) var heldAt: Duration?

  /// The session lasts at most twice as long without a renewal (Consul documentation, "Sessions").
  private static let ttl = Duration.seconds(30)
  private static let renewal = Duration.seconds(10)
  /// Between two departures: time for the next to see the removal of the one before.
  private static let lockDelay = Duration.seconds(5)

  enum Attempt: Equatable {
    case held
    /// Instance ID of the holder; nil where none holds it yet, or the pause between two departures goes on.
    case heldBy(String?)
  }

  /// Takes the lock, or makes sure that it is still held.
  /// - Parameter instance: this one's ID, by which a process goes on with the session of one that has ended.
  mutating func acquire(
    _ client: AgentClient, instance: String, _ context: RuntimeContext
  ) async throws -> Attempt {
    let now = context.uptime(), pid = context.system.pid
    if let id = session, now - renewedAt >= Self.renewal {
      if try await client.renewSession(id) { renewedAt = now } else { session = nil }
    }
    if session == nil {
      let lock = try await client.leaveLock()
      let isOrphan = try lock.instance == instance && !Self.isRunning(lock.pid, context.files)
      if isOrphan, let id = lock.session, try await client.renewSession(id) { session = id }
      renewedAt = now
    }
    let id: String
    if let known = session {
      id = known
    } else {
      id = try await client.createSession(ttl: Self.ttl, lockDelay: Self.lockDelay)
      session = id
    }
    let askedAt = context.uptime()
    if try await client.acquireLeaveLock(session: id, instance: instance, pid: pid) {
      heldAt = askedAt
      return .held
    }
    let lock = try await client.leaveLock()
    return .heldBy(lock.session == nil ? nil : lock.instance)
  }

  private static func isRunning(_ pid: Int64?, _ files: any FileReader) throws(FileError) -> Bool {
    guard let pid else { return false }
    return try files.status("/proc/\(pid)") != nil
  }

  /// One that has to wait does not hold up another that may leave. It keeps its session.
  func yield(_ client: AgentClient) async throws {
    if let id = session { try await client.releaseLeaveLock(session: id) }
  }

  /// Lets the next one leave at once: the end of the session alone would begin the pause between two departures.
  mutating func release(_ client: AgentClient) async throws {
    guard let id = session else { return }
    session = nil
    try await client.releaseLeaveLock(session: id)
    try await client.destroySession(id)
  }
}
