internal import Base
internal import Model

extension StepExecutor {
  private static let hangup: Int32 = 1

  /// Only a process that holds the supervisor's lock now: its id may have become another program's meanwhile.
  func reload(_ supervision: Supervision) throws {
    guard try context.files.holder(ofLock: supervision.lockPath) == supervision.pid else {
      throw Failure(
        .agentNotStarted, "the process that supervised the agent has ended",
        details: ["process \(supervision.pid) no longer holds \(supervision.lockPath)"],
        hint: "run consul-bootstrap again: it then supervises the agent itself")
    }
    try context.system.signal(Self.hangup, process: supervision.pid)
  }
}
