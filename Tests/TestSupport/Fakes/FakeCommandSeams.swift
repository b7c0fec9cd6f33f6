package import Base
internal import Synchronization

/// Standard output of a command, kept.
package final class FakeOutput: TextOutput {
  private let state = Watched("")
  package let isTerminal: Bool
  package let hasColors: Bool
  package let width: Int

  package init(isTerminal: Bool = false, hasColors: Bool = false, width: Int = 80) {
    (self.isTerminal, self.hasColors, self.width) = (isTerminal, hasColors, width)
  }

  package var text: String { state.value }
  package var lines: [String] { text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init) }
  package func write(_ text: String) { state.update { $0 += text } }
}

/// Standard error of a command: the records as a `RecordingSink` keeps them, and whole lines.
package final class FakeErrorOutput: ErrorOutput {
  package let records = RecordingSink()
  private let state = Watched("")

  package init() {}

  package var text: String { state.value }
  package func write(text: String) { state.update { $0 += text } }
  package func write(_ record: LogRecord) { records.write(record) }
  package func progress(_ record: LogRecord) { records.progress(record) }
}

/// Locks in memory: those of this test's processes, and those that the test says others hold.
package final class FakeLocks: LockStore {
  private final class Held: HeldLock {
    let release: @Sendable () -> Void
    init(_ release: @escaping @Sendable () -> Void) { self.release = release }
    deinit { release() }
  }

  private let held = Watched<[String: String]>([:])
  private let failure = Watched<LockError?>(nil)

  package init() {}

  /// Paths of the locks that are held.
  package var paths: [String] { held.value.keys.sorted() }

  package func hold(_ path: String, by holder: String = "4711") { held.update { $0[path] = holder } }
  package func fail(_ error: LockError) { failure.update { $0 = error } }
  /// Waits until a lock is held, or until it is released.
  package func wait(_ path: String, isHeld: Bool = true) async throws {
    try await held.wait { ($0[path] != nil) == isHeld ? () : nil }
  }

  package func lock(directory: String, name: String) throws(LockError) -> any HeldLock {
    if let failure = failure.value { throw failure }
    let path = "\(directory)/\(name)"
    let holder: String? = held.update { held in
      if let holder = held[path] { return holder }
      held[path] = "4242"
      return nil
    }
    if let holder { throw .held(path: path, holder: holder) }
    return Held { [held] in held.update { $0[path] = nil } }
  }
}

/// Signals that the test sends; those that come before `deliver` wait for it.
package final class FakeSignals: SignalSource {
  private let state = Watched((handler: (@Sendable (Int32) -> Void)?.none, pending: [Int32]()))

  package init() {}

  package func send(_ number: Int32) {
    let handler = state.update { state -> (@Sendable (Int32) -> Void)? in
      if state.handler == nil { state.pending.append(number) }
      return state.handler
    }
    handler?(number)
  }

  package func deliver(to handler: @escaping @Sendable (Int32) -> Void) {
    let pending = state.update { state in
      state.handler = handler
      defer { state.pending = [] }
      return state.pending
    }
    for number in pending { handler(number) }
  }
}
