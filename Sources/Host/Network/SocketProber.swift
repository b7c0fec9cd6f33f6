package import Base
internal import Glibc

/// Probes ports by sockets, each on a thread of its own.
package struct SocketProber: PortProber {
  package init() {}

  package func connect(_ address: IPv4Address, port: Int64, timeout: Duration) async -> ProbeResult {
    await probe { () throws(SocketError) in
      try withSocket(SOCK_STREAM, address, port) { socket, peer, length throws(SocketError) in
        if Glibc.connect(socket, peer, length) == 0 { return .open }
        guard errno == EINPROGRESS else { throw SocketError(errno) }
        try Self.wait(socket, POLLOUT, timeout)
        var error: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) == 0 else { throw SocketError(errno) }
        guard error == 0 else { throw SocketError(error) }
        return .open
      }
    }
  }

  package func probeDatagram(_ address: IPv4Address, port: Int64, datagram: [UInt8], timeout: Duration) async
    -> ProbeResult
  {
    await probe { () throws(SocketError) in
      try withSocket(SOCK_DGRAM, address, port) { socket, peer, length throws(SocketError) in
        // Connected: an ICMP error then comes back as an error of this socket.
        guard Glibc.connect(socket, peer, length) == 0 else { throw SocketError(errno) }
        guard datagram.withUnsafeBytes({ send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }) >= 0 else {
          throw SocketError(errno)
        }
        try Self.wait(socket, POLLIN, timeout)
        var byte: UInt8 = 0
        guard recv(socket, &byte, 1, 0) >= 0 else { throw SocketError(errno) }
        return .open
      }
    }
  }

  package func listenError(_ address: IPv4Address, port: Int64, datagrams: Bool) -> String? {
    do throws(SocketError) {
      try withSocket(datagrams ? SOCK_DGRAM : SOCK_STREAM, address, port) { socket, own, length throws(SocketError) in
        var yes: Int32 = 1
        // As every server does: connections that have ended do not keep the port. Without the option the port may
        // count as taken, which is then the error.
        if !datagrams { setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size)) }
        guard bind(socket, own, length) == 0, datagrams || listen(socket, 1) == 0 else { throw SocketError(errno) }
      }
      return nil
    } catch {
      return errorText(error.number)
    }
  }

  private func probe(_ body: @escaping @Sendable () throws(SocketError) -> ProbeResult) async -> ProbeResult {
    await withCheckedContinuation { continuation in
      do throws(ResourceError) {
        try startThread("probe") {
          do throws(SocketError) {
            continuation.resume(returning: try body())
          } catch {
            continuation.resume(returning: error.result)
          }
        }
      } catch {
        continuation.resume(returning: .unreachable(error.explanation))
      }
    }
  }

  private static func wait(_ socket: Int32, _ events: Int32, _ timeout: Duration) throws(SocketError) {
    let result = waitUntilReady(socket, events, deadline: Machine.uptime() + timeout)
    guard result == 0 else { throw SocketError(result) }
  }
}

/// A system call on a socket that failed.
private struct SocketError: Error {
  let number: Int32

  init(_ number: Int32) { self.number = number }

  var result: ProbeResult {
    switch number {
    case ECONNREFUSED, ECONNRESET: .refused
    case ETIMEDOUT: .silent
    default: .unreachable(errorText(number))
    }
  }
}

private func withSocket<Result>(
  _ kind: __socket_type, _ address: IPv4Address, _ port: Int64,
  _ body: (Int32, UnsafePointer<sockaddr>, socklen_t) throws(SocketError) -> Result
) throws(SocketError) -> Result {
  guard let port = UInt16(exactly: port) else { throw SocketError(EINVAL) }
  let number = socket(AF_INET, Int32(kind.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
  guard number >= 0 else { throw SocketError(errno) }
  defer { close(number) }
  // The errors of the body are its own: `withInternetAddress` throws none.
  let result: Swift.Result<Result, SocketError> = withInternetAddress(address, port) { peer, length in
    do throws(SocketError) {
      return .success(try body(number, peer, length))
    } catch {
      return .failure(error)
    }
  }
  return try result.get()
}
