package import Base
internal import Foundation
internal import Synchronization

private let nextPID = Mutex<Int32>(10_000)

/// A process that runs until the test, or a signal, ends it.
package final class FakeProcess: RunningProcess {
  private struct State {
    var end: ProcessEnd?
    var signals: [Int32] = []
    var lines: [String] = []
    var copy: (any OutputSink)?
    var reactions: [Int32: @Sendable (FakeProcess) -> Void] = [:]
    var isUninterruptible = false
  }

  package let pid: Int32 = nextPID.withLock {
    $0 += 1
    return $0
  }
  private let state = Watched(State())

  init() {}

  /// Those that it has got while it ran.
  package var signals: [Int32] { state.value.signals }
  package var hasEnded: Bool { state.value.end != nil }

  /// Ends it; the first end stays.
  package func finish(_ end: ProcessEnd) { state.update { $0.end = $0.end ?? end } }

  /// What it does at a signal; without this it goes on. SIGKILL ends it.
  package func on(_ signal: Int32, _ reaction: @escaping @Sendable (FakeProcess) -> Void) {
    state.update { $0.reactions[signal] = reaction }
  }

  /// From now on it is in uninterruptible sleep: SIGKILL does not end it, either.
  package func becomeUninterruptible() { state.update { $0.isUninterruptible = true } }

  /// At a signal it ends so.
  package func on(_ signal: Int32, finish end: ProcessEnd) { on(signal) { $0.finish(end) } }

  /// Writes a line to its output.
  package func write(_ line: String) {
    let copy = state.update { state in
      state.lines.append(line)
      return state.copy
    }
    copy?.write(Array("\(line)\n".utf8)[...])
  }

  /// Waits until it has got the signal so many times.
  package func signal(_ number: Int32, times: Int = 1) async throws {
    try await state.wait { state in state.signals.count { $0 == number } >= times ? () : nil }
  }

  func attach(_ copy: (any OutputSink)?) {
    let written = state.update { state in
      state.copy = copy
      return state.lines
    }
    for line in written { copy?.write(Array("\(line)\n".utf8)[...]) }
  }

  package func signal(_ number: Int32) {
    let reaction: (@Sendable (FakeProcess) -> Void)? = state.update { state in
      guard state.end == nil else { return nil }
      state.signals.append(number)
      if state.isUninterruptible { return nil }
      return number == 9 ? { @Sendable in $0.finish(.signalled(9)) } : state.reactions[number]
    }
    reaction?(self)
  }

  package func end() async -> ProcessEnd? { try? await state.wait { $0.end } }

  package func lastLines() -> [String] { state.value.lines.suffix(40) }
}

/// A process whose output the test feeds and the flow reads at its pace.
package final class FakeFollowedProcess: FollowedProcess {
  private struct State {
    var bytes: [UInt8] = []
    var hasEnded = false
    var isStopped = false
  }

  private let state = Watched(State())

  init() {}

  package var isStopped: Bool { state.value.isStopped }

  /// Bytes that the flow has not read.
  package var unread: Int { state.value.bytes.count }

  package func feed(_ text: String) { state.update { $0.bytes += Array(text.utf8) } }

  /// Its end, after what it wrote.
  package func finish() { state.update { $0.hasEnded = true } }

  /// Waits until the flow has stopped it.
  package func stopped() async throws { try await state.wait { $0.isStopped ? () : nil } }

  /// Waits until the flow has read everything.
  package func drained() async throws { try await state.wait { $0.bytes.isEmpty ? () : nil } }

  package func read(_ count: Int) -> [UInt8]? {
    state.update { state in
      guard !state.bytes.isEmpty else { return state.hasEnded || state.isStopped ? nil : [] }
      let part = Array(state.bytes.prefix(count))
      state.bytes.removeFirst(part.count)
      return part
    }
  }

  package func stop() { state.update { $0.isStopped = true } }
}
