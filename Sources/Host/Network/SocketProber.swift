package import Base
internal import Glibc

/// Knocks by socket, each on a thread of its own.
package struct SocketProber: PortProber {
  package init() {}

  package func connect(_ address: IPv4Address, port: Int64, timeout: Duration) async -> ProbeResult {
    await onThread {
      withSocket(SOCK_STREAM, address, port) { socket, peer, length in
        if Glibc.connect(socket, peer, length) == 0 { return .open }
        guard errno == EINPROGRESS else { return Self.answer(errno) }
        guard Self.wait(socket, Int16(POLLOUT), timeout) else { return .silent }
        var error: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size)
        return error == 0 ? .open : Self.answer(error)
      }
    }
  }

  package func ask(_ address: IPv4Address, port: Int64, datagram: [UInt8], timeout: Duration) async -> ProbeResult {
    await onThread {
      withSocket(SOCK_DGRAM, address, port) { socket, peer, length in
        // Connected, so that an ICMP error comes back as one of this socket's.
        guard Glibc.connect(socket, peer, length) == 0 else { return Self.answer(errno) }
        guard datagram.withUnsafeBytes({ send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }) >= 0 else {
          return Self.answer(errno)
        }
        guard Self.wait(socket, Int16(POLLIN), timeout) else { return .silent }
        var byte: UInt8 = 0
        return recv(socket, &byte, 1, 0) >= 0 ? .open : Self.answer(errno)
      }
    }
  }

  package func listenError(_ address: IPv4Address, port: Int64, datagrams: Bool) -> String? {
    let answer = withSocket(datagrams ? SOCK_DGRAM : SOCK_STREAM, address, port) { socket, own, length -> String? in
      var yes: Int32 = 1
      // As every server does: connections that have ended are no obstacle.
      if !datagrams { setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size)) }
      guard bind(socket, own, length) == 0, datagrams || listen(socket, 1) == 0 else { return errorText(errno) }
      return nil
    }
    return answer ?? nil
  }

  private func onThread(_ body: @escaping @Sendable () -> ProbeResult?) async -> ProbeResult {
    await withCheckedContinuation { continuation in
      startThread { continuation.resume(returning: body() ?? .unreachable("no socket")) }
    }
  }

  /// - Returns: whether something happened in time.
  private static func wait(_ socket: Int32, _ events: Int16, _ timeout: Duration) -> Bool {
    var descriptor = pollfd(fd: socket, events: events, revents: 0)
    return poll(&descriptor, 1, Int32(clamping: timeout.wholeMilliseconds)) > 0
  }

  private static func answer(_ number: Int32) -> ProbeResult {
    switch number {
    case ECONNREFUSED, ECONNRESET: .refused
    case ETIMEDOUT: .silent
    default: .unreachable(errorText(number))
    }
  }
}

/// - Returns: nil if there is no socket.
private func withSocket<Result>(
  _ kind: __socket_type, _ address: IPv4Address, _ port: Int64,
  _ body: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Result
) -> Result? {
  let descriptor = socket(AF_INET, Int32(kind.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
  guard descriptor >= 0 else { return nil }
  defer { close(descriptor) }
  var peer = sockaddr()
  peer.sa_family = sa_family_t(AF_INET)
  // struct sockaddr_in: port and address in network order (ip(7)).
  withUnsafeMutableBytes(of: &peer.sa_data) { bytes in
    bytes.storeBytes(of: UInt16(truncatingIfNeeded: port).bigEndian, toByteOffset: 0, as: UInt16.self)
    bytes.storeBytes(of: address.value.bigEndian, toByteOffset: 2, as: UInt32.self)
  }
  return body(descriptor, &peer, socklen_t(MemoryLayout<sockaddr>.size))
}
