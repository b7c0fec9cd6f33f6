internal import Base
internal import CSpawn
internal import Glibc
internal import Synchronization

/// Delivers signals as calls on a thread, through a pipe that the signal handlers write to.
///
/// Blocked signals and `sigwait` do not work here: libdispatch parks the main thread in `sigsuspend` with every signal
/// unblocked.
package final class Signals: SignalSource {
  private struct State {
    var handler: (@Sendable (Int32) -> Void)?
    /// Signals that arrived before there was a handler, each once, as the kernel keeps pending signals.
    var pending: [Int32] = []
  }

  /// They end a run, or are forwarded to the agent.
  private static let handled = [SIGTERM, SIGINT, SIGHUP]

  private let state = Mutex(State())
  private let pipe: (reader: Descriptor, writer: Descriptor)

  /// Catches the signals from here on; none is lost before `deliver` is called.
  /// - Throws: `ResourceError`.
  package init() throws(ResourceError) {
    // Only the handlers must not block.
    pipe = try createPipe(nonBlocking: true)
    guard fcntl(pipe.reader.number, F_SETFL, 0) == 0 else {
      throw ResourceError(resource: "a pipe", number: errno)
    }
    try startThread("signals") { [self] in receive() }
    for number in Self.handled where cb_signal_to_descriptor(number, pipe.writer.number) != 0 {
      throw ResourceError(resource: "a handler for signal \(number)", number: errno)
    }
    // `signal` fails for numbers that are no signals only (signal(2)).
    // A reader that went away is an error of `write`, not the end of the process.
    signal(SIGPIPE, SIG_IGN)
    // A parent process may have passed on that it ignores this one; the kernel would then discard exit statuses.
    signal(SIGCHLD, SIG_DFL)
  }

  var pending: [Int32] { state.withLock { $0.pending } }

  /// Calls `handler` with each signal's number, one at a time, from now on.
  package func deliver(to handler: @escaping @Sendable (Int32) -> Void) {
    state.withLock { state in
      state.handler = handler
      for number in state.pending { handler(number) }
      state.pending = []
    }
  }

  private func receive() {
    var byte: UInt8 = 0
    while true {
      let count = read(pipe.reader.number, &byte, 1)
      if count < 0, errno == EINTR { continue }
      // The writing end stays open as long as the process lives.
      guard count == 1 else { return }
      let number = Int32(byte)
      state.withLock { state in
        if let handler = state.handler {
          handler(number)
        } else if !state.pending.contains(number) {
          state.pending.append(number)
        }
      }
    }
  }
}
