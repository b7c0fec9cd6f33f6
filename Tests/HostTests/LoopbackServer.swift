import Foundation
import Glibc

/// A blocking HTTP server on 127.0.0.1: sends the bytes that the test chose for each path, whatever they are.
final class LoopbackServer: Sendable {
  let port: UInt16
  private let descriptor: Int32

  /// - Parameter answers: by path; an empty answer keeps the connection open and says nothing.
  init(_ answers: [String: [UInt8]]) {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    port = withUnsafeMutablePointer(to: &address) { [descriptor] pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
        precondition(bind(descriptor, generic, length) == 0 && listen(descriptor, 16) == 0)
        getsockname(descriptor, generic, &length)
      }
      return UInt16(bigEndian: pointer.pointee.sin_port)
    }
    Thread.detachNewThread { [descriptor] in
      while true {
        let connection = accept(descriptor, nil, nil)
        guard connection >= 0 else { return }
        Thread.detachNewThread { Self.serve(connection, answers) }
      }
    }
  }

  deinit { shutdown(descriptor, Int32(SHUT_RDWR)); close(descriptor) }

  private static func isWhole(_ request: String) -> Bool {
    guard let end = request.range(of: "\r\n\r\n") else { return false }
    let length = request[..<end.lowerBound].split(separator: "\r\n").first { $0.hasPrefix("Content-Length: ") }.flatMap
    { Int($0.dropFirst(16)) }
    return request[end.upperBound...].utf8.count >= length ?? 0
  }

  private static func serve(_ connection: Int32, _ answers: [String: [UInt8]]) {
    var buffer = [UInt8](repeating: 0, count: 65536)
    var bytes: [UInt8] = []
    // The body may come after the head.
    repeat {
      let count = recv(connection, &buffer, buffer.count, 0)
      guard count > 0 else { break }
      bytes += buffer[..<count]
    } while !isWhole(String(decoding: bytes, as: UTF8.self))
    let request = String(decoding: bytes, as: UTF8.self)
    let path = request.split(separator: " ").dropFirst().first.map(String.init) ?? ""
    let reply =
      path == "/echo"
      ? Array("HTTP/1.1 200 OK\r\nContent-Length: \(request.utf8.count)\r\n\r\n\(request)".utf8) : answers[path] ?? []
    if reply.isEmpty { sleep(5) }
    var rest = reply[...]
    while !rest.isEmpty {
      let sent = rest.withUnsafeBytes { send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      guard sent > 0 else { break }
      rest = rest.dropFirst(sent)
    }
    close(connection)
  }
}
