internal import Base
internal import Bootstrap
internal import Decisions
internal import Host

/// `consul-bootstrap sidecar`: stays until a signal ends it.
struct SidecarCommand: Sendable {
  let options: Options
  let surroundings: Surroundings

  func run(_ signals: Signals) async -> Never {
    let log = surroundings.world.log
    let sidecar = Sidecar(settings: options.settings, world: surroundings.world, planner: surroundings.planner)
    let task = Task {
      let lock = try RunLock(stateDirectory: options.settings.stateDirectory, name: "sidecar.lock")
      defer { withExtendedLifetime(lock) {} }
      try await sidecar.run { log.info("the sidecar looks after the agent") }
    }
    signals.deliver { number in
      log.info("ended by signal \(number)")
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
}
