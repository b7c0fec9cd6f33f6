internal import Base
internal import Glibc
internal import Synchronization

/// One child, running or ended.
final class ChildProcess: RunningProcess {
  private struct State {
    var end: ProcessEnd?
    var waiters: [Int: CheckedContinuation<ProcessEnd?, Never>] = [:]
    var nextWaiter = 0
    /// The end of the child's output.
    var output: [UInt8] = []
  }

  /// Apart from the child, so that its thread does not need `self` before `init` has returned.
  private final class SharedState: Sendable {
    let value = Mutex(State())
  }

  private let child: SpawnedChild
  private let state: SharedState

  private static let outputLimit = 256 << 10

  /// - Parameters:
  ///   - passesThrough: whether the child's output goes to standard output and standard error, too.
  ///   - copy: gets the output, too.
  /// - Throws: `LaunchError`.
  init(
    _ command: Command, _ spawner: Spawner, owner: FileOwner?, mayBindLowPorts: Bool, passesThrough: Bool,
    copy: (any OutputSink)?
  ) throws(LaunchError) {
    let out: (reader: Descriptor, writer: Descriptor), err: (reader: Descriptor, writer: Descriptor)
    do throws(ResourceError) {
      out = try createPipe()
      err = try createPipe()
    } catch {
      throw LaunchError(error, command)
    }
    let state = SharedState()
    child = try Spawner.onThread(for: command) { [out, err] started in
      let child: SpawnedChild
      do throws(LaunchError) {
        child = try spawner.spawn(
          .init(
            command: command, owner: owner, mayBindLowPorts: mayBindLowPorts, standardOutput: out.writer.number,
            standardError: err.writer.number))
      } catch {
        started.finish(.failure(error))
        return
      }
      out.writer.close()
      err.writer.close()
      started.finish(.success(child))
      var output = ChildOutput(of: child, [out.reader, err.reader], hasPidfd: spawner.hasPidfd)
      output.readUntilExit { source, bytes in
        copy?.write(bytes)
        // Where standard output has no reader any more, the child's output is lost and the child goes on.
        if passesThrough { _ = writeAll(bytes, to: source == 0 ? 1 : 2) }
        state.value.withLock { state in
          state.output += bytes
          if state.output.count > 2 * Self.outputLimit {
            state.output.removeFirst(state.output.count - Self.outputLimit)
          }
        }
      }
      let end = child.reap()
      let waiters = state.value.withLock { state in
        state.end = end
        defer { state.waiters = [:] }
        return state.waiters.values
      }
      for waiter in waiters { waiter.resume(returning: end) }
    }
    self.state = state
  }

  var pid: Int32 { child.pid }

  func signal(_ number: Int32) { child.signal(number) }

  func end() async -> ProcessEnd? {
    let number = state.value.withLock { state in
      state.nextWaiter += 1
      return state.nextWaiter
    }
    return await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let known: ProcessEnd?? = state.value.withLock { state in
          if let end = state.end { return .some(end) }
          if Task.isCancelled { return .some(nil) }
          state.waiters[number] = continuation
          return nil
        }
        if let known { continuation.resume(returning: known) }
      }
    } onCancel: {
      state.value.withLock { $0.waiters.removeValue(forKey: number) }?.resume(returning: nil)
    }
  }

  func output() -> String {
    String(decoding: state.value.withLock { $0.output }, as: UTF8.self)
  }

  func lastLines() -> [String] {
    output().split(whereSeparator: \.isNewline).suffix(40).map(String.init)
  }
}
