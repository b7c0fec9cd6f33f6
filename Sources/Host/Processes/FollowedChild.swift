internal import Base
internal import Glibc

/// A child whose output is read at the caller's pace; it ends with this process, or when it is stopped or released.
final class FollowedChild: FollowedProcess {
  private let reader: Descriptor
  private let child: SpawnedChild

  /// - Throws: `LaunchError`.
  init(_ command: Command, _ spawner: Spawner) throws(LaunchError) {
    let pipe: (reader: Descriptor, writer: Descriptor)
    do throws(ResourceError) {
      pipe = try createPipe()
      // Only the reading end: the child's standard output stays a blocking one.
      guard fcntl(pipe.reader.number, F_SETFL, O_NONBLOCK) == 0 else {
        throw ResourceError(resource: "a pipe", number: errno)
      }
    } catch {
      throw LaunchError(error, command)
    }
    let writer = pipe.writer
    child = try Spawner.onThread(for: command) { started in
      do throws(LaunchError) {
        let child = try spawner.spawn(
          .init(command: command, standardOutput: writer.number, standardError: writer.number))
        writer.close()
        started.finish(.success(child))
        // How it ended does not matter: the reader sees the end of its output.
        _ = child.reap()
      } catch {
        writer.close()
        started.finish(.failure(error))
      }
    }
    reader = pipe.reader
  }

  deinit { stop() }

  func read(_ count: Int) -> [UInt8]? {
    while true {
      // Before the read: what the child wrote until its end is read first. A descendant may hold the pipe for longer.
      let hasEnded = child.hasEnded
      var got = 0
      let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
        got = Glibc.read(reader.number, buffer.baseAddress, count)
        initialized = max(0, got)
      }
      if got > 0 { return bytes }
      if got == 0 { return nil }
      if errno == EINTR { continue }
      // Any other error means that there is no pipe to read any more.
      return errno == EAGAIN && !hasEnded ? [] : nil
    }
  }

  func stop() { child.signal(SIGKILL) }
}
