import Glibc
import Synchronization
import Testing

@testable import Base
@testable import Host

private let here = IPv4Address("127.0.0.1")!

/// Sends `ping`, and is content with four bytes.
private func ping(_ port: UInt16, _ timeout: Duration = .seconds(20), tls: TLSClient? = nil) async throws -> String {
  var request = StreamRequest(here, port: Int64(port)) { $0.count >= 4 }
  request.body = Array("ping".utf8)
  request.timeout = timeout
  request.maximumBytes = 1000
  request.tls = tls
  if tls != nil { request.announcement = [3] }
  return String(decoding: try await SocketTransport().exchange(request), as: UTF8.self)
}

private func error(_ body: () async throws -> String) async -> StreamError? {
  do {
    Issue.record("an answer: \(try await body())")
    return nil
  } catch {
    return error as? StreamError
  }
}

@Suite(.timeLimit(.minutes(5))) struct SocketTransportTests {
  @Test func `bytes go out and come back, in whatever pieces`() async throws {
    let server = try StreamServer { connection in
      for byte in receive(connection, count: 4) {
        send(connection, [byte])
        // The next byte travels alone.
        _ = poll(nil, 0, 2)
      }
      // Kept open: the answer is whole without an end.
      _ = receive(connection, count: 1)
    }
    #expect(try await ping(server.port) == "ping")
  }

  @Test func `more bytes than asked for are passed on`() async throws {
    let server = try StreamServer { send($0, Array("ping pong".utf8)) }
    #expect(try await ping(server.port) == "ping pong")
  }

  @Test func `each way without an answer has its own error`() async throws {
    #expect(await error { try await ping(1) } == .refused)
    #expect(await error { try await ping(0) } == .unreachable("Invalid argument"))
    let closing = try StreamServer { _ = receive($0, count: 4) }
    #expect(await error { try await ping(closing.port) } == .closed(after: 0))
    let cutting = try StreamServer { connection in
      _ = receive(connection, count: 4)
      send(connection, [1, 2])
    }
    #expect(await error { try await ping(cutting.port) } == .closed(after: 2))
    // With bytes that were not read, the kernel resets the connection.
    let resetting = try StreamServer { _ in }
    #expect(await error { try await ping(resetting.port) } == .closed(after: 0))
    let silent = SilentPort()
    #expect(await error { try await ping(silent.port, .milliseconds(30)) } == .noAnswer)
    let talking = try StreamServer { send($0, [UInt8](repeating: 0, count: 3)) }
    #expect(await error { try await ping(talking.port) } == .closed(after: 3))
  }

  @Test func `bytes without end are cut off`() async throws {
    let server = try StreamServer { connection in
      while send(connection, [UInt8](repeating: 0, count: 4096)) {}
    }
    var request = StreamRequest(here, port: Int64(server.port)) { _ in false }
    request.timeout = .seconds(20)
    request.maximumBytes = 10_000
    await #expect(throws: StreamError.tooLarge(limit: 10_000)) { try await SocketTransport().exchange(request) }
  }

  /// A peer that sends a byte now and then must not hold a boot.
  @Test func `bytes that trickle in do not extend the time`() async throws {
    let server = try StreamServer { connection in
      while send(connection, [0]) { _ = poll(nil, 0, 5) }
    }
    var request = StreamRequest(here, port: Int64(server.port)) { _ in false }
    request.timeout = .milliseconds(60)
    let start = ContinuousClock.now
    await #expect(throws: StreamError.noAnswer) { try await SocketTransport().exchange(request) }
    #expect(ContinuousClock.now - start < atOnce)
  }

  @Test func `a cancelled exchange ends at once`() async throws {
    let hasArrived = Mutex(false)
    let server = try StreamServer { connection in
      hasArrived.withLock { $0 = true }
      // Until the client closes.
      _ = receive(connection, count: 100)
    }
    let port = server.port
    let task = Task { try await ping(port, .seconds(300)) }
    #expect(await eventually { hasArrived.withLock { $0 } })
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    let cancelled = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      return try await ping(port, .seconds(300))
    }
    await #expect(throws: CancellationError.self) { try await cancelled.value }
  }

  /// In a process of its own.
  @Test func `no exchange leaves a descriptor behind`() async {
    await #expect(processExitsWith: .success) {
      let ca = Authority("CA")
      let (certificate, key) = ca.issue("server.dc1.consul")
      let closing = try StreamServer { _ = receive($0, count: 4) }
      let before = openDescriptors().count
      let tls = TLSClient(
        ca: Secret(ca.pem), certificate: Secret(certificate), key: Secret(key), serverName: "x", verifiesName: true)
      for _ in 0..<10 {
        _ = await error { try await ping(closing.port) }
        _ = await error { try await ping(closing.port, tls: tls) }
        _ = await error { try await ping(1) }
      }
      expect("open", await eventually { openDescriptors().count <= before }, is: true)
    }
  }
}

