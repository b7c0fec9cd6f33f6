/// Bytes to a TCP port, and bytes back until the answer is whole. Time and size are always bounded.
package struct StreamRequest: Sendable {
  package var address: IPv4Address
  package var port: Int64
  /// Nil is plain text.
  package var tls: TLSClient?
  /// Sent in plain text, before TLS begins: protocols that share a port announce TLS by it.
  package var announcement: [UInt8] = []
  package var body: [UInt8] = []
  /// The whole exchange.
  package var timeout: Duration = .seconds(1)
  /// An answer larger than this ends the exchange with `StreamError.tooLarge`.
  package var maximumBytes: Int = 64 << 10
  /// Whether nothing more needs to be read; asked each time that bytes have arrived.
  package var isWhole: @Sendable ([UInt8]) -> Bool

  package init(_ address: IPv4Address, port: Int64, isWhole: @escaping @Sendable ([UInt8]) -> Bool) {
    self.address = address
    self.port = port
    self.isWhole = isWhole
  }
}

/// How a client authenticates itself and its server. The certificate of the server is always verified.
package struct TLSClient: Sendable, Equatable {
  /// PEM of the certificate authorities that the server's certificate may come from.
  package var ca: Secret
  /// PEM of the certificate, followed by that of its chain.
  package var certificate: Secret
  /// PEM, without a pass phrase.
  package var key: Secret
  /// Sent to the server (SNI).
  package var serverName: String
  /// Whether the certificate must name `serverName`.
  package var verifiesName: Bool

  package init(ca: Secret, certificate: Secret, key: Secret, serverName: String, verifiesName: Bool) {
    self.ca = ca
    self.certificate = certificate
    self.key = key
    self.serverName = serverName
    self.verifiesName = verifiesName
  }
}

/// Why no whole answer came.
package enum StreamError: ExplainedError, Sendable, Equatable {
  /// The machine is reached, and nothing listens there.
  case refused
  /// No connection in time.
  case silent
  /// A router, a firewall or this machine says that there is no way; with the system's words.
  case unreachable(String)
  /// Connected, but the answer was not whole in time.
  case noAnswer
  /// The peer ended the connection after so many bytes of the answer.
  case closed(after: Int)
  /// TLS failed; with the library's words.
  case handshake(String)
  case tooLarge(limit: Int)
  /// This machine's part failed: key material, threads, sockets.
  case local(String)

  package var explanation: String {
    switch self {
    case .refused: "connection refused"
    case .silent: "no connection in time"
    case .unreachable(let words): words
    case .noAnswer: "no answer in time"
    case .closed(after: 0): "connection closed without an answer"
    case .closed: "connection closed before the whole answer"
    case .handshake(let words): "TLS: \(words)"
    case .tooLarge(let limit): "answer larger than \(limit) bytes"
    case .local(let words): words
    }
  }
}

/// Exchanges bytes. The real one is `SocketTransport` in Host.
package protocol StreamTransport: Sendable {
  /// - Throws: `StreamError`, or `CancellationError` at once when the task is cancelled.
  func exchange(_ request: StreamRequest) async throws -> [UInt8]
}
