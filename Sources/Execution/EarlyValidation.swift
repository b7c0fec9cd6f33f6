internal import Base
package import Model
internal import Synchronization

/// Lets Consul validate the configuration of a first boot while AWS and the other servers are asked. Only the answer
/// that it is valid counts; with any other, the file that is written is validated as usual.
package final class EarlyValidation: Sendable {
  private struct Running: Sendable {
    let draft: ConfigurationFile
    let task: Task<Bool, Never>
    let start: Duration
  }

  private let context: RuntimeContext
  private let running = Mutex<Running?>(nil)

  /// After a longer wait for the group, other files of the directory may have changed.
  private static let validity = Duration.seconds(2)

  init(context: RuntimeContext) { self.context = context }

  /// The first draft; another one is ignored.
  package func start(_ draft: ConfigurationFile) {
    running.withLock { running in
      guard running == nil else { return }
      let context = context
      running = Running(
        draft: draft,
        task: Task {
          do {
            return try await ConfigurationValidation(context).result(of: draft).succeeded
          } catch {
            context.log.debug("cannot validate the configuration early", ["reason": .string(error.explained)])
            return false
          }
        }, start: context.uptime())
    }
  }

  /// Whether Consul has accepted a draft that covers this file. Once it returns, no file is staged any more.
  func covers(_ file: ConfigurationFile) async -> Bool {
    guard let running = take() else { return false }
    guard context.uptime() - running.start < Self.validity, file.isCovered(by: running.draft) else {
      await end(running)
      return false
    }
    return await withTaskCancellationHandler {
      await running.task.value
    } onCancel: {
      running.task.cancel()
    }
  }

  /// For a run that ends before it writes the configuration: no secret stays in a staged file.
  package func end() async {
    if let running = take() { await end(running) }
  }

  private func take() -> Running? {
    running.withLock { running in
      defer { running = nil }
      return running
    }
  }

  private func end(_ running: Running) async {
    running.task.cancel()
    _ = await running.task.value
  }
}
