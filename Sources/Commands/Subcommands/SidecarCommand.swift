internal import Base
internal import Model
internal import Sidecar

extension Subcommand {
  static let sidecar = Subcommand(
    "sidecar", usage: "[options]", summary: "keep the agent joined and forward logs",
    explanation: "The sidecar joins servers of other zones over the WAN, joins a client again after all its servers "
      + "have been replaced, and returns a server that was replaced while it was off. It adapts the configuration to "
      + "an address that a reboot has changed, reports changed secrets, and forwards logs to CloudWatch (--log). A run "
      + "starts it: as consul-bootstrap.service under systemd, in the same process under supervise. SIGHUP makes it "
      + "read its options again.",
    optionSource: .startingRun
  ) { try await SidecarCommand($0).run() }
}

/// Stays until a signal ends it.
struct SidecarCommand: Sendable {
  private let options: Options
  private let dependencies: CommandDependencies
  private let reread: @Sendable () throws -> Settings

  static let lockName = "sidecar.lock"

  init(_ invocation: Invocation) {
    options = invocation.options
    dependencies = invocation.dependencies
    reread = invocation.reread
  }

  func run() async throws -> ExitStatus {
    let context = dependencies.context, log = context.log
    if let reason = options.settings.lostOptions {
      log.warning(
        "the options of the last run are lost; monitoring the agent with its configuration on disk",
        [
          "reason": .string(reason),
          "lost": "log forwarding, the return to replaced servers, a changed address, changed secrets, the record",
          "hint": "run consul-bootstrap again with the options of this machine",
        ])
    }
    let sidecar = Sidecar(
      settings: options.settings, context: context, planner: dependencies.planner, spool: nil)
    let task = Task {
      let lock: any HeldLock
      do {
        lock = try dependencies.locks.lock(directory: options.settings.stateDirectory, name: Self.lockName)
      } catch let error as LockError {
        throw Failure(error)
      }
      defer { withExtendedLifetime(lock) {} }
      // At once: a unit that is not ready before AWS answers would block whatever starts it.
      notify("READY=1\nSTATUS=locating this instance")
      async let watchdog: Void = feedWatchdog(context)
      try await sidecar.run {
        log.info("the sidecar monitors the agent")
        notify("STATUS=monitoring the agent")
      }
      await watchdog
    }
    dependencies.signals.deliver { number in
      guard number != 1 else { return Self.reload(sidecar, reread, log) }
      log.info("ended by signal \(number)")
      notify("STOPPING=1")
      Task.detached {
        // Docker stops its containers by a signal, and an agent in one has no unit that would leave before.
        if options.settings.start == .docker, await context.isQueued(["poweroff.target", "halt.target"]) {
          await sidecar.leaveBeforeStop()
        }
        await sidecar.flush()
        task.cancel()
        // A poll in progress may take a moment to notice; a requested end is no failure.
        try? await ContinuousClock().sleep(for: SignalRouter.grace)
        dependencies.terminate(0)
      }
    }
    do {
      try await task.value
    } catch is CancellationError {}
    return .done
  }

  /// As long as tasks run at all, whatever each of them waits for.
  private func feedWatchdog(_ context: RuntimeContext) async {
    guard let interval = context.system.watchdogInterval else { return }
    while !Task.isCancelled {
      notify("WATCHDOG=1")
      // Twice per interval, as sd_watchdog_enabled(3) recommends.
      try? await context.clock.sleep(for: interval / 2)
    }
  }

  /// A service manager that is not notified stops the unit later: the log then has the reason.
  private func notify(_ state: String) {
    let context = dependencies.context
    do {
      try context.system.notify(state)
    } catch {
      context.log.warning("cannot notify the service manager", ["reason": .string(error.explained)])
    }
  }

  /// Invalid options change nothing.
  static func reload(_ sidecar: Sidecar, _ reread: () throws -> Settings, _ log: Logger) {
    do {
      sidecar.reload(try reread())
    } catch {
      log.error("cannot read the options again; keeping the present ones", ["reason": .string(error.explained)])
    }
  }
}
