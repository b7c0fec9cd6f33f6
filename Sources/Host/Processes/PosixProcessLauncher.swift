package import Base
internal import Glibc

/// Starts children by fork and exec, each on a thread of its own that starts it, reads its output and reaps it.
///
/// The kernel sends the parent-death signal when the *thread* that started a child ends: that thread lives as long as
/// the child. It is also the child's only reaper.
package struct PosixProcessLauncher: ProcessLauncher {
  private let spawner: Spawner

  /// - Parameter environment: the environment of the children.
  package init(environment: [String: String]) {
    self.init(environment: environment, files: LocalFileStore(), hasPidfd: true)
  }

  /// - Parameters:
  ///   - files: the user database.
  ///   - hasPidfd: false: observes the exit of a child as on a kernel without pidfd.
  init(environment: [String: String], files: any FileReader, hasPidfd: Bool) {
    spawner = Spawner(environment: environment, users: UserDatabase(files: files), hasPidfd: hasPidfd)
  }

  package func run(_ command: Command, timeout: Duration) async throws -> CommandResult {
    let child = try ChildProcess(command, spawner, owner: nil, mayBindLowPorts: false, passesThrough: false, copy: nil)
    return try await withThrowingTaskGroup(of: ProcessEnd?.self) { group in
      group.addTask { await child.end() }
      group.addTask {
        try await Task.sleep(for: timeout)
        return nil
      }
      // The only error is the cancellation of the sleep, that is, of the whole call; `checkCancellation` throws it.
      let first = try? await group.next() ?? nil
      group.cancelAll()
      if let end = first { return CommandResult(end: end, output: child.output()) }
      child.signal(SIGKILL)
      try Task.checkCancellation()
      return CommandResult(end: .signalled(SIGKILL), output: child.output() + "\nkilled after \(timeout.humanReadable)")
    }
  }

  package func start(
    _ command: Command, as owner: FileOwner?, mayBindLowPorts: Bool, copy: (any OutputSink)?
  ) throws(LaunchError) -> any RunningProcess {
    try ChildProcess(
      command, spawner, owner: owner, mayBindLowPorts: mayBindLowPorts, passesThrough: true, copy: copy)
  }

  package func follow(_ command: Command) throws(LaunchError) -> any FollowedProcess {
    try FollowedChild(command, spawner)
  }
}
