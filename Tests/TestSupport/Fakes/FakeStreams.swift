package import Base

/// TCP ports in memory that answer bytes. A port that was not set up crashes the test.
package final class FakeStreams: StreamTransport {
  /// Throws `StreamError`.
  package typealias Handler = @Sendable (StreamRequest) async throws -> [UInt8]

  private struct State {
    var handlers: [String: Handler] = [:]
    var requests: [StreamRequest] = []
  }

  private let state = Watched(State())
  private let clock: TestClock

  package init(clock: TestClock) { self.clock = clock }

  /// Every request so far, in order.
  package var requests: [StreamRequest] { state.value.requests }

  /// - Parameter port: `10.0.1.5:8300`, or `10.0.9.` for every address and port that begins so.
  package func on(_ port: String, _ handler: @escaping Handler) { state.update { $0.handlers[port] = handler } }

  package func answer(_ port: String, _ bytes: [UInt8]) { on(port) { _ in bytes } }

  /// A firewall that drops packets takes the whole timeout, and so does a peer that does not answer.
  package func fail(_ port: String, _ error: StreamError) {
    on(port) { [clock] request in
      if error == .silent || error == .noAnswer { try await clock.sleep(for: request.timeout) }
      throw error
    }
  }

  /// Holds requests until the gate opens; then the handler set before answers.
  package func hold(_ port: String) -> Gate {
    let gate = Gate()
    let before = state.value.handlers[port]
    on(port) { request in
      try await gate.pass()
      guard let before else { forgotten("an answer of \(port)") }
      return try await before(request)
    }
    return gate
  }

  package func exchange(_ request: StreamRequest) async throws -> [UInt8] {
    try Task.checkCancellation()
    let port = "\(request.address):\(request.port)"
    let handler = state.update { state in
      state.requests.append(request)
      return state.handlers[port] ?? state.handlers.first { $0.key.hasSuffix(".") && port.hasPrefix($0.key) }?.value
    }
    guard let handler else { forgotten("an exchange with \(port)") }
    let answer = try await handler(request)
    guard answer.count <= request.maximumBytes else { throw StreamError.tooLarge(limit: request.maximumBytes) }
    // As a socket does: a peer that has sent less than the whole answer ends the connection.
    guard request.isWhole(answer) else { throw StreamError.closed(after: answer.count) }
    return answer
  }
}
