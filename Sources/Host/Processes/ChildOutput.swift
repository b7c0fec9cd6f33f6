internal import Base
internal import CSpawn
internal import Glibc

/// The output of one child, read until the child has exited.
///
/// The exit is observed apart from the output: a descendant that outlives the child may hold its standard output for
/// hours, and the child has exited all the same.
struct ChildOutput {
  private let child: SpawnedChild
  private let sources: [Descriptor]
  /// Becomes readable when the child exits; nil where the kernel offers none.
  private let pidfd: Descriptor?
  private var buffer = [UInt8](repeating: 0, count: 1 << 14)

  /// How often the exit is checked without a pidfd.
  private static let pollInterval = Duration.milliseconds(20)
  /// How long descendants may keep writing after the exit. The child's own output is in the pipes by then.
  private static let drainTime = Duration.milliseconds(100)
  /// The pipes hold at most this much (two times 64 KiB, pipe(7)): it is read even if the time is over.
  private static let drainBytes = 128 << 10

  init(of child: SpawnedChild, _ sources: [Descriptor], hasPidfd: Bool) {
    self.child = child
    self.sources = sources
    let number = hasPidfd ? cb_pidfd_open(child.pid) : -1
    pidfd = number >= 0 ? Descriptor(number) : nil
  }

  /// Calls `receive` with the number of the source and the bytes. Returns when the child has exited and its output has
  /// been read; what a descendant writes later fails with EPIPE.
  mutating func readUntilExit(_ receive: (_ source: Int, ArraySlice<UInt8>) -> Void) {
    var polled = (sources.map(\.number) + [pidfd?.number ?? -1]).map {
      pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
    }
    var drain: (deadline: Duration, bytes: Int)?
    while true {
      let time: Duration? =
        if let drain {
          max(.zero, drain.deadline - Machine.uptime())
        } else {
          pidfd == nil ? Self.pollInterval : nil
        }
      let ready = poll(&polled, nfds_t(polled.count), time.map { Int32(clamping: $0.wholeMilliseconds) } ?? -1)
      if drain == nil, pidfd == nil ? cb_has_exited(child.pid) : ready > 0 && polled[sources.count].revents != 0 {
        drain = (Machine.uptime() + Self.drainTime, 0)
        polled[sources.count].fd = -1
      }
      // Interrupted, or the kernel is short of memory for a moment.
      guard ready >= 0 else { continue }
      for index in sources.indices where polled[index].fd >= 0 && polled[index].revents != 0 {
        let count = read(polled[index].fd, &buffer, buffer.count)
        if count < 0, errno == EINTR { continue }
        guard count > 0 else {
          sources[index].close()
          polled[index].fd = -1
          continue
        }
        receive(index, buffer[..<count])
        drain?.bytes += count
      }
      guard let drain else { continue }
      let isOver = Machine.uptime() >= drain.deadline && (ready == 0 || drain.bytes >= Self.drainBytes)
      if isOver || !sources.indices.contains(where: { polled[$0].fd >= 0 }) { break }
    }
    for source in sources { source.close() }
  }
}
