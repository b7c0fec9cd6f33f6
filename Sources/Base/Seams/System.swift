/// What else is asked of the machine. The real one is `LocalSystem` in Host.
package protocol System: Sendable {
  /// Whether systemd is the init system.
  var isBootedBySystemd: Bool { get }
  var isRoot: Bool { get }
  var hostName: String { get }
  /// Of this process.
  var pid: Int32 { get }
  /// Absolute path of this program.
  var programPath: String { get }
  /// Sets the running kernel's host name. Throws `FileError`.
  func setHostName(_ name: String) throws
  /// A user of `/etc/passwd`; nil if there is none.
  func owner(named name: String) -> FileOwner?
  /// Bytes that may still be written to the file system that holds a path, and whether it takes any. Throws `FileError`.
  func freeSpace(at path: String) throws -> (bytes: Int64, isReadOnly: Bool)
  /// Tells the service manager (sd_notify(3)): `READY=1`, `STATUS=…`, `WATCHDOG=1`. Nothing happens where there is none.
  func notify(_ state: String)
  /// The service manager wants to hear `WATCHDOG=1` so often; nil if it does not.
  var watchdogInterval: Duration? { get }
  /// The first IPv4 address of a network interface; nil if there is none.
  func address(ofInterface name: String) -> IPv4Address?
}

/// Serves one text to this machine by HTTP. The real one is `LocalTextServer` in Host.
package protocol TextServer: Sendable {
  /// Until the returned value is let go. Throws `FileError`.
  /// - Parameter text: asked for each time; must not block.
  func serve(at address: ServedAddress, _ text: @escaping @Sendable () -> String) throws -> any Sendable
}

/// This machine only: nobody else may look.
package enum ServedAddress: Sendable, Equatable {
  case unix(path: String)
  case loopback(port: UInt16)
}

/// Asks one name server. The real one is `AresResolver` in Host.
package protocol NameResolver: Sendable {
  /// The IPv4 addresses of a name, as the server at this address and UDP port says.
  /// - Throws: `NameError`.
  func addresses(of name: String, server: IPv4Address, port: Int64, timeout: Duration) async throws -> [IPv4Address]
}

/// Why a name has no addresses.
package struct NameError: ExplainedError, Sendable, Equatable {
  package let explanation: String

  package init(_ explanation: String) { self.explanation = explanation }
}
