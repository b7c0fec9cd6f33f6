internal import AWS
package import Base
internal import Consul
package import Model
package import Observers
internal import Decisions
package import LogForwarding
internal import Synchronization

/// Stays beside the agent and keeps it joined: to the servers of other datacenters, to servers that have all been replaced.
/// Whatever goes wrong here is said, tried again, and never the agent's trouble.
package final class Sidecar: Sendable {
  let context: RuntimeContext
  /// What the agent writes, where it runs under us.
  private let spool: Spool?
  private let state: Mutex<State>

  private struct State {
    var settings: Settings
    var planner: Planner
    var service: LogForwardingService?
    /// Everything that it does; cancelled by a reload, and begun anew.
    var work: Task<Void, Never>?
    var wantsReload = false
  }

  var settings: Settings { state.withLock { $0.settings } }
  var planner: Planner { state.withLock { $0.planner } }

  package init(settings: Settings, context: RuntimeContext, planner: Planner, spool: Spool?) {
    self.context = context
    self.spool = spool
    state = Mutex(State(settings: settings, planner: planner))
  }

  /// While every wanted server is there, AWS is asked only every so many looks: 5 minutes by default.
  static let pollsPerAWSCall = 10
  /// Metadata may be late at boot.
  private static let locatePause = Duration.seconds(5)
  /// A WAN join crosses zones: longer than a question to the agent.
  static let joinTimeout = Duration.seconds(10)
  static let agentTimeout = Duration.seconds(2)

  /// What is remembered from look to look.
  struct Memory {
    var polls = 0
    var wasComplete = false
    var servers: Readiness?
    /// Secrets that were said to have changed.
    var told: Set<String> = []
  }

  /// As a process of its own: finds out where it is, puts right what a reboot may have changed, and stays until cancelled.
  /// - Parameter ready: called once it has begun to look.
  package func run(ready: @Sendable () -> Void) async throws {
    while true {
      do {
        let instance = try await planner.locate()
        try await adaptToAddress(instance)
        try await startContainer(instance)
        ready()
        return await stay(at: instance)
      } catch let failure as Failure {
        warn("not ready yet; trying again", failure)
        try await context.clock.sleep(for: Self.locatePause)
      }
    }
  }

  /// Until cancelled.
  package func stay(at instance: LocatedInstance) async {
    repeat {
      // Under one lock: a reload comes either before this read or after the new work can be cancelled.
      let work = state.withLock { state in
        state.wantsReload = false
        let service = LogForwardingService(
          settings: state.settings, context: context, instance: instance, spool: spool)
        let work = Task {
          await withTaskGroup(of: Void.self) { group in
            group.addTask { await service.run() }
            group.addTask { await self.watchAgent(at: instance) }
          }
        }
        state.service = service
        state.work = work
        return work
      }
      await withTaskCancellationHandler {
        await work.value
      } onCancel: {
        work.cancel()
      }
    } while !Task.isCancelled && state.withLock { $0.wantsReload }
  }

  /// Goes on with other settings. What is read by then is sent first, for no longer than `--flush-timeout`.
  package func reload(_ settings: Settings) {
    let planner = planner.with(settings)
    let (service, work, isNew) = state.withLock { state in
      let isNew = state.settings != settings
      state.settings = settings
      state.planner = planner
      if isNew { state.wantsReload = true }
      return (state.service, state.work, isNew)
    }
    context.log.info(isNew ? "the options have changed; going on with the new ones" : "the options are as before")
    guard isNew, let work else { return }
    Task {
      await service?.flush()
      work.cancel()
    }
  }

  /// Before the cancellation: sends the logs that are there, for no longer than `--flush-timeout`.
  package func flush() async { await state.withLock { $0.service }?.flush() }

  private func watchAgent(at instance: LocatedInstance) async {
    var memory = Memory()
    var generator = SystemRandomNumberGenerator()
    while !Task.isCancelled {
      // Half to one and a half times the interval: machines that booted together do not call together.
      let share = Double.random(in: 0.5...1.5, using: &generator)
      do { try await context.clock.sleep(for: settings.sidecarInterval * share) } catch { return }
      do {
        try await poll(instance, &memory)
      } catch let failure as Failure {
        warn("cannot look after the agent now", failure)
      } catch let error as AgentError {
        context.log.debug("the agent does not answer the sidecar", ["reason": .string(error.explanation)])
      } catch {
        if Task.isCancelled { return }
        context.log.warning("cannot look after the agent now", ["reason": .string("\(error)")])
      }
      memory.polls += 1
    }
  }

  private func warn(_ message: String, _ failure: Failure) {
    context.log.warning(message, ["reason": .string(failure.lines.joined(separator: " "))])
  }

  /// The agent's configuration on disk; an unreadable file is logged.
  var current: CurrentConfiguration {
    let current = CurrentConfiguration(reading: settings.configurationPath, context.files)
    if case .unreadable(let reason) = current.content {
      context.log.warning("cannot read the agent's configuration", ["reason": .string(reason)])
    }
    return current
  }

  func agent(timeout: Duration = agentTimeout) -> AgentClient {
    let current = current
    return AgentClient(
      address: current.agentAddress(settings), token: current.agentToken,
      transport: context.transport,
      timeout: timeout)
  }

  private func poll(_ instance: LocatedInstance, _ memory: inout Memory) async throws {
    let isTurn = memory.polls % Self.pollsPerAWSCall == 0
    if isTurn, !settings.secretReferences.isEmpty { try await watchSecrets(instance, &memory) }
    switch settings.role {
    case .client: try await rejoinServers(instance)
    case .server where settings.layout == .datacenterPerAZ: try await completeWAN(instance, isTurn: isTurn, &memory)
    case .server: break
    }
  }
}
