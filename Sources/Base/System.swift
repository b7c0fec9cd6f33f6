/// What else is asked of the machine. The real one is `LocalSystem` in Host.
package protocol System: Sendable {
  /// Whether systemd is the init system.
  var isBootedBySystemd: Bool { get }
  var isRoot: Bool { get }
  var hostName: String { get }
  /// Sets the running kernel's host name. Throws `FileError`.
  func setHostName(_ name: String) throws
  /// A user of `/etc/passwd`; nil if there is none.
  func owner(named name: String) -> FileOwner?
}
