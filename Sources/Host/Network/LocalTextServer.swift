package import Base
internal import CSpawn
internal import Glibc
internal import Synchronization

/// Serves one text by HTTP on a Unix socket or a port of 127.0.0.1: one request after the other, each bounded in size
/// and time.
package struct LocalTextServer: TextServer {
  /// How long a request may take, from its connection to the end of its answer: both sides are on this machine.
  private let timeout: Duration

  package init(timeout: Duration = .seconds(5)) { self.timeout = timeout }

  package func serve(at address: ServedAddress, _ text: @escaping @Sendable () -> String) throws(FileError)
    -> any Sendable
  {
    let listener = try Listener(address, timeout: timeout)
    do throws(ResourceError) {
      try startThread("text server") { listener.run(text) }
    } catch {
      listener.end()
      throw FileError("listen on", listener.name, errno: error.number, reason: error.explanation)
    }
    return Holder(listener)
  }

  /// Ends the server when it is released; the thread holds the listener, too.
  private final class Holder: Sendable {
    private let listener: Listener
    init(_ listener: Listener) { self.listener = listener }
    deinit { listener.end() }
  }
}

/// A listening socket, and the loop that answers on it.
private final class Listener: Sendable {
  /// The address, for messages.
  let name: String
  private let socket: Descriptor
  /// The socket in the file system, if it is one there.
  private let file: (path: String, inode: UInt64)?
  private let isEnded = Mutex(false)

  private let timeout: Duration
  private static let longestRequest = 8192
  /// Between two attempts to accept a connection when the process or the machine is out of descriptors or memory.
  private static let pause = Duration.milliseconds(100)

  /// - Throws: `FileError`.
  init(_ address: ServedAddress, timeout: Duration) throws(FileError) {
    self.timeout = timeout
    let number: Int32
    switch address {
    case .unix(let path):
      name = path
      guard !path.isEmpty, path.utf8.count < 108 else { throw FileError("listen on", path, number: ENAMETOOLONG) }
      number = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    case .loopback(let port):
      name = "127.0.0.1:\(port)"
      number = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    }
    guard number >= 0 else { throw FileError("listen on", name, number: errno) }
    socket = Descriptor(number)
    switch address {
    case .unix(let path):
      guard Self.bind(number, path: path), listen(number, 8) == 0 else {
        throw FileError("listen on", name, number: errno)
      }
      var info = stat()
      file = lstat(path, &info) == 0 ? (path, UInt64(info.st_ino)) : nil
    case .loopback(let port):
      guard Self.bind(number, port: port), listen(number, 8) == 0 else {
        throw FileError("listen on", name, number: errno)
      }
      file = nil
    }
  }

  /// - Returns: whether that worked; the reason is in `errno`.
  private static func bind(_ socket: Int32, path: String) -> Bool {
    var info = stat()
    // Left behind by a process that was killed. A socket that cannot be removed fails `bind`.
    if lstat(path, &info) == 0, info.st_mode & S_IFMT == S_IFSOCK { unlink(path) }
    // The file gets the mode of the socket (unix(7)): without any permission until it has the right ones. The process's
    // umask, which children inherit, stays what it is.
    guard fchmod(socket, 0) == 0, withUnixAddress(path, { Glibc.bind(socket, $0, $1) }) == 0 else { return false }
    return chmod(path, 0o660) == 0
  }

  private static func bind(_ socket: Int32, port: UInt16) -> Bool {
    var on: Int32 = 1
    // Without the option a port that was in use a minute ago counts as taken, which is then the error.
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
    return withInternetAddress(IPv4Address(value: 0x7F00_0001), port) { Glibc.bind(socket, $0, $1) } == 0
  }

  /// Ends the loop, and with it the thread.
  func end() {
    isEnded.withLock { $0 = true }
    // Unless a newer server has its socket there by now. A file that stays is replaced by the next server.
    var info = stat()
    if let file, lstat(file.path, &info) == 0, UInt64(info.st_ino) == file.inode { unlink(file.path) }
    // Fails for a socket that does not listen any more only.
    shutdown(socket.number, Int32(SHUT_RDWR))
  }

  /// Answers until `end` is called.
  func run(_ text: () -> String) {
    while !isEnded.withLock({ $0 }) {
      let number = cb_accept(socket.number)
      guard number >= 0 else {
        // Whatever the reason is, it passes: the process may be out of descriptors, the client may have gone away.
        if errno != EINTR, errno != ECONNABORTED, !isEnded.withLock({ $0 }) { Self.sleep() }
        continue
      }
      let connection = Descriptor(number)
      answer(connection.number, text)
      connection.close()
    }
  }

  private static func sleep() { poll(nil, 0, Int32(clamping: pause.wholeMilliseconds)) }

  /// A client that sends no whole request, or does not read the answer, gets none.
  private func answer(_ connection: Int32, _ text: () -> String) {
    let deadline = Machine.uptime() + timeout
    var request: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 2048)
    while !request.suffix(4).elementsEqual([13, 10, 13, 10]) {
      guard waitUntilReady(connection, POLLIN, deadline: deadline) == 0 else { return }
      let count = read(connection, &buffer, buffer.count)
      guard count > 0, request.count + count <= Self.longestRequest else { return }
      request += buffer[..<count]
    }
    let body = request.starts(with: "GET ".utf8) ? text() : nil
    let answer = """
      HTTP/1.1 \(body == nil ? "405 Method Not Allowed" : "200 OK")\r
      Content-Type: text/plain; version=0.0.4; charset=utf-8\r
      Content-Length: \((body ?? "").utf8.count)\r
      Connection: close\r
      \r
      \(body ?? "")
      """
    var rest = Array(answer.utf8)[...]
    while !rest.isEmpty, waitUntilReady(connection, POLLOUT, deadline: deadline) == 0 {
      let count = rest.withUnsafeBytes { send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      guard count > 0 else { return }
      rest = rest.dropFirst(count)
    }
  }
}
