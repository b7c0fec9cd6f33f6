package import Base
internal import Synchronization

/// The agent as a child of this process: at most one, from `.superviseAgent` to the end of the agent.
package final class SupervisedAgent: Sendable {
  private struct Running {
    let supervisor: Supervisor
    let task: Task<ProcessEnd, any Error>
  }

  private let context: RuntimeContext
  private let output: (any OutputSink)?
  private let starts: @Sendable (Supervisor) -> Void
  private let running = Mutex<Running?>(nil)

  init(context: RuntimeContext, output: (any OutputSink)?, starts: @escaping @Sendable (Supervisor) -> Void) {
    self.context = context
    self.output = output
    self.starts = starts
  }

  /// Nil before the start.
  package var supervisor: Supervisor? { running.withLock { $0?.supervisor } }

  /// - Returns: false if the agent was started before.
  func start(_ command: Command, owner: FileOwner?, mayBindLowPorts: Bool) -> Bool {
    running.withLock { running in
      guard running == nil else { return false }
      let supervisor = Supervisor(
        command, owner: owner, mayBindLowPorts: mayBindLowPorts, copy: output, context: context)
      starts(supervisor)
      running = Running(supervisor: supervisor, task: Task { try await supervisor.run() })
      return true
    }
  }

  /// Waits until the agent has ended for good. Cancellation stops the agent and waits for its end, too.
  /// - Returns: nil if the agent was never started.
  /// - Throws: `Failure` with status 15 if the agent cannot be started at all.
  package func end() async throws -> ProcessEnd? {
    guard let task = running.withLock({ $0?.task }) else { return nil }
    return try await withTaskCancellationHandler {
      try await task.value
    } onCancel: {
      task.cancel()
    }
  }

  /// Stops the agent and waits for its end.
  package func stop() async {
    guard let task = running.withLock({ $0?.task }) else { return }
    task.cancel()
    do {
      _ = try await task.value
    } catch {
      // `end()` throws it, too, and its caller reports it.
      context.log.debug("the agent to stop did not start", ["reason": .string(error.explained)])
    }
  }
}
