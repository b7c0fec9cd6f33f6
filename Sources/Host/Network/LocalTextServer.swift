package import Base
// Brings along the system's headers of sockets.
internal import CAres
internal import Glibc
internal import Synchronization

/// One text by HTTP, on a Unix socket or a port of 127.0.0.1: one question after the other, each bounded in size and time.
package struct LocalTextServer: TextServer {
  package init() {}

  /// A scraper on this machine sends its question at once.
  private static let timeout = timeval(tv_sec: 2, tv_usec: 0)
  private static let longestQuestion = 8192
  private static let mostReads = 8

  package func serve(at address: ServedAddress, _ text: @escaping @Sendable () -> String) throws -> any Sendable {
    let listener = try Listener(address)
    startThread {
      while true {
        let connection = accept(listener.descriptor, nil, nil)
        if connection < 0 {
          if errno == EINTR || errno == ECONNABORTED { continue }
          // Shut down, or out of descriptors: then there is nothing to serve.
          return
        }
        Self.answer(connection, text)
        close(connection)
      }
    }
    return Holder(listener)
  }

  /// Lets the thread end when it is let go; the thread holds the listener itself.
  private final class Holder: Sendable {
    private let listener: Listener
    init(_ listener: Listener) { self.listener = listener }
    deinit { listener.end() }
  }

  private final class Listener: Sendable {
    let descriptor: Int32
    private let path: String?

    init(_ address: ServedAddress) throws {
      let name: String
      let failed: Bool
      switch address {
      case .unix(let file):
        (name, path) = (file, file)
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        // Left by a process that was killed.
        var info = stat()
        if lstat(file, &info) == 0, info.st_mode & S_IFMT == S_IFSOCK { unlink(file) }
        let mask = umask(0o117)
        failed = withUnixAddress(file) { bind(descriptor, $0, $1) } != 0
        umask(mask)
      case .loopback(let port):
        (name, path) = ("127.0.0.1:\(port)", nil)
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var on: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        failed =
          withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
              bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
          } != 0
      }
      guard descriptor >= 0, !failed, listen(descriptor, 8) == 0 else {
        let number = errno
        close(descriptor)
        throw FileError("listen on", name, errno: number, reason: errorText(number))
      }
    }

    func end() {
      if let path { unlink(path) }
      shutdown(descriptor, Int32(SHUT_RDWR))
    }

    deinit { close(descriptor) }
  }

  private static func answer(_ connection: Int32, _ text: () -> String) {
    var timeout = timeout
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
    var question: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 2048)
    // Nor does one that drips keep the others waiting.
    for _ in 0..<mostReads
    where question.count < longestQuestion && !question.suffix(4).elementsEqual([13, 10, 13, 10]) {
      let count = read(connection, &buffer, buffer.count)
      guard count > 0 else { return }
      question += buffer[..<count]
    }
    let body = question.starts(with: "GET ".utf8) ? text() : nil
    let status = body == nil ? "405 Method Not Allowed" : "200 OK"
    let answer =
      "HTTP/1.1 \(status)\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: \((body ?? "").utf8.count)\r\n"
      + "Connection: close\r\n\r\n" + (body ?? "")
    var rest = Array(answer.utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      guard count > 0 else { return }
      rest = rest.dropFirst(count)
    }
  }
}
