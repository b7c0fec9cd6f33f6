/// Where a command writes its output: a terminal, a file or a pipe. The real one is `Terminal` in Host.
package protocol TextOutput: Sendable {
  func write(_ text: String)
  var isTerminal: Bool { get }
  /// Colours are wanted and the terminal has them.
  var hasColors: Bool { get }
  /// In columns; 80 if unknown.
  var width: Int { get }
}

/// One of the eight colours that every terminal has (ECMA-48, SGR).
package enum TextColor: Int, Sendable { case red = 31, green, yellow }

extension TextOutput {
  package func colored(_ text: String, _ color: TextColor) -> String {
    hasColors ? "\u{1B}[\(color.rawValue)m\(text)\u{1B}[0m" : text
  }
}

/// The log on standard error, which also takes whole lines. The real one is `Console` in Host.
package protocol ErrorOutput: LogSink {
  func write(text: String)
}

/// Keeps two processes apart. The real one is `FileLocks` in Host.
package protocol LockStore: Sendable {
  /// The lock is held until the returned value is released, or until the process ends.
  func lock(directory: String, name: String) throws(LockError) -> any HeldLock
}

package protocol HeldLock: AnyObject, Sendable {}

/// Why a lock is not to be had.
package enum LockError: ExplainedError, Equatable {
  /// The directory cannot be created, or the lock's file cannot be opened.
  case unavailable(FileError)
  /// - holder: the id of the process that holds it; nil if it cannot be read.
  case held(path: String, holder: String?)

  package var explanation: String {
    switch self {
    case .unavailable(let error): error.explanation
    case .held(let path, let holder): "\(holder.map { "process \($0)" } ?? "another process") holds \(path)"
    }
  }
}

/// Signals that end a process or make it reload: SIGTERM, SIGINT and SIGHUP. The real one is `Signals` in Host.
package protocol SignalSource: Sendable {
  /// Calls `handler` with each signal's number, one at a time, from now on; none that came earlier is lost.
  func deliver(to handler: @escaping @Sendable (Int32) -> Void)
}
