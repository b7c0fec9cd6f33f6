/// A command line. It must not contain a secret.
package struct Command: Sendable, Equatable {
  /// Absolute path of the program.
  package let program: String
  package let arguments: [String]

  package init(_ program: String, _ arguments: [String]) {
    self.program = program
    self.arguments = arguments
  }

  /// As typed in a shell.
  package var text: String {
    ([program] + arguments).map { word in
      let plain = word.utf8.allSatisfy { byte in
        UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "A")...UInt8(ascii: "Z") ~= byte
          || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte || "-_./:=,@%+{}".utf8.contains(byte)
      }
      return plain && !word.isEmpty
        ? word : "'" + word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
    }.joined(separator: " ")
  }
}

/// How a process ended.
package enum ProcessEnd: Sendable, Equatable {
  case exited(Int32)
  case signalled(Int32)

  /// As a shell would report it: the status, or 128 + the signal's number.
  package var shellStatus: Int32 {
    switch self {
    case .exited(let status): status
    case .signalled(let signal): 128 + signal
    }
  }

  package var explanation: String {
    switch self {
    case .exited(let status): "exit status \(status)"
    case .signalled(let signal): "ended by signal \(signal)"
    }
  }
}

package struct CommandResult: Sendable {
  package let end: ProcessEnd
  /// Standard output and standard error together, at most 256 KiB (the end of it).
  package let output: String

  package init(end: ProcessEnd, output: String) {
    self.end = end
    self.output = output
  }

  package var succeeded: Bool { end == .exited(0) }
}

/// A program that cannot be started at all.
package struct LaunchError: ExplainedError, Sendable, Equatable {
  package let program: String
  /// What failed, to stand before the program: `exec`, `setuid`, `create a thread for`.
  package let stage: String
  package let reason: String

  package init(program: String, stage: String, reason: String) {
    self.program = program
    self.stage = stage
    self.reason = reason
  }

  package var explanation: String { "\(stage) \(program): \(reason)" }
}

/// A child in a process group of its own, which ends when this process ends.
package protocol RunningProcess: Sendable {
  var pid: Int32 { get }
  /// To the child's process group; does nothing once the child has ended, whether or not its descendants live on.
  func signal(_ number: Int32)
  /// Waits for the exit of the child, whether or not a descendant still holds its output; may be called any number of
  /// times. Returns nil when the task is cancelled first.
  func end() async -> ProcessEnd?
  /// The last lines of its output, oldest first, at most 40.
  func lastLines() -> [String]
}

/// A child whose output is read at the caller's pace: a child that is not read waits.
package protocol FollowedProcess: Sendable {
  /// Output, standard error included, at most `count` bytes; empty if there is none now, nil once the child has exited
  /// and all of its output has been read.
  func read(_ count: Int) -> [UInt8]?
  func stop()
}

/// Gets a copy of a child's output. It must never keep the child waiting for anything but this machine.
package protocol OutputSink: Sendable {
  func write(_ bytes: ArraySlice<UInt8>)
}

/// Starts processes. The real one is `PosixProcessLauncher` in Host.
package protocol ProcessLauncher: Sendable {
  /// Runs a program until it exits; killed with its process group at `timeout` or when the task is cancelled.
  ///
  /// Descendants may outlive it, as the daemon that a start script leaves behind. What they write later is lost.
  /// - Throws: `LaunchError`, or `CancellationError`.
  func run(_ command: Command, timeout: Duration) async throws -> CommandResult
  /// Starts a child, as `owner` if given, whose output goes to this process's own, too.
  /// - Parameters:
  ///   - mayBindLowPorts: whether that user may bind ports below 1024.
  ///   - copy: gets the output, too.
  func start(_ command: Command, as owner: FileOwner?, mayBindLowPorts: Bool, copy: (any OutputSink)?)
    throws(LaunchError) -> any RunningProcess
  /// Starts a child whose output the caller reads.
  func follow(_ command: Command) throws(LaunchError) -> any FollowedProcess
}
