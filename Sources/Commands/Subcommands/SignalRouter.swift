internal import Base
internal import Execution
internal import Sidecar
internal import Synchronization

/// Where a signal goes: it ends the run, until this process supervises an agent; from then on it goes to the agent.
final class SignalRouter: Sendable {
  private struct State {
    var supervisor: Supervisor?
    var sidecar: Sidecar?
    var received: Int32?
    var endedBy: Int32?
    var isStopping = false
  }

  private static let stopSignals: Set<Int32> = [2, 15]

  private let state = Mutex(State())
  private let terminate: @Sendable (Int32) -> Void

  /// A run that is cancelled before its agent runs has so long to end.
  static let grace = Duration.milliseconds(800)

  /// - Parameter terminate: ends the process at once.
  init(terminate: @escaping @Sendable (Int32) -> Void) { self.terminate = terminate }

  var received: Int32? { state.withLock { $0.received } }
  /// The signal that ended the run.
  var endedBy: Int32? { state.withLock { $0.endedBy } }

  func route(to supervisor: Supervisor, _ sidecar: Sidecar) {
    state.withLock { state in
      state.supervisor = supervisor
      state.sidecar = sidecar
    }
  }

  func receive(_ number: Int32, cancel: () -> Void, reload: (Sidecar) -> Void) {
    let (supervisor, sidecar, isFirst) = state.withLock { state in
      let isFirst = !state.isStopping
      if Self.stopSignals.contains(number) { state.isStopping = true }
      state.received = number
      if state.supervisor == nil { state.endedBy = number }
      return (state.supervisor, state.sidecar, isFirst)
    }
    if let supervisor {
      Task {
        // A second signal stops the agent at once.
        if Self.stopSignals.contains(number), isFirst { await sidecar?.leaveBeforeStop() }
        await supervisor.signal(number)
      }
      // SIGHUP: the agent reads its configuration again, and so does this program.
      if number == 1, let sidecar { reload(sidecar) }
      return
    }
    cancel()
    Task.detached { [terminate] in
      try? await ContinuousClock().sleep(for: Self.grace)
      terminate(128 + number)
    }
  }
}
