/// One HTTP request. Time-outs and the size of the answer are always bounded.
package struct HTTPRequest: Sendable {
  package var method: String
  /// Absolute, `http` or `https`.
  package var url: String
  package var headers: [(name: String, value: String)] = []
  package var body: [UInt8] = []
  /// Names, TCP and TLS together.
  package var connectTimeout: Duration = .seconds(3)
  /// The whole exchange.
  package var timeout: Duration = .seconds(10)
  /// An answer larger than this ends the transfer with `TransportError.bodyTooLarge`.
  package var maximumBodyBytes: Int = 1 << 20
  /// Metadata and peers are on the link or in the VPC: never through a proxy.
  package var allowsProxy: Bool = false

  package init(_ method: String, _ url: String) {
    self.method = method
    self.url = url
  }
}

package struct HTTPResponse: Sendable {
  package let status: Int
  /// Names in lower case; of a repeated header, the last.
  package let headers: [String: String]
  package let body: [UInt8]

  package init(status: Int, headers: [String: String] = [:], body: [UInt8]) {
    self.status = status
    self.headers = headers
    self.body = body
  }

  /// The body as UTF-8 text, invalid bytes replaced.
  package var text: String { String(decoding: body, as: UTF8.self) }
}

/// Why no answer came.
package enum TransportError: ExplainedError, Sendable, Equatable {
  case timedOut(whileConnecting: Bool)
  case refused
  case unreachable
  case nameNotFound
  /// The certificate does not verify, or TLS failed otherwise; with the library's words.
  case tls(String)
  case bodyTooLarge(limit: Int)
  /// The connection ended before the answer was whole.
  case truncated
  case other(String)

  /// What happened, to stand after the name of the peer.
  package var explanation: String {
    switch self {
    case .timedOut(whileConnecting: true): "no connection in time"
    case .timedOut(whileConnecting: false): "no answer in time"
    case .refused: "connection refused"
    case .unreachable: "host unreachable"
    case .nameNotFound: "name not found"
    case .tls(let words): "TLS: \(words)"
    case .bodyTooLarge(let limit): "answer larger than \(limit) bytes"
    case .truncated: "connection ended before the whole answer"
    case .other(let words): words
    }
  }
}

/// Sends requests. The real one is `CurlTransport` in Host.
package protocol HTTPTransport: Sendable {
  /// - Throws: `TransportError`, or `CancellationError` at once when the task is cancelled.
  func send(_ request: HTTPRequest) async throws -> HTTPResponse
}
