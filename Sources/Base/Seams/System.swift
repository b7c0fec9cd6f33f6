/// The machine itself. The real one is `LocalSystem` in Host.
package protocol System: Sendable {
  /// Whether systemd is the init system.
  var isBootedBySystemd: Bool { get }
  var isRoot: Bool { get }
  var hostName: String { get }
  /// Of this process.
  var pid: Int32 { get }
  /// Absolute path of this program.
  var programPath: String { get }
  /// Sets the running kernel's host name.
  func setHostName(_ name: String) throws(FileError)
  /// Sends a signal to a process.
  func signal(_ number: Int32, process: Int32) throws(FileError)
  /// A user of `/etc/passwd`; nil if there is none. Throws `FileError` if `/etc/passwd` or `/etc/group` exists but
  /// cannot be read.
  func owner(named name: String) throws(FileError) -> FileOwner?
  /// Bytes that may still be written to the file system that holds a path, and whether it is mounted read-only.
  func freeSpace(at path: String) throws(FileError) -> (bytes: Int64, isReadOnly: Bool)
  /// Notifies the service manager (sd_notify(3)): `READY=1`, `STATUS=…`, `WATCHDOG=1`. Does nothing where there is
  /// none.
  func notify(_ state: String) throws(FileError)
  /// How often the service manager expects `WATCHDOG=1`, at most a day; nil if it does not.
  var watchdogInterval: Duration? { get }
  /// The first IPv4 address of a network interface; nil if there is none.
  func address(ofInterface name: String) throws(FileError) -> IPv4Address?
}

/// Serves one text to this machine by HTTP. The real one is `LocalTextServer` in Host.
package protocol TextServer: Sendable {
  /// Serves until the returned value is released.
  /// - Parameter text: called for each request; must not block.
  func serve(at address: ServedAddress, _ text: @escaping @Sendable () -> String) throws(FileError) -> any Sendable
}

/// On this machine only: no other machine can connect.
package enum ServedAddress: Sendable, Equatable {
  case unix(path: String)
  case loopback(port: UInt16)
}

/// Queries one name server. The real one is `AresResolver` in Host.
package protocol NameResolver: Sendable {
  /// The IPv4 addresses of a name, as the server at this address and UDP port answers.
  /// - Throws: `NameError`.
  func addresses(of name: String, server: IPv4Address, port: Int64, timeout: Duration) async throws -> [IPv4Address]
}

/// Why a name has no addresses.
package struct NameError: ExplainedError, Sendable, Equatable {
  package let explanation: String

  package init(_ explanation: String) { self.explanation = explanation }
}
