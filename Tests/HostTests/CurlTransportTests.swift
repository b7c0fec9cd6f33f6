import Glibc
import Synchronization
import Testing

@testable import Base
@testable import Host

@Suite(.timeLimit(.minutes(5))) struct CurlTransportTests {
  private let transport = CurlTransport(caBundle: nil)

  private func request(_ server: LoopbackServer, _ path: String, _ method: String = "GET") -> HTTPRequest {
    var request = HTTPRequest(method, "http://127.0.0.1:\(server.port)\(path)")
    request.timeout = .milliseconds(500)
    return request
  }

  private func bytes(_ head: String, _ body: String = "") -> [UInt8] { Array("\(head)\r\n\r\n\(body)".utf8) }

  @Test func `status, headers and body come back`() async throws {
    let server = LoopbackServer([
      "/": bytes("HTTP/1.1 418 Teapot\r\nX-One: a: b \r\nContent-Length: 2\r\nDate: d", "hi")
    ])
    let response = try await transport.send(request(server, "/"))
    #expect(response.status == 418)
    #expect(response.text == "hi")
    #expect(response.headers == ["x-one": "a: b", "content-length": "2", "date": "d"])
  }

  @Test(arguments: ["GET", "PUT", "POST"])
  func `methods, headers and bodies go out as they are`(_ method: String) async throws {
    let server = LoopbackServer([:])
    var request = request(server, "/echo", method)
    request.headers = [("X-Test", "value")]
    if method == "POST" { request.body = Array("a=1&b=2".utf8) }
    let text = try await transport.send(request).text
    #expect(text.hasPrefix("\(method) /echo HTTP/1.1\r\n"))
    #expect(text.contains("X-Test: value\r\n"))
    #expect(!text.contains("Expect:"))
    #expect(text.hasSuffix(method == "POST" ? "a=1&b=2" : "\r\n\r\n"))
  }

  @Test func `an answer over the limit, a cut one and a silent server differ`() async throws {
    let server = LoopbackServer([
      "/big": bytes("HTTP/1.1 200 OK\r\nContent-Length: 5000", String(repeating: "x", count: 5000)),
      "/cut": bytes("HTTP/1.1 200 OK\r\nContent-Length: 5000", "x"), "/garbage": Array("garbage\r\n\r\n".utf8),
    ])
    var big = request(server, "/big")
    big.maximumBodyBytes = 1000
    await #expect(throws: TransportError.bodyTooLarge(limit: 1000)) { try await transport.send(big) }
    await #expect(throws: TransportError.truncated) { try await transport.send(request(server, "/cut")) }
    await #expect(throws: TransportError.timedOut(whileConnecting: false)) {
      try await transport.send(request(server, "/silent"))
    }
    await #expect(throws: TransportError.self) { try await transport.send(request(server, "/garbage")) }
  }

  @Test func `a port where nothing listens is refused`() async {
    await #expect(throws: TransportError.refused) {
      try await transport.send(HTTPRequest("GET", "http://127.0.0.1:1/"))
    }
  }

  @Test func `only HTTP is allowed`() async {
    await #expect(throws: TransportError.self) { try await transport.send(HTTPRequest("GET", "file:///etc/passwd")) }
  }

  @Test func `cancellation ends a transfer at once`() async throws {
    let started = ContinuousClock.now
    let server = SilentPort(backlog: 1)
    let task = Task { [transport] in try await transport.send(silentRequest(server.port)) }
    await server.connection()
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(ContinuousClock.now - started < atOnce)
  }

  // Its cancel command was queued before its start command: it ran to its time-out.
  @Test func `a task that is cancelled before its transfer starts ends at once`() async throws {
    let started = ContinuousClock.now
    let server = SilentPort()
    let task = Task { [transport] in
      while !Task.isCancelled { await Task.yield() }
      return try await transport.send(silentRequest(server.port))
    }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(ContinuousClock.now - started < atOnce)
  }

  @Test func `cancellation at any moment ends a transfer at once`() async throws {
    let started = ContinuousClock.now
    let server = SilentPort()
    for number in 0..<2000 {
      let isRunning = Atomic<Bool>(false)
      let task = Task { [transport] in
        isRunning.store(true, ordering: .relaxed)
        return try await transport.send(silentRequest(server.port))
      }
      while !isRunning.load(ordering: .relaxed) { await Task.yield() }
      for _ in 0..<(number % 100) { _ = isRunning.load(ordering: .relaxed) }
      task.cancel()
      await #expect(throws: CancellationError.self) { try await task.value }
    }
    #expect(ContinuousClock.now - started < atOnce)
  }

  private func silentRequest(_ port: UInt16) -> HTTPRequest {
    var request = HTTPRequest("GET", "http://127.0.0.1:\(port)/")
    request.timeout = atOnce * 2
    return request
  }

  // To libcurl, 0 milliseconds are no limit.
  @Test func `a time-out below a millisecond is a time-out`() async {
    let server = SilentPort()
    var request = silentRequest(server.port)
    request.timeout = .microseconds(1)
    await #expect(throws: TransportError.self) { try await transport.send(request) }
  }

  @Test func `a request that libcurl does not accept is an error`() async {
    let url = "http://127.0.0.1/" + String(repeating: "x", count: 8_000_000)
    await #expect(
      throws: TransportError.other("cannot prepare the request: A libcurl function was given a bad argument")
    ) { try await transport.send(HTTPRequest("GET", url)) }
  }

  @Test func `many transfers go at once`() async throws {
    let server = LoopbackServer(["/": bytes("HTTP/1.1 200 OK\r\nContent-Length: 1", "x")])
    let transport = transport
    var quick = request(server, "/")
    quick.timeout = .seconds(10)
    let one = quick
    try await withThrowingTaskGroup(of: Int.self) { group in
      for _ in 0..<64 { group.addTask { try await transport.send(one).status } }
      for try await status in group { #expect(status == 200) }
    }
  }
}
