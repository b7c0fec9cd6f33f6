package import Base

/// Keeps an agent running as a child: restarts it after a crash, not after a clean leave, and passes signals on.
package actor Supervisor: AgentMonitor {
  private let command: Command
  private let owner: FileOwner?
  private let mayBindLowPorts: Bool
  /// Gets the agent's output, too.
  private let copy: (any OutputSink)?
  private let context: RuntimeContext
  private var process: (any RunningProcess)?
  private var isStopping = false
  private var crashes = 0
  private var lastCrash = ""
  /// The wait between a crash and the next start; a signal ends it.
  private var pause: Task<Void, Never>?
  private var output: [String] = []

  /// Between a crash and the next start.
  private static let backoff = Backoff(base: .seconds(1), cap: .seconds(30))
  /// An agent that ran this long has earned a quick restart again.
  private static let stableAfter = Duration.seconds(60)
  /// As many crashes before the first answer mean that it will not come up.
  private static let hopelessAfter = 3

  package init(
    _ command: Command, owner: FileOwner?, mayBindLowPorts: Bool, copy: (any OutputSink)?, context: RuntimeContext
  ) {
    self.copy = copy
    self.command = command
    self.owner = owner
    self.mayBindLowPorts = mayBindLowPorts
    self.context = context
  }

  /// Starts the agent and stays until it has ended for good; returns how.
  /// - Throws: `Failure` with status 15 if it cannot be started at all.
  package func run() async throws -> ProcessEnd {
    var failures = 0
    while true {
      let started = context.uptime()
      let process: any RunningProcess
      do {
        process = try context.launcher.start(command, as: owner, mayBindLowPorts: mayBindLowPorts, copy: copy)
      } catch let error as LaunchError {
        throw Failure(
          .agentNotStarted, "cannot start the Consul agent", details: [error.explanation],
          hint: "check the binary and its permissions")
      }
      self.process = process
      context.log.info("the agent runs", ["pid": .integer(Int64(process.pid))])
      if isStopping { process.signal(15) }
      let end = await untilEnd(of: process)
      self.process = nil
      output = process.lastLines()
      if isStopping || end == .exited(0) {
        context.log.info("the agent has ended", ["how": .string(end.explanation)])
        return end
      }
      failures = context.uptime() - started >= Self.stableAfter ? 0 : failures + 1
      crashes += 1
      lastCrash = end.explanation
      let wait = Self.backoff.bound(max(0, failures - 1))
      context.log.error(
        "the agent crashed; starting it again", ["how": .string(end.explanation), "in": .string(wait.humanReadable)])
      await backOff(wait)
      if isStopping || Task.isCancelled { return end }
    }
  }

  /// To the agent. SIGTERM and SIGINT also mean that it is not started again.
  package func signal(_ number: Int32) {
    if number == 15 || number == 2 { isStopping = true }
    process?.signal(number)
    if isStopping { pause?.cancel() }
  }

  private func backOff(_ time: Duration) async {
    let pause = Task { [clock = context.clock] () -> Void in try? await clock.sleep(for: time) }
    self.pause = pause
    await withTaskCancellationHandler {
      await pause.value
    } onCancel: {
      pause.cancel()
    }
    self.pause = nil
  }

  /// Why the agent will not come up, or nil while there is hope.
  package func crashReason() -> String? {
    crashes >= Self.hopelessAfter ? "it ended \(crashes) times, the last time by \(lastCrash)" : nil
  }

  /// Of the agent's last two lives: the one before may hold the reason of its end.
  package func lastLines() -> [String] {
    output + (process?.lastLines() ?? [])
  }

  /// A cancelled supervisor stops its agent first.
  private func untilEnd(of process: any RunningProcess) async -> ProcessEnd {
    if let end = await process.end() { return end }
    isStopping = true
    process.signal(15)
    // Detached from the cancellation: the agent gets as long to leave as the systemd unit gives it, then it is killed.
    return await Task { [clock = context.clock] in
      await withTaskGroup(of: ProcessEnd?.self) { group in
        group.addTask { await process.end() }
        group.addTask {
          try? await clock.sleep(for: .seconds(60))
          return nil
        }
        if let end = await group.next() ?? nil {
          group.cancelAll()
          return end
        }
        process.signal(9)
        for await end in group { if let end { return end } }
        return .signalled(9)
      }
    }.value
  }
}
