package import Base
internal import CSpawn
internal import Glibc
internal import Synchronization

/// Children by fork and exec, each with a thread of its own that starts it, reads its output and reaps it: one reaper a
/// child, and a parent-death signal that means what it says.
package struct PosixProcessLauncher: ProcessLauncher {
  private let environment: [String: String]

  /// - Parameter environment: what children get.
  package init(environment: [String: String]) {
    self.environment = environment
  }

  package func run(_ command: Command, timeout: Duration) async throws -> CommandResult {
    let child = try ChildProcess(
      command, environment: environment, owner: nil, mayBindLowPorts: false, passesThrough: false, copy: nil)
    return try await withThrowingTaskGroup(of: ProcessEnd?.self) { group in
      group.addTask { await child.end() }
      group.addTask {
        try await Task.sleep(for: timeout)
        return nil
      }
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
  ) throws -> any RunningProcess {
    try ChildProcess(
      command, environment: environment, owner: owner, mayBindLowPorts: mayBindLowPorts, passesThrough: true, copy: copy
    )
  }

  package func follow(_ command: Command) throws -> any FollowedProcess {
    try FollowedChild(command, environment: environment)
  }
}

/// One child, running or ended.
private final class ChildProcess: RunningProcess {
  private enum Life {
    case running
    case ended(ProcessEnd)
  }

  private struct State {
    var life = Life.running
    var waiters: [Int: CheckedContinuation<ProcessEnd?, Never>] = [:]
    var nextWaiter = 0
    /// The end of what it wrote.
    var output: [UInt8] = []
  }

  let pid: Int32
  private let state: SharedState

  /// Apart from the child, so that its thread does not need the whole of `self` before `init` is done.
  private final class SharedState: Sendable {
    let value = Mutex(State())
  }

  private static let outputLimit = 256 << 10

  init(
    _ command: Command, environment: [String: String], owner: FileOwner?, mayBindLowPorts: Bool, passesThrough: Bool,
    copy: (any OutputSink)?
  )
    throws
  {
    let groups = owner.map { UserDatabase().groups(of: $0) } ?? []
    let state = SharedState()
    let started = StartSignal()
    startThread {
      let out = makePipe(), err = makePipe()
      switch Self.spawn(
        command, environment: environment, owner: owner, mayBindLowPorts: mayBindLowPorts, groups: groups,
        stdout: out.write, stderr: err.write)
      {
      case .failure(let error):
        for descriptor in [out.read, out.write, err.read, err.write] { close(descriptor) }
        started.finish(.failure(error))
      case .success(let pid):
        close(out.write)
        close(err.write)
        started.finish(.success(pid))
        Self.readAll([(out.read, 1), (err.read, 2)], passesThrough: passesThrough, copy: copy, into: state)
        let end = Self.reap(pid)
        let waiters = state.value.withLock { state in
          state.life = .ended(end)
          defer { state.waiters = [:] }
          return state.waiters.values
        }
        for waiter in waiters { waiter.resume(returning: end) }
      }
    }
    pid = try started.wait().get()
    self.state = state
  }

  func signal(_ number: Int32) {
    state.value.withLock { state in
      // Under the lock: an ended child's number may belong to somebody else by now.
      if case .running = state.life { kill(-pid, number) }
    }
  }

  func end() async -> ProcessEnd? {
    let number = state.value.withLock { state in
      state.nextWaiter += 1
      return state.nextWaiter
    }
    return await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let known: ProcessEnd?? = state.value.withLock { state in
          if case .ended(let end) = state.life { return .some(end) }
          if Task.isCancelled { return .some(nil) }
          state.waiters[number] = continuation
          return nil
        }
        if let known { continuation.resume(returning: known) }
      }
    } onCancel: {
      state.value.withLock { $0.waiters.removeValue(forKey: number) }?.resume(returning: nil)
    }
  }

  func output() -> String {
    String(decoding: state.value.withLock { $0.output }, as: UTF8.self)
  }

  func lastLines() -> [String] {
    output().split(whereSeparator: \.isNewline).suffix(40).map(String.init)
  }

  static func spawn(
    _ command: Command, environment: [String: String], owner: FileOwner?, mayBindLowPorts: Bool, groups: [UInt32],
    stdout: Int32,
    stderr: Int32
  ) -> Result<Int32, LaunchError> {
    var arguments = ([command.program] + command.arguments).map { strdup($0) } + [nil]
    var variables = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for text in arguments + variables { free(text) } }
    let path = strdup(command.program)
    defer { free(path) }
    // Nothing to change if we are that user already; only root can.
    let changesUser = owner.map { $0.user != getuid() || $0.group != getgid() } ?? false
    var number: Int32 = 0
    var stage: UnsafePointer<CChar>?
    let pid = groups.withUnsafeBufferPointer { groups in
      arguments.withUnsafeMutableBufferPointer { arguments in
        variables.withUnsafeMutableBufferPointer { variables in
          var request = cb_spawn(
            path: path, argv: arguments.baseAddress, envp: variables.baseAddress, stdout_fd: stdout, stderr_fd: stderr,
            change_user: changesUser, uid: owner?.user ?? 0, gid: owner?.group ?? 0, groups: groups.baseAddress,
            group_count: groups.count, keep_low_ports: mayBindLowPorts,
            // A supervisor that is killed takes its children along, so that the next run finds no stranger on its ports.
            parent_death_signal: SIGKILL)
          return cb_spawn(&request, &number, &stage)
        }
      }
    }
    if pid > 0 { return .success(pid) }
    return .failure(
      LaunchError(
        program: command.program, stage: stage.map { String(cString: $0) } ?? "fork", reason: errorText(number)))
  }

  /// Until both ends are closed.
  private static func readAll(
    _ sources: [(descriptor: Int32, target: Int32)], passesThrough: Bool, copy: (any OutputSink)?,
    into state: SharedState
  ) {
    var polled = sources.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
    var buffer = [UInt8](repeating: 0, count: 1 << 14)
    while polled.contains(where: { $0.fd >= 0 }) {
      if poll(&polled, nfds_t(polled.count), -1) < 0 { continue }
      for index in polled.indices where polled[index].fd >= 0 && polled[index].revents != 0 {
        let count = read(polled[index].fd, &buffer, buffer.count)
        if count < 0, errno == EINTR { continue }
        guard count > 0 else {
          close(polled[index].fd)
          polled[index].fd = -1
          continue
        }
        copy?.write(buffer[..<count])
        if passesThrough { writeAll(buffer[..<count], to: sources[index].target) }
        state.value.withLock { state in
          state.output += buffer[..<count]
          if state.output.count > 2 * outputLimit { state.output.removeFirst(state.output.count - outputLimit) }
        }
      }
    }
  }

  private static func writeAll(_ bytes: ArraySlice<UInt8>, to descriptor: Int32) {
    var rest = bytes
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return }  // nobody listens any more: the child's output goes nowhere, the child goes on
      rest = rest.dropFirst(count)
    }
  }

  static func reap(_ pid: Int32) -> ProcessEnd {
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0, errno == EINTR {}
    return cb_wait_exited(status) ? .exited(cb_wait_exit_status(status)) : .signalled(cb_wait_signal(status))
  }
}

