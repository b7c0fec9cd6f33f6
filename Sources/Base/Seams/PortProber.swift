/// The result of a probe of a port.
package enum ProbeResult: Sendable, Equatable {
  /// Something listens, and answered.
  case open
  /// The machine is reached, and nothing listens there.
  case refused
  /// No answer: a firewall drops the packets.
  case silent
  /// A router, a firewall or this machine says that there is no way; with the system's words.
  case unreachable(String)
}

/// Probes ports of other machines, and checks whether ports of this machine are free.
/// The real one is `SocketProber` in Host.
package protocol PortProber: Sendable {
  /// A TCP connection, closed at once.
  func connect(_ address: IPv4Address, port: Int64, timeout: Duration) async -> ProbeResult
  /// One datagram, and whatever comes back.
  func probeDatagram(_ address: IPv4Address, port: Int64, datagram: [UInt8], timeout: Duration) async -> ProbeResult
  /// Why one cannot listen here; nil if one can.
  func listenError(_ address: IPv4Address, port: Int64, datagrams: Bool) -> String?
}
