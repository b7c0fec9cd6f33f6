import Foundation
import Glibc
import Testing

@testable import Base
@testable import Host

@Suite(.timeLimit(.minutes(5))) struct LocalTextServerTests {
  @Test func `a text is served on a Unix socket, to the owner and the group`() async throws {
    try await withDirectory { directory in
      let path = directory + "/metrics.sock"
      let server = try LocalTextServer().serve(at: .unix(path: path)) { "one 1\n" }
      defer { withExtendedLifetime(server) {} }
      var info = stat()
      #expect(lstat(path, &info) == 0 && info.st_mode & 0o7777 == 0o660)
      #expect(
        try request(path, "GET /metrics HTTP/1.1\r\n\r\n")
          == "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: 6\r\n"
          + "Connection: close\r\n\r\none 1\n")
      #expect(try request(path, "POST / HTTP/1.1\r\n\r\n").hasPrefix("HTTP/1.1 405 Method Not Allowed\r\n"))
      // More than a scraper sends.
      #expect(try request(path, "GET /" + String(repeating: "x", count: 9000)) == "")
    }
  }

  @Test func `the socket of a killed process is replaced, a file is not`() async throws {
    try await withDirectory { directory in
      let path = directory + "/metrics.sock"
      let first = try LocalTextServer().serve(at: .unix(path: path)) { "first" }
      var second: (any Sendable)? = try LocalTextServer().serve(at: .unix(path: path)) { "second" }
      // The end of a server leaves the socket of a newer one in place.
      _ = consume first
      #expect(try request(path, "GET / HTTP/1.1\r\n\r\n").hasSuffix("second"))
      _ = second
      second = nil
      #expect(try LocalFileStore().list(directory) == [])

      try LocalFileStore().write(path, [], mode: 0o600, owner: nil)
      #expect(throws: FileError("listen on", path, number: EADDRINUSE)) {
        _ = try LocalTextServer().serve(at: .unix(path: path)) { "" }
      }
      let long = directory + "/" + String(repeating: "x", count: 100)
      #expect(throws: FileError("listen on", long, number: ENAMETOOLONG)) {
        _ = try LocalTextServer().serve(at: .unix(path: long)) { "" }
      }
    }
  }

  @Test func `a client that sends nothing holds no other up`() async throws {
    try await withDirectory { directory in
      let path = directory + "/metrics.sock"
      let server = try LocalTextServer(timeout: .milliseconds(20)).serve(at: .unix(path: path)) { "text" }
      defer { withExtendedLifetime(server) {} }
      let silent = connection()
      defer { close(silent) }
      try #require(withUnixAddress(path) { connect(silent, $0, $1) } == 0)
      #expect(try request(path, "GET / HTTP/1.1\r\n\r\n").hasSuffix("\r\n\r\ntext"))
    }
  }

  /// In a process of its own.
  @Test func `a server without free descriptors pauses and goes on, and its thread ends with it`() async {
    await #expect(processExitsWith: .success) {
      try await withDirectory { directory in
        let path = directory + "/metrics.sock"
        let before = openDescriptors()
        // From the first answer on there are no descriptors for connections.
        var server: (any Sendable)? = try LocalTextServer().serve(at: .unix(path: path)) {
          limitDescriptors(to: 3)
          return "text"
        }
        _ = server
        let client = connection()
        expect("first answer", try request(path, "GET / HTTP/1.1\r\n\r\n").hasSuffix("\r\n\r\ntext"), is: true)
        expect("connect", withUnixAddress(path) { connect(client, $0, $1) }, is: 0)
        expect("send", writeAll(Array("GET / HTTP/1.1\r\n\r\n".utf8)[...], to: client), is: 0)
        let silence = waitUntilReady(client, POLLIN, deadline: Machine.uptime() + .milliseconds(150))
        expect("answer without descriptors", silence, is: ETIMEDOUT)
        limitDescriptors(to: 1024)
        expect("second answer", try readAnswer(client).hasSuffix("\r\n\r\ntext"), is: true)
        close(client)
        limitDescriptors(to: 1024)
        expect("threads", try threads(named: "text server"), is: 1)
        server = nil
        _ = try await eventually { try threads(named: "text server") == 0 }
        expect("threads after the end", try threads(named: "text server"), is: 0)
        _ = await eventually { openDescriptors() == before }
        expect("descriptors", openDescriptors(), is: before)
      }
    }
  }
}

private func connection() -> Int32 { socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0) }

/// - Returns: all that the server answers until it closes the connection.
private func request(_ path: String, _ text: String) throws -> String {
  let client = connection()
  defer { close(client) }
  try #require(withUnixAddress(path) { connect(client, $0, $1) } == 0)
  #expect(writeAll(Array(text.utf8)[...], to: client) == 0)
  return try readAnswer(client)
}

private func readAnswer(_ client: Int32) throws -> String {
  var answer: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 4096)
  while true {
    try #require(waitUntilReady(client, POLLIN, deadline: Machine.uptime() + .seconds(20)) == 0)
    let count = read(client, &buffer, buffer.count)
    // The server closes a connection whose request it has not read to the end: a reset.
    guard count > 0 else { return String(decoding: answer, as: UTF8.self) }
    answer += buffer[..<count]
  }
}
