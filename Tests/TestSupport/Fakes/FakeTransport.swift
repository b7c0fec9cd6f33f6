package import Base

/// A network in memory: handlers by method and start of the URL, the handler added last first.
///
/// It waits as a real transfer does, on the test clock: a request whose answer takes longer than its timeout fails with
/// `TransportError.timedOut`, a cancelled one with `CancellationError`. A request without a handler crashes the test.
package final class FakeTransport: HTTPTransport {
  /// Nil passes the request on to the handler added before.
  package typealias Handler = @Sendable (HTTPRequest) async throws -> HTTPResponse?

  private struct Rule {
    let number: Int
    let method: String?
    let prefix: String
    var times: Int
    let handler: Handler
  }

  private struct State {
    var rules: [Rule] = []
    var nextNumber = 0
    var requests: [HTTPRequest] = []
  }

  private let state = Watched(State())
  private let clock: TestClock

  package init(clock: TestClock) { self.clock = clock }

  /// Every request so far, in order.
  package var requests: [HTTPRequest] { state.value.requests }

  /// Those whose URL begins so.
  package func requests(to prefix: String) -> [HTTPRequest] { requests.filter { $0.url.hasPrefix(prefix) } }

  /// Waits until so many requests whose URL begins so were sent, and returns the last of them.
  @discardableResult
  package func request(to prefix: String, number: Int = 1) async throws -> HTTPRequest {
    try await state.wait { state in
      let found = state.requests.filter { $0.url.hasPrefix(prefix) }
      return found.count >= number ? found[number - 1] : nil
    }
  }

  /// - Parameters:
  ///   - prefix: of the URL.
  ///   - method: nil for any.
  ///   - times: how often the handler serves before the one added earlier does again.
  package func on(_ prefix: String, method: String? = nil, times: Int = .max, _ handler: @escaping Handler) {
    state.update { state in
      state.nextNumber += 1
      state.rules.insert(
        Rule(number: state.nextNumber, method: method, prefix: prefix, times: times, handler: handler), at: 0)
    }
  }

  /// Answers with a text.
  package func answer(
    _ prefix: String, method: String? = nil, status: Int = 200, _ text: String = "", headers: [String: String] = [:],
    after delay: Duration = .zero, times: Int = .max
  ) {
    on(prefix, method: method, times: times) { request in
      try await self.pause(for: delay, request)
      return HTTPResponse(status: status, headers: headers, body: Array(text.utf8))
    }
  }

  /// Fails.
  package func fail(
    _ prefix: String, method: String? = nil, _ error: TransportError, after delay: Duration = .zero,
    times: Int = .max
  ) {
    on(prefix, method: method, times: times) { request in
      try await self.pause(for: delay, request)
      throw error
    }
  }

  /// Drops what is sent, as a firewall does: no connection within the request's connect timeout.
  package func silence(_ prefix: String, method: String? = nil, times: Int = .max) {
    on(prefix, method: method, times: times) { [clock] request in
      try await clock.sleep(for: min(request.connectTimeout, request.timeout))
      throw TransportError.timedOut(whileConnecting: true)
    }
  }

  /// Holds requests, at most for their timeout, until the gate opens; then the handler added before answers.
  package func hold(_ prefix: String, method: String? = nil, times: Int = .max) -> Gate {
    let gate = Gate()
    on(prefix, method: method, times: times) { [clock] request in
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await gate.pass() }
        group.addTask {
          try await clock.sleep(for: request.timeout)
          throw TransportError.timedOut(whileConnecting: false)
        }
        defer { group.cancelAll() }
        try await group.next()
      }
      return nil
    }
    return gate
  }

  /// For handlers: takes time on the test clock; a delay of the request's timeout or more ends in the timeout.
  package func pause(for delay: Duration, _ request: HTTPRequest) async throws {
    if delay > .zero { try await clock.sleep(for: min(delay, request.timeout)) }
    if delay >= request.timeout { throw TransportError.timedOut(whileConnecting: false) }
  }

  /// Removes every handler of URLs that begin so.
  package func remove(_ prefix: String) { state.update { $0.rules.removeAll { $0.prefix.hasPrefix(prefix) } } }

  package func send(_ request: HTTPRequest) async throws -> HTTPResponse {
    try Task.checkCancellation()
    state.update { $0.requests.append(request) }
    var passed: Set<Int> = []
    while let rule = next(for: request, without: passed) {
      passed.insert(rule.number)
      guard let response = try await rule.handler(request) else { continue }
      guard response.body.count <= request.maximumBodyBytes else {
        throw TransportError.bodyTooLarge(limit: request.maximumBodyBytes)
      }
      return response
    }
    forgotten("an answer to \(request.method) \(request.url)")
  }

  /// The first rule that matches, without those that have passed the request on.
  private func next(for request: HTTPRequest, without passed: Set<Int>) -> Rule? {
    state.update { state in
      let found = state.rules.firstIndex { rule in
        rule.times > 0 && !passed.contains(rule.number) && (rule.method ?? request.method) == request.method
          && request.url.hasPrefix(rule.prefix)
      }
      guard let found else { return nil }
      if state.rules[found].times < .max { state.rules[found].times -= 1 }
      return state.rules[found]
    }
  }
}

extension HTTPRequest {
  /// The value of a header, whatever its case.
  package func header(_ name: String) -> String? {
    headers.first { $0.name.lowercased() == name.lowercased() }?.value
  }
}