/// TLS with certificates made here; the names are those of Consul.
@Suite(.timeLimit(.minutes(5))) struct TLSTransportTests {
  private static let name = "server.dc1.consul"
  private let ca = Authority("Consul CA")

  private func client(
    ca trusted: Authority? = nil, of authority: Authority? = nil, name: String = name, verifiesName: Bool = true
  ) -> TLSClient {
    let own = (authority ?? ca).issue("client.dc1.consul")
    return TLSClient(
      ca: Secret((trusted ?? ca).pem), certificate: Secret(own.certificate), key: Secret(own.key), serverName: name,
      verifiesName: verifiesName)
  }

  /// Reads the byte that announces TLS, as Consul does.
  private func server(_ issued: (certificate: String, key: String), verifies: Bool = true) throws -> StreamServer {
    let tls = TLSServer(certificate: issued.certificate, key: issued.key, clientCA: verifies ? ca.pem : nil)
    return try StreamServer { connection in
      guard receive(connection, count: 1) == [3] else { return }
      tls.echo(connection, count: 4)
    }
  }

  @Test func `both sides show their certificates`() async throws {
    let server = try server(ca.issue(Self.name))
    #expect(try await ping(server.port, tls: client()) == "ping")
  }

  @Test func `a server of another authority is not believed`() async throws {
    let server = try server(Authority("other").issue(Self.name), verifies: false)
    let result = await error { try await ping(server.port, tls: client()) }
    #expect(result == .handshake("unable to get local issuer certificate"))
  }

  @Test func `a server's certificate that has expired is not believed`() async throws {
    let server = try server(ca.issue(Self.name, validSeconds: -60))
    #expect(await error { try await ping(server.port, tls: client()) } == .handshake("certificate has expired"))
  }

  @Test func `the name is verified where the agents verify it`() async throws {
    let server = try server(ca.issue("client.dc1.consul"))
    #expect(await error { try await ping(server.port, tls: client()) } == .handshake("hostname mismatch"))
    #expect(try await ping(server.port, tls: client(verifiesName: false)) == "ping")
  }

  /// The server reports it after the client's handshake, in TLS 1.3.
  @Test func `a client whose certificate the server refuses learns it`() async throws {
    let server = try server(ca.issue(Self.name))
    let result = await error { try await ping(server.port, tls: client(of: Authority("other"))) }
    #expect(result == .handshake("tlsv1 alert unknown ca"))
  }

  @Test func `a server that closes or speaks plain text fails the handshake`() async throws {
    let closing = try StreamServer { _ = receive($0, count: 1) }
    let closed = await error { try await ping(closing.port, tls: client()) }
    #expect(closed == .handshake("connection closed during the handshake"))
    let plain = try StreamServer { connection in
      _ = receive(connection, count: 1)
      send(connection, Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8))
    }
    #expect(await error { try await ping(plain.port, tls: client()) } == .handshake("wrong version number"))
    let silent = SilentPort()
    #expect(await error { try await ping(silent.port, .milliseconds(30), tls: client()) } == .noAnswer)
  }

  @Test func `key material of no use is named`() async throws {
    let silent = SilentPort()
    for (change, words) in [
      ({ $0.ca = Secret("no") }, "the CA certificate is not a PEM certificate"),
      ({ $0.certificate = Secret("") }, "the certificate is not a PEM certificate"),
      (
        { $0.key = Secret(ca.issue("b").key) },
        "the private key is not a PEM key of the certificate without a pass phrase"
      ),
    ] as [((inout TLSClient) -> Void, String)] {
      var tls = client()
      change(&tls)
      #expect(await error { try await ping(silent.port, tls: tls) } == .local(words))
    }
  }
}
