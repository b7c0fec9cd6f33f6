internal import Base
internal import Decisions
internal import Observers
internal import Synchronization

/// The servers that AWS lists, kept current beside the looks at the agent: after a network cut a call may hang as long
/// as the cut has lasted, and the looks must not wait for it.
final class PresentServers: Sendable {
  private let state = Mutex(State())

  private struct State {
    var list: List?
    /// The server is in no cluster, and needs a current list.
    var isAlone = false
    /// Lists in a row that it read alone.
    var listsAlone = 0
    /// When the next one is due, by uptime; nil before the first look at the agent.
    var next: Duration?
  }

  struct List: Sendable {
    let readiness: Readiness
    /// How many lists came before it.
    let number: Int
  }

  /// While the server is in no cluster, for the first lists: up to three AWS calls each. One that fails is repeated as
  /// often for as long as it does: during a cut it reaches no service.
  private static let aloneBackoff = Backoff(base: .seconds(2), cap: .seconds(5))
  private static let frequentLists = 60
  private static let alonePause = Duration.seconds(30)

  var list: List? { state.withLock { $0.list } }

  /// A server that has just lost its cluster reads a new list at once.
  /// - Parameter pause: between two lists of a member of its cluster.
  func set(isAlone: Bool, at uptime: Duration, pause: Duration) {
    state.withLock { state in
      if isAlone, !state.isAlone { (state.listsAlone, state.next) = (0, uptime) }
      state.isAlone = isAlone
      state.next = state.next ?? uptime + pause
    }
  }

  func isDue(at uptime: Duration) -> Bool { state.withLock { state in state.next.map { uptime >= $0 } ?? false } }

  /// - Parameters:
  ///   - readiness: nil if the call failed.
  ///   - pause: between two lists of a member of its cluster.
  func add(_ readiness: Readiness?, at uptime: Duration, pause: Duration) {
    state.withLock { state in
      if let readiness { state.list = List(readiness: readiness, number: (state.list?.number ?? -1) + 1) }
      guard state.isAlone else {
        state.next = uptime + pause
        return
      }
      let isFrequent = readiness == nil || state.listsAlone < Self.frequentLists
      state.next = uptime + (isFrequent ? Self.aloneBackoff.bound(state.listsAlone) : Self.alonePause)
      state.listsAlone += 1
    }
  }
}
