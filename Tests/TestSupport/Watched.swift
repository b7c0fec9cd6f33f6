internal import Synchronization

/// A value that tests and fakes share, and whose changes tasks can wait for without a sleep.
package final class Watched<Value: Sendable>: Sendable {
  private struct Waiter {
    let number: Int
    /// What resumes the waiting task, if the value is what it waits for.
    let offer: @Sendable (Value) -> (@Sendable () -> Void)?
    let cancel: @Sendable () -> Void
  }

  private struct State {
    var value: Value
    var nextNumber = 0
    var waiters: [Waiter] = []
    var cancelled: Set<Int> = []
  }

  private let state: Mutex<State>

  package init(_ value: Value) { state = Mutex(State(value: value)) }

  package var value: Value { state.withLock { $0.value } }

  /// Changes the value and resumes every task that waited for it to become what it now is.
  @discardableResult
  package func update<Result: Sendable, Failure: Error>(
    _ change: (inout Value) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let (result, resumptions) = try state.withLock { state throws(Failure) in
      let result = try change(&state.value)
      var resumptions: [@Sendable () -> Void] = [], rest: [Waiter] = []
      for waiter in state.waiters {
        if let resume = waiter.offer(state.value) { resumptions.append(resume) } else { rest.append(waiter) }
      }
      state.waiters = rest
      return (result, resumptions)
    }
    for resume in resumptions { resume() }
    return result
  }

  /// Waits until `pick` finds what it looks for in the value. Throws `CancellationError` when the task is cancelled.
  package func wait<Result: Sendable>(_ pick: @escaping @Sendable (Value) -> Result?) async throws -> Result {
    let number = state.withLock { state in
      state.nextNumber += 1
      return state.nextNumber
    }
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Result, any Error>) in
        let waiter = Waiter(
          number: number,
          offer: { value in
            guard let found = pick(value) else { return nil }
            return { continuation.resume(returning: found) }
          }, cancel: { continuation.resume(throwing: CancellationError()) })
        let resume: (@Sendable () -> Void)? = state.withLock { state in
          if state.cancelled.remove(number) != nil { return waiter.cancel }
          if let resume = waiter.offer(state.value) { return resume }
          state.waiters.append(waiter)
          return nil
        }
        resume?()
      }
    } onCancel: {
      let cancel: (@Sendable () -> Void)? = state.withLock { state in
        guard let index = state.waiters.firstIndex(where: { $0.number == number }) else {
          state.cancelled.insert(number)
          return nil
        }
        return state.waiters.remove(at: index).cancel
      }
      cancel?()
    }
  }
}

/// Holds whatever passes through it until the test opens it.
package final class Gate: Sendable {
  private let state = Watched((isOpen: false, waiting: 0))

  package init() {}

  package func open() { state.update { $0.isOpen = true } }

  /// Waits until the gate is open. Throws `CancellationError` when the task is cancelled.
  package func pass() async throws {
    state.update { $0.waiting += 1 }
    try await state.wait { $0.isOpen ? () : nil }
  }

  /// Waits until so many tasks have come to the gate.
  package func arrivals(_ count: Int = 1) async throws {
    try await state.wait { $0.waiting >= count ? () : nil }
  }
}

/// Runs work that does not end by itself until the body returns, then cancels it and waits for its end.
package func running(_ work: @escaping @Sendable () async -> Void, _ body: () async throws -> Void) async throws {
  let work = Task { await work() }
  do {
    try await body()
  } catch {
    work.cancel()
    throw error
  }
  work.cancel()
  await work.value
}

/// Ends the test run: an effect that the test did not set up must never look like an answer.
package func forgotten(_ what: String) -> Never { fatalError("a forgotten fake: the test did not set up \(what)") }
