internal import Base
internal import CSpawn
internal import Glibc
internal import Synchronization

/// Forks and executes programs.
struct Spawner: Sendable {
  let environment: [String: String]
  let users: UserDatabase
  let hasPidfd: Bool

  /// What a child gets beside its command line and environment.
  struct Request: Sendable {
    let command: Command
    var owner: FileOwner?
    var mayBindLowPorts = false
    let standardOutput: Int32
    let standardError: Int32
    /// The process that must still be the child's parent when the child is about to exec.
    var parent = getpid()
  }

  /// Starts a child, which ends when the calling thread ends.
  /// - Throws: `LaunchError`.
  func spawn(_ request: Request) throws(LaunchError) -> SpawnedChild {
    let command = request.command, owner = request.owner
    let groups: [UInt32]
    do {
      groups = try owner.map { try users.groups(of: $0) } ?? []
    } catch {
      throw LaunchError(program: command.program, stage: "setgroups", reason: error.explained)
    }
    var arguments = ([command.program] + command.arguments).map { strdup($0) } + [nil]
    var variables = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for text in arguments + variables { free(text) } }
    let path = strdup(command.program)
    defer { free(path) }
    // Only root can change the user, and nothing changes if this process runs as that user already.
    let changesUser = owner.map { $0.user != getuid() || $0.group != getgid() } ?? false
    var number: Int32 = 0
    var stage: UnsafePointer<CChar>?
    let pid = groups.withUnsafeBufferPointer { groups in
      arguments.withUnsafeMutableBufferPointer { arguments in
        variables.withUnsafeMutableBufferPointer { variables in
          var spawn = cb_spawn(
            path: path, argv: arguments.baseAddress, envp: variables.baseAddress, stdout_fd: request.standardOutput,
            stderr_fd: request.standardError, change_user: changesUser, uid: owner?.user ?? 0, gid: owner?.group ?? 0,
            groups: groups.baseAddress, group_count: groups.count, keep_low_ports: request.mayBindLowPorts,
            // When a supervisor is killed, its children end with it: the next run finds the ports free.
            parent_death_signal: SIGKILL, parent: request.parent)
          return cb_spawn(&spawn, &number, &stage)
        }
      }
    }
    guard pid > 0 else {
      throw LaunchError(
        program: command.program, stage: stage.map { String(cString: $0) } ?? "fork", reason: errorText(number))
    }
    return SpawnedChild(pid)
  }

  /// Calls `body` on a new thread, which must spawn the child, report it to the `StartSignal` and stay until its end.
  /// - Returns: the child, once it runs.
  /// - Throws: `LaunchError`.
  static func onThread(
    for command: Command, _ body: @escaping @Sendable (StartSignal) -> Void
  ) throws(LaunchError) -> SpawnedChild {
    let started: StartSignal
    do throws(ResourceError) {
      started = try StartSignal(command)
      try startThread("child") { [started] in body(started) }
    } catch {
      throw LaunchError(error, command)
    }
    return try started.wait().get()
  }
}

extension LaunchError {
  init(_ error: ResourceError, _ command: Command) {
    self.init(program: command.program, stage: "create \(error.resource) for", reason: error.reason)
  }
}

/// A child's process ID, which belongs to that child until it is reaped here.
final class SpawnedChild: Sendable {
  let pid: Int32
  private let end = Mutex<ProcessEnd?>(nil)

  init(_ pid: Int32) { self.pid = pid }

  var hasEnded: Bool { end.withLock { $0 != nil } }

  /// To the child's process group; does nothing once the child is reaped.
  func signal(_ number: Int32) {
    end.withLock { end in
      // Under the lock that `reap` takes: the kernel may give the ID of a reaped child to any other process.
      // The signal cannot fail otherwise than by the end of the whole group, which is no error.
      if end == nil { kill(-pid, number) }
    }
  }

  /// Waits for the end of the child, if it has not exited yet, and releases its process ID.
  func reap() -> ProcessEnd {
    // The zombie keeps the ID, so that this wait needs no lock.
    var info = siginfo_t()
    while waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT) < 0, errno == EINTR {}
    return end.withLock { end in
      var status: Int32 = 0
      var result: Int32
      repeat { result = waitpid(pid, &status, 0) } while result < 0 && errno == EINTR
      let own: ProcessEnd
      if result < 0 {
        // Nothing else reaps children here. A status that is lost all the same does not count as success.
        own = .exited(255)
      } else {
        own = cb_wait_exited(status) ? .exited(cb_wait_exit_status(status)) : .signalled(cb_wait_signal(status))
      }
      end = own
      return own
    }
  }
}

/// Passes the outcome of a start from the child's thread to its creator, which waits for it for some milliseconds.
final class StartSignal: Sendable {
  private let result = Mutex<Result<SpawnedChild, LaunchError>?>(nil)
  private let pipe: (reader: Descriptor, writer: Descriptor)
  private let command: Command

  init(_ command: Command) throws(ResourceError) {
    self.command = command
    pipe = try createPipe()
  }

  func finish(_ outcome: Result<SpawnedChild, LaunchError>) {
    result.withLock { $0 = outcome }
    pipe.writer.close()
  }

  func wait() -> Result<SpawnedChild, LaunchError> {
    var byte: UInt8 = 0
    while read(pipe.reader.number, &byte, 1) < 0, errno == EINTR {}
    pipe.reader.close()
    return result.withLock { $0 }
      ?? .failure(LaunchError(program: command.program, stage: "fork", reason: "the starting thread has ended"))
  }
}
