internal import Base
internal import CSpawn
internal import Glibc
internal import Synchronization

/// An open file descriptor: closed once, by `close` or when it is released.
final class Descriptor: Sendable {
  let number: Int32
  private let isOpen = Mutex(true)

  /// Takes an open descriptor over.
  init(_ number: Int32) { self.number = number }

  deinit { close() }

  func close() {
    let mustClose = isOpen.withLock { isOpen in
      defer { isOpen = false }
      return isOpen
    }
    // Linux closes the descriptor whatever `close` returns (close(2)).
    if mustClose { Glibc.close(number) }
  }
}

/// A new pipe, closed in children.
/// - Throws: `ResourceError`.
func createPipe(nonBlocking: Bool = false) throws(ResourceError) -> (reader: Descriptor, writer: Descriptor) {
  var ends: [Int32] = [-1, -1]
  guard cb_pipe(&ends, nonBlocking) == 0 else { throw ResourceError(resource: "a pipe", number: errno) }
  return (Descriptor(ends[0]), Descriptor(ends[1]))
}

/// Waits until a descriptor is ready for `events` (poll(2)).
/// - Parameter deadline: in `Machine.uptime`.
/// - Returns: 0 if it is ready, `ETIMEDOUT` if it is not in time, or the error number of the wait.
func waitUntilReady(_ descriptor: Int32, _ events: Int32, deadline: Duration) -> Int32 {
  while true {
    var polled = pollfd(fd: descriptor, events: Int16(events), revents: 0)
    let rest = max(.zero, deadline - Machine.uptime())
    let count = poll(&polled, 1, Int32(clamping: rest.wholeMilliseconds))
    if count > 0 { return 0 }
    if count == 0 { return ETIMEDOUT }
    guard errno == EINTR else { return errno }
  }
}

/// Writes all of the bytes, also where the descriptor is non-blocking.
/// - Returns: 0, or the error number of the write that failed.
func writeAll(_ bytes: ArraySlice<UInt8>, to descriptor: Int32) -> Int32 {
  var rest = bytes
  while !rest.isEmpty {
    let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    if count > 0 {
      rest = rest.dropFirst(count)
      continue
    }
    switch errno {
    case EINTR: continue
    case EAGAIN:
      // Another process that shares a terminal or a pipe with this one may have made it non-blocking.
      var room = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
      poll(&room, 1, -1)
    default: return errno
    }
  }
  return 0
}
