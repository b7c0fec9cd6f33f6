import Base
import Execution
import Model
import Synchronization
import TestSupport

/// An agent monitor with fixed answers.
struct FixedMonitor: AgentMonitor {
  var reason: String?
  var lines: [String] = []

  func crashReason() -> String? { reason }
  func lastLines() -> [String] { lines }
}

/// Keeps what it receives.
final class TextSink: OutputSink {
  private let bytes = Mutex<[UInt8]>([])
  var text: String { bytes.withLock { String(decoding: $0, as: UTF8.self) } }
  func write(_ bytes: ArraySlice<UInt8>) { self.bytes.withLock { $0 += bytes } }
}

extension FileOwner {
  static let consul = FileOwner(user: 100, group: 101, userName: "consul", groupName: "consul")
}

extension TestContext {
  /// Performs a step with an executor of its own, as a second run does.
  @discardableResult
  func perform(_ step: Step) async throws -> StepExecutor.Outcome {
    try await StepExecutor(context: context).perform(step)
  }

  /// The failure of a step; nil if it succeeds.
  func failure(of step: Step) async throws -> Failure? {
    do {
      try await perform(step)
      return nil
    } catch let failure as Failure {
      return failure
    }
  }
}
