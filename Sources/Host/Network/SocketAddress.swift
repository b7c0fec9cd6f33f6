internal import Base
internal import Glibc

/// Calls `body` with a path as unix(7) wants it; a leading `@` stands for the abstract namespace.
/// - Parameter path: longer ones than 107 bytes are cut: the caller checks that.
func withUnixAddress<Result>(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
  var address = sockaddr_un()
  address.sun_family = sa_family_t(AF_UNIX)
  var bytes = Array(path.utf8.prefix(107))
  if bytes.first == 64 { bytes[0] = 0 }
  withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
  // The family's two bytes, the path, and its zero where it is a name in the file system.
  let length = socklen_t(2 + bytes.count + (bytes.first == 0 ? 0 : 1))
  return withUnsafePointer(to: &address) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) } }
}

/// Calls `body` with an IPv4 address and port as ip(7) wants them.
func withInternetAddress<Result>(
  _ address: IPv4Address, _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
) -> Result {
  var peer = sockaddr()
  peer.sa_family = sa_family_t(AF_INET)
  // struct sockaddr_in: port and address in network order.
  withUnsafeMutableBytes(of: &peer.sa_data) { bytes in
    bytes.storeBytes(of: port.bigEndian, toByteOffset: 0, as: UInt16.self)
    bytes.storeBytes(of: address.value.bigEndian, toByteOffset: 2, as: UInt32.self)
  }
  return body(&peer, socklen_t(MemoryLayout<sockaddr>.size))
}
