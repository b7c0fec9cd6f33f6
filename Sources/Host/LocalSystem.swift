package import Base
internal import Glibc

/// This machine.
package struct LocalSystem: System {
  package init() {}

  /// systemd's own test (sd_booted(3)).
  package var isBootedBySystemd: Bool { access("/run/systemd/system/", F_OK) == 0 }

  package var isRoot: Bool { geteuid() == 0 }

  package var pid: Int32 { getpid() }

  package var hostName: String {
    var name = [CChar](repeating: 0, count: 256)
    guard gethostname(&name, name.count - 1) == 0 else { return "" }
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  package func setHostName(_ name: String) throws {
    guard sethostname(name, name.utf8.count) == 0 else {
      let number = errno
      throw FileError("set the host name to", name, errno: number, reason: errorText(number))
    }
  }

  package func owner(named name: String) -> FileOwner? { UserDatabase().owner(named: name) }

  package var programPath: String {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = buffer.withUnsafeMutableBytes { readlink("/proc/self/exe", $0.baseAddress!, $0.count) }
    return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : "/usr/local/bin/consul-bootstrap"
  }

  package func freeSpace(at path: String) throws -> (bytes: Int64, isReadOnly: Bool) {
    var status = statvfs()
    guard statvfs(path, &status) == 0 else {
      let number = errno
      throw FileError("look at the file system of", path, errno: number, reason: errorText(number))
    }
    // ST_RDONLY is 1 (statvfs(3)).
    return (Int64(clamping: UInt64(status.f_bavail) * UInt64(status.f_frsize)), status.f_flag & 1 != 0)
  }

  package func notify(_ state: String) {
    guard let path = getenv("NOTIFY_SOCKET").map({ String(cString: $0) }), path.hasPrefix("/") || path.hasPrefix("@"),
      path.utf8.count < 108
    else {
      return
    }
    let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    withUnixAddress(path) { address, length in
      _ = state.withCString { sendto(descriptor, $0, strlen($0), Int32(MSG_NOSIGNAL), address, length) }
    }
  }

  package var watchdogInterval: Duration? {
    guard let text = getenv("WATCHDOG_USEC").map({ String(cString: $0) }), let microseconds = Int64(text),
      microseconds > 0
    else { return nil }
    // Set for another process, if it names one (sd_watchdog_enabled(3)).
    if let pid = getenv("WATCHDOG_PID").map({ String(cString: $0) }), pid != String(getpid()) { return nil }
    return .microseconds(microseconds)
  }

  package func address(ofInterface name: String) -> IPv4Address? {
    var list: UnsafeMutablePointer<ifaddrs>?
    guard getifaddrs(&list) == 0 else { return nil }
    defer { freeifaddrs(list) }
    var next = list
    while let entry = next?.pointee {
      next = entry.ifa_next
      guard let address = entry.ifa_addr, address.pointee.sa_family == sa_family_t(AF_INET),
        String(cString: entry.ifa_name) == name
      else { continue }
      // struct sockaddr_in: family and port, then the address in network order (ip(7)).
      let number = UnsafeRawPointer(address).load(fromByteOffset: 4, as: UInt32.self)
      return IPv4Address(value: UInt32(bigEndian: number))
    }
    return nil
  }
}

/// A path as unix(7) wants it; a leading `@` stands for the abstract namespace.
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
