package import Base
internal import Synchronization

/// A machine in memory: root on a machine that systemd has booted, unless the test says otherwise.
///
/// What depends on the machine's set-up (users, file systems, interfaces) crashes the test if it is not set up.
package final class FakeSystem: System {
  private struct State {
    var isBootedBySystemd = true
    var isRoot = true
    var hostName = "ip-10-0-1-10"
    var pid: Int32 = 4242
    var programPath = "/usr/local/bin/consul-bootstrap"
    var watchdogInterval: Duration?
    var owners: [String: FileOwner?] = [:]
    var spaces: [String: Result<FakeSpace, FileError>] = [:]
    var addresses: [String: IPv4Address?] = [:]
    var hostNameError: FileError?
    var faults: [Operation: Int32] = [:]
    var notifications: [String] = []
    var signals: [String] = []
  }

  /// Calls of the seam that a test can make fail, by the operation that their errors name.
  package enum Operation: String, Sendable {
    case owner = "read"
    case address = "list addresses of"
    case notify = "notify"
    case signal = "send signal 1 to"
  }

  private struct FakeSpace {
    let bytes: Int64
    let isReadOnly: Bool
  }

  private let state = Watched(State())

  package init() {}

  package var isBootedBySystemd: Bool { state.value.isBootedBySystemd }
  package var isRoot: Bool { state.value.isRoot }
  package var hostName: String { state.value.hostName }
  package var pid: Int32 { state.value.pid }
  package var programPath: String { state.value.programPath }
  package var watchdogInterval: Duration? { state.value.watchdogInterval }

  package func setBootedBySystemd(_ value: Bool) { state.update { $0.isBootedBySystemd = value } }
  package func setRoot(_ value: Bool) { state.update { $0.isRoot = value } }
  package func setPID(_ value: Int32) { state.update { $0.pid = value } }
  package func setProgramPath(_ value: String) { state.update { $0.programPath = value } }
  package func setWatchdogInterval(_ value: Duration?) { state.update { $0.watchdogInterval = value } }

  /// - Parameter number: of the user and of the group; nil if there is no such user.
  package func setOwner(_ name: String, _ number: UInt32?) {
    let owner = number.map { FileOwner(user: $0, group: $0, userName: name, groupName: name) }
    state.update { $0.owners[name] = .some(owner) }
  }

  /// The free space of every path that begins so.
  package func setFreeSpace(_ path: String = "/", bytes: Int64, isReadOnly: Bool = false) {
    state.update { $0.spaces[path] = .success(FakeSpace(bytes: bytes, isReadOnly: isReadOnly)) }
  }

  package func failFreeSpace(_ path: String = "/", errno: Int32) {
    let error = FileError("check the file system of", path, errno: errno, reason: Errno(errno).reason)
    state.update { $0.spaces[path] = .failure(error) }
  }

  /// - Parameter address: nil if the interface has none.
  package func setAddress(ofInterface name: String, _ address: String?) {
    let value = address.map { text in
      guard let address = IPv4Address(text) else { fatalError("not an address: \(text)") }
      return address
    }
    state.update { $0.addresses[name] = .some(value) }
  }

  /// The next changes of the host name fail.
  package func failHostName(errno: Int32) {
    let error = FileError("set the host name to", "", errno: errno, reason: Errno(errno).reason)
    state.update { $0.hostNameError = error }
  }

  /// What the service manager was sent, in order.
  package var notifications: [String] { state.value.notifications }

  /// Waits for a notification that begins so.
  @discardableResult
  package func notification(_ prefix: String) async throws -> String {
    try await state.wait { $0.notifications.first { $0.hasPrefix(prefix) } }
  }

  package func setHostName(_ name: String) throws(FileError) {
    try state.update { state throws(FileError) in
      if let error = state.hostNameError {
        throw FileError(error.operation, name, errno: error.errno, reason: error.reason)
      }
      state.hostName = name
    }
  }

  /// Every such call fails from now on.
  package func fail(_ operation: Operation, errno: Int32) { state.update { $0.faults[operation] = errno } }

  private func check(_ operation: Operation, _ path: String) throws(FileError) {
    guard let errno = state.value.faults[operation] else { return }
    throw FileError(operation.rawValue, path, errno: errno, reason: Errno(errno).reason)
  }

  /// `NUMBER PROCESS` of each signal, in order.
  package var signals: [String] { state.value.signals }

  package func signal(_ number: Int32, process: Int32) throws(FileError) {
    try check(.signal, "process \(process)")
    state.update { $0.signals.append("\(number) \(process)") }
  }

  package func owner(named name: String) throws(FileError) -> FileOwner? {
    try check(.owner, "/etc/passwd")
    guard let owner = state.value.owners[name] else { forgotten("user \(name)") }
    return owner
  }

  package func freeSpace(at path: String) throws(FileError) -> (bytes: Int64, isReadOnly: Bool) {
    let found = state.value.spaces.filter { path.hasPrefix($0.key) }.max { $0.key.count < $1.key.count }
    guard let found else { forgotten("free space at \(path)") }
    do {
      let space = try found.value.get()
      return (space.bytes, space.isReadOnly)
    } catch {
      throw FileError(error.operation, path, errno: error.errno, reason: error.reason)
    }
  }

  package func notify(_ text: String) throws(FileError) {
    try check(.notify, "the service manager")
    state.update { $0.notifications.append(text) }
  }

  package func address(ofInterface name: String) throws(FileError) -> IPv4Address? {
    try check(.address, name)
    guard let address = state.value.addresses[name] else { forgotten("interface \(name)") }
    return address
  }
}
