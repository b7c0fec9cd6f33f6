/// What became of a knock at a port.
package enum ProbeResult: Sendable, Equatable {
  /// Something listens, and answered.
  case open
  /// The machine is reached, and nothing listens there.
  case refused
  /// Nobody says anything: something drops what is sent.
  case silent
  /// A router, a firewall or this machine says that there is no way; with the system's words.
  case unreachable(String)
}

/// Knocks at ports of others, and tries ports of this machine. The real one is `SocketProber` in Host.
package protocol PortProber: Sendable {
  /// A TCP connection, closed at once.
  func connect(_ address: IPv4Address, port: Int64, timeout: Duration) async -> ProbeResult
  /// One datagram, and whatever comes back.
  func ask(_ address: IPv4Address, port: Int64, datagram: [UInt8], timeout: Duration) async -> ProbeResult
  /// Why one cannot listen here; nil if one can.
  func listenError(_ address: IPv4Address, port: Int64, datagrams: Bool) -> String?
}
