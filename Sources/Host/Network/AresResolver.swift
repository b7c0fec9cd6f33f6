package import Base
internal import CAres
internal import Glibc

/// Names by c-ares, each query on a thread of its own.
package struct AresResolver: NameResolver {
  package init() {}

  package func addresses(of name: String, server: IPv4Address, port: Int64, timeout: Duration) async throws
    -> [IPv4Address]
  {
    let result: Result<[IPv4Address], NameError> = await withCheckedContinuation { continuation in
      do throws(ResourceError) {
        try startThread("dns") {
          continuation.resume(returning: Self.query(name, "\(server):\(port)", timeout))
        }
      } catch {
        continuation.resume(returning: .failure(NameError(error.explanation)))
      }
    }
    return try result.get()
  }

  /// What c-ares reports for a query.
  private final class Answer {
    /// More addresses of one name are of no use to a caller.
    private static let most: Int32 = 16

    var status = Int32(ARES_ETIMEOUT)
    var addresses: [IPv4Address] = []

    func receive(_ status: Int32, _ bytes: UnsafeMutablePointer<UInt8>?, _ length: Int32) {
      self.status = status
      guard status == 0 else { return }
      var records = [ares_addrttl](repeating: ares_addrttl(), count: Int(Self.most))
      var count = Self.most
      self.status = ares_parse_a_reply(bytes, length, nil, &records, &count)
      guard self.status == 0 else { return }
      addresses = records.prefix(max(0, Int(count))).map { IPv4Address(value: UInt32(bigEndian: $0.ipaddr.s_addr)) }
    }
  }

  /// Asks for the A records, at most twice, each time for so long. Blocks.
  private static func query(_ name: String, _ server: String, _ timeout: Duration) -> Result<[IPv4Address], NameError> {
    var channel: ares_channel?
    var options = ares_options()
    options.timeout = Int32(clamping: timeout.wholeMilliseconds)
    options.tries = 2
    // Nothing of the machine's own configuration: this server and no search domains.
    var status = ares_init_options(&channel, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES)
    guard status == 0, let channel else { return .failure(error(status)) }
    defer { ares_destroy(channel) }
    status = ares_set_servers_ports_csv(channel, server)
    guard status == 0 else { return .failure(error(status)) }
    let answer = Answer()
    withExtendedLifetime(answer) {
      ares_query(
        channel, name, Int32(ns_c_in.rawValue), Int32(ns_t_a.rawValue),
        { context, status, _, bytes, length in
          guard let context else { return }
          Unmanaged<Answer>.fromOpaque(context).takeUnretainedValue().receive(status, bytes, length)
        }, Unmanaged.passUnretained(answer).toOpaque())
      process(channel)
    }
    return answer.status == 0 ? .success(answer.addresses) : .failure(error(answer.status))
  }

  /// Until no query is pending: c-ares ends each at its time-out.
  private static func process(_ channel: ares_channel) {
    let most = Int(ARES_GETSOCK_MAXNUM)
    while true {
      // Not with select, which cannot watch descriptors above 1023.
      var sockets = [ares_socket_t](repeating: ARES_SOCKET_BAD, count: most)
      let bits = ares_getsock(channel, &sockets, Int32(most))
      var polled = sockets.indices.compactMap { index -> pollfd? in
        // The ARES_GETSOCK_READABLE and _WRITABLE macros (ares_getsock(3)).
        let events = (bits & 1 << index != 0 ? POLLIN : 0) | (bits & 1 << (index + most) != 0 ? POLLOUT : 0)
        return events == 0 ? nil : pollfd(fd: sockets[index], events: Int16(events), revents: 0)
      }
      if polled.isEmpty { return }
      var limit = timeval(tv_sec: 1, tv_usec: 0), time = timeval()
      let next = ares_timeout(channel, &limit, &time)?.pointee ?? limit
      let ready = poll(&polled, nfds_t(polled.count), Int32(clamping: next.tv_sec * 1000 + next.tv_usec / 1000 + 1))
      // Without a socket, c-ares checks its time-outs only.
      if ready <= 0 { ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD) }
      for socket in polled where ready > 0 && socket.revents != 0 {
        ares_process_fd(
          channel, Int32(socket.events) & POLLIN != 0 ? socket.fd : ARES_SOCKET_BAD,
          Int32(socket.events) & POLLOUT != 0 ? socket.fd : ARES_SOCKET_BAD)
      }
    }
  }

  private static func error(_ status: Int32) -> NameError {
    NameError(ares_strerror(status).map { String(cString: $0) } ?? "error \(status)")
  }
}
