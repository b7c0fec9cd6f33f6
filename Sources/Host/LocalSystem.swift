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
}
