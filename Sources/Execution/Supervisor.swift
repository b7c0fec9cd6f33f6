package import Base
package import Model

/// Keeps an agent running as a child: restarts it after a crash, not after a clean leave, and forwards signals.
package actor Supervisor: AgentMonitor {
  private let command: Command
  private let owner: FileOwner?
  private let mayBindLowPorts: Bool
  private let copy: (any OutputSink)?
  private let context: RuntimeContext
  private var process: (any RunningProcess)?
  /// The signal that asked the agent to stop; it is not restarted after that.
  private var stopSignal: Int32?
  /// The present process was killed for a restart.
  private var isRestarting = false
  /// The agent has left its cluster: a start with the same data would bring it back.
  private var hasLeft = false
  /// Done once before the next start.
  private var workBeforeStart: (@Sendable () async -> Void)?
  private var crashes = 0
  /// Crashes in a row before the start of the present process.
  private var failures = 0
  private var startedAt = Duration.zero
  private var lastCrash = ""
  /// The wait between a crash and the next start; a signal to stop ends it.
  private var pause: Task<Void, Never>?
  /// Output of the previous process.
  private var previousLines: [String] = []

  private static let terminate: Int32 = 15
  private static let kill: Int32 = 9
  private static let stopSignals: Set<Int32> = [2, terminate]
  /// Between a crash and the next start.
  private static let backoff = Backoff(base: .seconds(1), cap: .seconds(30))
  /// A crash after this long is not counted with those before it.
  private static let stableAfter = Duration.seconds(60)
  /// An agent that crashed this often before its first answer will not come up.
  private static let crashLimit = 3
  /// As long as the systemd unit gives the agent to leave (`TimeoutStopSec`).
  private static let stopTimeout = Duration.seconds(60)
  /// The kernel ends a killed process at once, except in uninterruptible sleep, which may last for ever.
  private static let killTimeout = Duration.seconds(10)

  /// - Parameter copy: gets the agent's output, too.
  package init(
    _ command: Command, owner: FileOwner?, mayBindLowPorts: Bool, copy: (any OutputSink)?, context: RuntimeContext
  ) {
    self.copy = copy
    self.command = command
    self.owner = owner
    self.mayBindLowPorts = mayBindLowPorts
    self.context = context
  }

  private var mustStop: Bool { stopSignal != nil || hasLeft || Task.isCancelled }

  /// Whether a signal has asked the agent to stop.
  package var isStopping: Bool { stopSignal != nil }

  /// A process that has run for a while ends the row.
  private var crashesInARow: Int { context.uptime() - startedAt >= Self.stableAfter ? 0 : failures }

  /// For the sidecar's report.
  package func report() -> SidecarReport.Agent {
    let isOver = process != nil && crashesInARow == 0
    return SidecarReport.Agent(
      pid: process?.pid, crashes: isOver ? 0 : Int64(failures), lastCrash: lastCrash)
  }

  /// Starts the agent and returns how it ended for good: by a clean leave, or after a signal to stop or cancellation,
  /// which stops the agent first.
  /// - Throws: `Failure` with status 15 if the agent cannot be started.
  package func run() async throws -> ProcessEnd {
    while !mustStop {
      if let work = workBeforeStart {
        workBeforeStart = nil
        await work()
        // A signal to stop may have come meanwhile.
        continue
      }
      startedAt = context.uptime()
      let process = try start()
      let end = await waitForEnd(of: process)
      self.process = nil
      previousLines = process.lastLines()
      guard let end else { return .signalled(Self.kill) }
      if isRestarting, !mustStop {
        isRestarting = false
        continue
      }
      if mustStop || end == .exited(0) {
        context.log.info("the agent ended", ["end": .string(end.explanation)])
        return final(end)
      }
      failures = crashesInARow + 1
      crashes += 1
      lastCrash = end.explanation
      let wait = Self.backoff.bound(failures - 1)
      context.log.error(
        "the agent crashed; restarting it", ["end": .string(end.explanation), "in": .string(wait.humanReadable)])
      await backOff(wait)
      if mustStop { return final(end) }
    }
    return final(.signalled(stopSignal ?? Self.terminate))
  }

  /// An agent that was killed after its removal, before it ended by itself, has left nonetheless.
  private func final(_ end: ProcessEnd) -> ProcessEnd { hasLeft && stopSignal == nil ? .exited(0) : end }

  /// Once the others have removed this agent: however it ends from now on, it is not started again.
  package func left() {
    hasLeft = true
    pause?.cancel()
  }

  private func start() throws -> any RunningProcess {
    do {
      let process = try context.launcher.start(command, as: owner, mayBindLowPorts: mayBindLowPorts, copy: copy)
      self.process = process
      context.log.info("the agent is running", ["pid": .integer(Int64(process.pid))])
      return process
    } catch {
      throw Failure(
        .agentNotStarted, "cannot start the Consul agent", details: [error.explanation],
        hint: "check the Consul binary and its permissions")
    }
  }

  /// Forwards a signal to the agent. SIGTERM and SIGINT also mean that the agent is not restarted.
  package func signal(_ number: Int32) {
    if Self.stopSignals.contains(number) { stopSignal = stopSignal ?? number }
    process?.signal(number)
    if isStopping { pause?.cancel() }
  }

  /// Kills the agent, and starts it again at once.
  /// - Parameter work: done in between.
  package func restart(_ work: (@Sendable () async -> Void)? = nil) {
    guard !mustStop else { return }
    workBeforeStart = work ?? workBeforeStart
    if let process {
      isRestarting = true
      process.signal(Self.kill)
    } else {
      // It has crashed, and waits for its next start.
      pause?.cancel()
    }
  }

  private func backOff(_ time: Duration) async {
    // Ends early only by cancellation, which the caller sees in `mustStop`.
    let pause = Task { [clock = context.clock] () -> Void in try? await clock.sleep(for: time) }
    self.pause = pause
    await withTaskCancellationHandler {
      await pause.value
    } onCancel: {
      pause.cancel()
    }
    self.pause = nil
  }

  package func crashReason() -> String? {
    crashes >= Self.crashLimit ? "it crashed \(crashes) times (last: \(lastCrash))" : nil
  }

  /// Output of the current and the previous process, which may hold the reason of its end.
  package func lastLines() -> [String] { previousLines + (process?.lastLines() ?? []) }

  /// Cancellation stops the agent: it gets time to leave, then it is killed. One that does not end even so is reported,
  /// and left to systemd or the container, whose processes end with this one.
  /// - Returns: nil if it did not end.
  private func waitForEnd(of process: any RunningProcess) async -> ProcessEnd? {
    if let end = await process.end() { return end }
    process.signal(Self.terminate)
    // A task of its own, which the cancellation does not reach.
    return await Task { [clock = context.clock, log = context.log] in
      await withTaskGroup(of: ProcessEnd?.self) { group in
        group.addTask { await process.end() }
        group.addTask {
          // Ends early only by cancellation, once the agent has ended.
          try? await clock.sleep(for: Self.stopTimeout)
          return nil
        }
        if let end = await group.next() ?? nil {
          group.cancelAll()
          return end
        }
        process.signal(Self.kill)
        group.addTask {
          try? await clock.sleep(for: Self.killTimeout)
          return nil
        }
        defer { group.cancelAll() }
        if let end = await group.next() ?? nil { return end }
        log.error(
          "the agent did not end after SIGKILL",
          [
            "pid": .integer(Int64(process.pid)),
            "hint": .string(
              "check its state with ps -o stat,wchan -p \(process.pid): in state D it waits for a disk or a network "
                + "file system"),
          ])
        return nil
      }
    }.value
  }
}
