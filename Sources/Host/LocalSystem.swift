package import Base
internal import Glibc

/// The machine that this program runs on.
package struct LocalSystem: System {
  private let environment: [String: String]
  private let users: UserDatabase

  /// - Parameter environment: of this process; systemd passes its addresses in there.
  package init(environment: [String: String] = Machine.environment) {
    self.init(environment: environment, files: LocalFileStore())
  }

  /// - Parameter files: the user database.
  init(environment: [String: String], files: any FileReader) {
    self.environment = environment
    users = UserDatabase(files: files)
  }

  /// systemd's own test (sd_booted(3)).
  package var isBootedBySystemd: Bool { access("/run/systemd/system/", F_OK) == 0 }

  package var isRoot: Bool { geteuid() == 0 }

  package var pid: Int32 { getpid() }

  package var hostName: String {
    // The kernel's name has 64 bytes at most (gethostname(2)), so that the call cannot fail.
    var name = [CChar](repeating: 0, count: 256)
    guard gethostname(&name, name.count - 1) == 0 else { return "" }
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  package func setHostName(_ name: String) throws(FileError) {
    guard sethostname(name, name.utf8.count) == 0 else {
      throw FileError("set the host name to", name, number: errno)
    }
  }

  package func signal(_ number: Int32, process: Int32) throws(FileError) {
    // 0 and less are groups of processes (kill(2)).
    guard process > 0, kill(process, number) == 0 else {
      throw FileError("send signal \(number) to", "process \(process)", number: process > 0 ? errno : ESRCH)
    }
  }

  package func owner(named name: String) throws(FileError) -> FileOwner? { try users.owner(named: name) }

  package var programPath: String {
    var buffer = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &buffer, buffer.count)
    // Without /proc: where `consul-bootstrap install` copies it.
    guard count > 0 else { return "/usr/local/bin/consul-bootstrap" }
    return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  package func freeSpace(at path: String) throws(FileError) -> (bytes: Int64, isReadOnly: Bool) {
    var status = statvfs()
    guard statvfs(path, &status) == 0 else { throw FileError("check the file system of", path, number: errno) }
    // ST_RDONLY is 1 (statvfs(3)).
    return (
      Self.bytes(blocks: UInt64(status.f_bavail), blockSize: UInt64(status.f_frsize)), status.f_flag & 1 != 0
    )
  }

  /// Saturating: network file systems report what they like.
  static func bytes(blocks: UInt64, blockSize: UInt64) -> Int64 {
    Int64(clamping: blocks.saturatingMultiplied(by: blockSize))
  }

  package func notify(_ state: String) throws(FileError) {
    guard let path = environment["NOTIFY_SOCKET"], !path.isEmpty else { return }
    // Other kinds of addresses are for virtual machines (sd_notify(3)).
    guard path.hasPrefix("/") || path.hasPrefix("@") else {
      throw FileError("notify", path, number: EAFNOSUPPORT)
    }
    guard path.utf8.count < 108 else { throw FileError("notify", path, number: ENAMETOOLONG) }
    let number = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard number >= 0 else { throw FileError("notify", path, number: errno) }
    let socket = Descriptor(number)
    let sent = withUnixAddress(path) { address, length in
      state.withCString { sendto(socket.number, $0, strlen($0), Int32(MSG_NOSIGNAL), address, length) }
    }
    guard sent >= 0 else { throw FileError("notify", path, number: errno) }
  }

  package var watchdogInterval: Duration? {
    guard let text = environment["WATCHDOG_USEC"], let microseconds = Int64(text), microseconds > 0 else { return nil }
    // Set for another process, if it names one (sd_watchdog_enabled(3)).
    if let pid = environment["WATCHDOG_PID"], pid != String(getpid()) { return nil }
    return min(.microseconds(microseconds), Self.longestWatchdog)
  }

  /// Notifying more often than necessary does no harm; clocks cannot sleep for 292,000 years.
  private static let longestWatchdog = Duration.seconds(24 * 3600)

  package func address(ofInterface name: String) throws(FileError) -> IPv4Address? {
    var list: UnsafeMutablePointer<ifaddrs>?
    guard getifaddrs(&list) == 0 else { throw FileError("list addresses of", name, number: errno) }
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
