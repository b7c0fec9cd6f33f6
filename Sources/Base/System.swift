/// What else is asked of the machine. The real one is `LocalSystem` in Host.
package protocol System: Sendable {
  /// Whether systemd is the init system.
  var isBootedBySystemd: Bool { get }
  var isRoot: Bool { get }
  var hostName: String { get }
  /// Absolute path of this program.
  var programPath: String { get }
  /// Sets the running kernel's host name. Throws `FileError`.
  func setHostName(_ name: String) throws
  /// A user of `/etc/passwd`; nil if there is none.
  func owner(named name: String) -> FileOwner?
  /// The first IPv4 address of a network interface; nil if there is none.
  func address(ofInterface name: String) -> IPv4Address?
}

/// Asks one name server. The real one is `AresResolver` in Host.
package protocol NameResolver: Sendable {
  /// The IPv4 addresses of a name, as the server at this address and UDP port says.
  /// - Throws: `NameError`.
  func addresses(of name: String, server: IPv4Address, port: Int64, timeout: Duration) async throws -> [IPv4Address]
}

/// Why a name has no addresses.
package struct NameError: Error, Sendable, Equatable {
  package let explanation: String

  package init(_ explanation: String) { self.explanation = explanation }
}
