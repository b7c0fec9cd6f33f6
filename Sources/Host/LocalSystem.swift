package import Base
internal import Glibc

/// This machine.
package struct LocalSystem: System {
  package init() {}

  /// systemd's own test (sd_booted(3)).
  package var isBootedBySystemd: Bool { access("/run/systemd/system/", F_OK) == 0 }

  package var isRoot: Bool { geteuid() == 0 }

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

  package func address(ofInterface name: String) -> IPv4Address? {
    var list: UnsafeMutablePointer<ifaddrs>?
    guard getifaddrs(&list) == 0 else { return nil }
    defer { freeifaddrs(list) }
    var next = list
    while let entry = next?.pointee {
      next = entry.ifa_next
      guard let address = entry.ifa_addr, address.pointee.sa_family == sa_family_t(AF_INET), String(cString: entry.ifa_name) == name else { continue }
      // struct sockaddr_in: family and port, then the address in network order (ip(7)).
      let number = UnsafeRawPointer(address).load(fromByteOffset: 4, as: UInt32.self)
      return IPv4Address(value: UInt32(bigEndian: number))
    }
    return nil
  }
}
