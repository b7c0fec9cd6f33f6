internal import Base
internal import Bootstrap
internal import Decisions
internal import Host

/// `consul-bootstrap sidecar`: stays until a signal ends it.
struct SidecarCommand: Sendable {
  let options: Options
  let dependencies: CommandDependencies
  /// Reads the options again, for a reload.
  let reread: @Sendable () throws -> Settings

  func run(_ signals: Signals) async -> Never {
    let context = dependencies.context, log = context.log
    let sidecar = Sidecar(settings: options.settings, context: context, planner: dependencies.planner, spool: nil)
    let task = Task {
      let lock = try RunLock.acquire(
        stateDirectory: options.settings.stateDirectory, name: "sidecar.lock")
      defer { withExtendedLifetime(lock) {} }
      // At once: a unit that waits for somebody else's answer before it is ready hangs whoever starts it.
      notify("READY=1\nSTATUS=looking for the instance's identity")
      async let watchdog: Void = feedWatchdog(context)
      try await sidecar.run {
        log.info("the sidecar looks after the agent")
        notify("STATUS=looking after the agent")
      }
      await watchdog
    }
    signals.deliver { number in
      guard number != 1 else {
        Self.reload(sidecar, reread, log)
        return
      }
      log.info("ended by signal \(number)")
      notify("STOPPING=1")
      Task.detached {
        await sidecar.flush()
        task.cancel()
        // A look in progress may take a moment to notice; an end that was asked for is no failure.
        try? await ContinuousClock().sleep(for: .milliseconds(800))
        Machine.exitAtOnce(0)
      }
    }
    do {
      try await task.value
    } catch let failure as Failure {
      Machine.write(Program.errorText(failure), toStandardError: true)
      Machine.exit(failure.status.rawValue)
    } catch {}
    Machine.exit(0)
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

  /// As long as tasks run at all: what each of them waits for is its own affair.
  private func feedWatchdog(_ context: RuntimeContext) async {
    guard let interval = context.system.watchdogInterval else { return }
    while !Task.isCancelled {
      notify("WATCHDOG=1")
      // Twice in the time, as sd_watchdog_enabled(3) has it.
      try? await context.clock.sleep(for: interval / 2)
    }
  }

  /// Options that are wrong by now change nothing.
  static func reload(_ sidecar: Sidecar, _ reread: () throws -> Settings, _ log: Logger) {
    do {
      sidecar.reload(try reread())
    } catch let failure as Failure {
      log.error(
        "cannot read the options again; going on with the ones before",
        ["reason": .string(failure.lines.joined(separator: " "))])
    } catch {
      log.error("cannot read the options again; going on with the ones before", ["reason": .string("\(error)")])
    }
  }
}