/// A child that follows something for us; it ends with us, or when it is stopped.
private final class FollowedChild: FollowedProcess {
  private let pipe: (read: Int32, write: Int32)
  private let pid: Int32
  /// The number is its own until it has been reaped.
  private let isReaped = SharedFlag()

  private final class SharedFlag: Sendable {
    let value = Mutex(false)
  }

  init(_ command: Command, environment: [String: String]) throws {
    let pipe = makePipe(), started = StartSignal(), isReaped = isReaped
    startThread {
      switch ChildProcess.spawn(
        command, environment: environment, owner: nil, mayBindLowPorts: false, groups: [], stdout: pipe.write,
        stderr: pipe.write)
      {
      case .failure(let error):
        close(pipe.write)
        started.finish(.failure(error))
      case .success(let pid):
        close(pipe.write)
        started.finish(.success(pid))
        // Waits without reaping, so that the number cannot belong to somebody else while it is signalled.
        var info = siginfo_t()
        while waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT) < 0, errno == EINTR {}
        isReaped.value.withLock { reaped in
          reaped = true
          _ = ChildProcess.reap(pid)
        }
      }
    }
    self.pipe = pipe
    do {
      pid = try started.wait().get()
    } catch {
      close(pipe.read)
      throw error
    }
    _ = fcntl(pipe.read, F_SETFL, O_NONBLOCK)
  }

  deinit {
    stop()
    close(pipe.read)
  }

  func read(_ count: Int) -> [UInt8]? {
    while true {
      var got = 0
      let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
        got = Glibc.read(pipe.read, buffer.baseAddress, count)
        initialized = max(0, got)
      }
      if got > 0 { return bytes }
      if got == 0 { return nil }
      if errno == EINTR { continue }
      return errno == EAGAIN ? [] : nil
    }
  }

  func stop() { isReaped.value.withLock { if !$0 { kill(-pid, SIGKILL) } } }
}

/// Hands the outcome of a start from the child's thread to its creator, which waits some milliseconds for it.
private final class StartSignal: Sendable {
  private let result = Mutex<Result<Int32, LaunchError>?>(nil)
  private let pipe = makePipe()

  func finish(_ outcome: Result<Int32, LaunchError>) {
    result.withLock { $0 = outcome }
    close(pipe.write)
  }

  func wait() -> Result<Int32, LaunchError> {
    var byte: UInt8 = 0
    while read(pipe.read, &byte, 1) < 0, errno == EINTR {}
    close(pipe.read)
    return result.withLock { $0 } ?? .failure(LaunchError(program: "", stage: "fork", reason: "no outcome"))
  }
}
