/// A command line. Nothing secret may stand in it.
package struct Command: Sendable, Equatable {
  /// Absolute path of the program.
  package let program: String
  package let arguments: [String]

  package init(_ program: String, _ arguments: [String]) {
    self.program = program
    self.arguments = arguments
  }

  /// As one would type it.
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
  package let stage: String
  package let reason: String

  package init(program: String, stage: String, reason: String) {
    self.program = program
    self.stage = stage
    self.reason = reason
  }

  package var explanation: String { "\(stage) \(program): \(reason)" }
}

/// A child that runs beside us, in its own process group, which ends when we end.
package protocol RunningProcess: Sendable {
  var pid: Int32 { get }
  /// To the child's process group; nothing happens once it has ended.
  func signal(_ number: Int32)
  /// Waits for the end; may be called any number of times. Returns nil when the task is cancelled first.
  func end() async -> ProcessEnd?
  /// The last lines that it wrote, oldest first, at most 40.
  func lastLines() -> [String]
}

/// A child whose output is read at our pace: where nobody reads, it waits.
package protocol FollowedProcess: Sendable {
  /// What it has written, standard error included, at most `count` bytes; empty where there is nothing now, nil at its end.
  func read(_ count: Int) -> [UInt8]?
  func stop()
}

/// Gets a copy of what a child writes. It must never keep the child waiting for anything but this machine.
package protocol OutputSink: Sendable {
  func write(_ bytes: ArraySlice<UInt8>)
}

/// Starts processes. The real one is `PosixProcessLauncher` in Host.
package protocol ProcessLauncher: Sendable {
  /// Runs to the end; killed with its process group at `timeout` or when the task is cancelled.
  /// - Throws: `LaunchError`.
  func run(_ command: Command, timeout: Duration) async throws -> CommandResult
  /// Starts a child whose output is passed through to ours, as `owner` if given.
  /// - Parameters:
  ///   - mayBindLowPorts: whether that user may bind ports below 1024.
  ///   - copy: gets the output, too.
  /// - Throws: `LaunchError`.
  func start(_ command: Command, as owner: FileOwner?, mayBindLowPorts: Bool, copy: (any OutputSink)?) throws
    -> any RunningProcess
  /// Throws `LaunchError`.
  func follow(_ command: Command) throws -> any FollowedProcess
}
