package import Base
internal import Synchronization

/// Virtual time for the flows: whenever every task of the process waits, time jumps to the earliest deadline, so that
/// ten minutes of waiting take microseconds and happen in the same order each time.
///
/// A task that computes holds the time (`IdleConductor`). A test must not spin until something happens: it waits with
/// `Watched.wait`, with a method of a fake that waits, or with `settle()`.
/// - Important: it is meant for code whose only waits are `sleep(for:)`; real I/O beside it does not advance with it.
package final class TestClock: Clock, Sendable {
  package struct Instant: InstantProtocol {
    package let offset: Duration
    package func advanced(by duration: Duration) -> Instant { Instant(offset: offset + duration) }
    package func duration(to other: Instant) -> Duration { other.offset - offset }
    package static func < (left: Instant, right: Instant) -> Bool { left.offset < right.offset }
  }

  private struct Sleeper {
    let number: Int
    let deadline: Duration
    let continuation: CheckedContinuation<Void, any Error>
  }

  private struct State {
    var now = Duration.zero
    var wallOffset = Duration.zero
    var nextNumber = 0
    var sleepers: [Sleeper] = []
    var cancelled: Set<Int> = []
  }

  private let state = Mutex(State())
  private let start: Timestamp
  private let limit: Duration

  /// - Parameters:
  ///   - start: the wall clock's time at the beginning.
  ///   - limit: a flow that waits longer than this never ends: the test crashes.
  package init(start: Timestamp = Timestamp(seconds: 1_767_225_600), limit: Duration = .seconds(48 * 3600)) {
    self.start = start
    self.limit = limit
  }

  package var now: Instant { Instant(offset: state.withLock { $0.now }) }
  package var minimumResolution: Duration { .nanoseconds(1) }

  /// Monotonic time since the beginning of the test, for intervals and deadlines.
  package var uptime: MonotonicTime { { self.state.withLock { $0.now } } }

  /// The wall clock, for time stamps.
  package var wall: WallClock { { self.state.withLock { self.start + $0.now + $0.wallOffset } } }

  /// Sets the wall clock forward or, if negative, back; monotonic time does not change.
  package func setWall(by offset: Duration) { state.withLock { $0.wallOffset += offset } }

  package func sleep(until deadline: Instant, tolerance: Duration?) async throws {
    let number = state.withLock { state in
      state.nextNumber += 1
      return state.nextNumber
    }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let isCancelled = state.withLock { state in
          if state.cancelled.remove(number) != nil || Task.isCancelled { return true }
          state.sleepers.append(Sleeper(number: number, deadline: deadline.offset, continuation: continuation))
          return false
        }
        if isCancelled {
          continuation.resume(throwing: CancellationError())
        } else {
          IdleConductor.shared.add(self)
        }
      }
    } onCancel: {
      let sleeper = state.withLock { state -> Sleeper? in
        guard let index = state.sleepers.firstIndex(where: { $0.number == number }) else {
          state.cancelled.insert(number)
          return nil
        }
        return state.sleepers.remove(at: index)
      }
      sleeper?.continuation.resume(throwing: CancellationError())
    }
  }

  /// Waits until every other task waits, too; the time stays.
  package func settle() async throws { try await sleep(until: now, tolerance: nil) }

  /// Advances to the earliest deadline and wakes its sleeper; called while every task waits.
  func advance() {
    let continuation = state.withLock { state -> CheckedContinuation<Void, any Error>? in
      guard let index = state.sleepers.indices.min(by: { earlier(state.sleepers[$0], state.sleepers[$1]) }) else {
        return nil
      }
      let sleeper = state.sleepers.remove(at: index)
      state.now = max(state.now, sleeper.deadline)
      precondition(state.now <= limit, "the flow is still waiting after \(limit)")
      return sleeper.continuation
    }
    continuation?.resume()
  }

  var hasSleepers: Bool { state.withLock { !$0.sleepers.isEmpty } }

  private func earlier(_ left: Sleeper, _ right: Sleeper) -> Bool {
    (left.deadline, left.number) < (right.deadline, right.number)
  }
}
