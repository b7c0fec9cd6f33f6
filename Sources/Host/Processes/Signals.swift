internal import CSpawn
internal import Glibc

/// Signals as calls on a thread of our own, by way of a pipe that the handlers write to. (Blocking them for `sigwait` does
/// not work beside Swift's main queue: libdispatch parks the main thread in `sigsuspend` with every signal unblocked.)
package struct Signals: Sendable {
  /// The ones that end a run or are forwarded to the agent.
  private static let handled = [SIGTERM, SIGINT, SIGHUP]

  private let pipe: (read: Int32, write: Int32)

  /// Catches the signals from here on; none is lost before `deliver` is called.
  package init() {
    pipe = makePipe(nonBlocking: true)
    // The reader waits.
    _ = fcntl(pipe.read, F_SETFL, 0)
    for number in Self.handled { cb_signal_to_descriptor(number, pipe.write) }
    // A reader that went away is an error of `write`, not the end of the process.
    signal(SIGPIPE, SIG_IGN)
  }

  /// Calls `handler` with each signal's number, one at a time, from now on.
  package func deliver(to handler: @escaping @Sendable (Int32) -> Void) {
    let descriptor = pipe.read
    startThread {
      var byte: UInt8 = 0
      while true {
        if read(descriptor, &byte, 1) == 1 { handler(Int32(byte)) }
      }
    }
  }
}
