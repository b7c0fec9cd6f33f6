internal import Glibc

/// Signals as calls on a thread of our own. They are blocked first, in every thread to come, so that none is missed and
/// none interrupts anything.
package enum Signals {
  /// The ones that end a run or are forwarded to the agent.
  package static let handled = [SIGTERM, SIGINT, SIGHUP]

  /// Must be called before any other thread exists.
  package static func block() {
    var set = signalSet()
    pthread_sigmask(SIG_BLOCK, &set, nil)
    // A reader that went away is an error of `write`, not the end of the process.
    signal(SIGPIPE, SIG_IGN)
  }

  /// Calls `handler` with each handled signal's number, one at a time, from now on.
  package static func deliver(to handler: @escaping @Sendable (Int32) -> Void) {
    startThread {
      var set = signalSet()
      var number: Int32 = 0
      while true {
        if sigwait(&set, &number) == 0 { handler(number) }
      }
    }
  }

  private static func signalSet() -> sigset_t {
    var set = sigset_t()
    sigemptyset(&set)
    for number in handled { sigaddset(&set, number) }
    return set
  }
}
