package import Base
internal import Synchronization

/// How often, how long and at what intervals a call is retried.
package struct RetrySettings: Sendable {
  /// All attempts of one call, the first included (`AWS_MAX_ATTEMPTS`).
  package var maximumAttempts = 5
  /// The SDKs' standard mode waits up to 20 s between attempts.
  package var backoff = Backoff(base: .milliseconds(100), cap: .seconds(20))
  /// Throttled calls wait longer.
  package var throttledBackoff = Backoff(base: .milliseconds(500), cap: .seconds(20))
  /// One call with all its attempts. Callers that wait for AWS call again after it.
  package var deadline = Duration.seconds(60)

  package init(environment: [String: String] = [:]) {
    if let attempts = environment["AWS_MAX_ATTEMPTS"].flatMap({ Int($0) }), attempts > 0 { maximumAttempts = attempts }
  }
}

/// Calls AWS services: signs, retries, renews credentials, corrects for a wrong clock.
///
/// Deadlines and intervals are monotonic; the wall clock is used for the date of signatures and the offset of this
/// machine's clock only.
package final class AWSClient: Sendable {
  package let region: String
  private let endpoints: EndpointResolver
  private let credentials: CredentialCache
  private let transport: any HTTPTransport
  private let retries: RetrySettings
  private let clock: any Clock<Duration>
  private let uptime: MonotonicTime
  private let now: WallClock
  private let log: Logger
  private let state = Mutex(State())

  private struct State {
    /// By how much AWS's clock is ahead of this machine's.
    var offset = Duration.zero
    /// The retry quota of the SDKs' standard mode: 500 tokens, 5 a retry, 10 after a time-out; success gives one back.
    var quota = 500
  }

  /// One attempt: EC2 needs some seconds for 1,000 instances.
  private static let timeout = Duration.seconds(30)
  /// 1,000 instances with many tags and interfaces are some 10 MB.
  private static let maximumBodyBytes = 64 << 20
  private static let probeTimeout = Duration.seconds(5)
  /// EC2 and Auto Scaling accept signatures up to five minutes off; the SDKs correct from four on.
  private static let tolerableSkew = Duration.seconds(4 * 60)

  package init(
    region: String, endpoints: EndpointResolver, credentials: CredentialCache, transport: any HTTPTransport,
    retries: RetrySettings, clock: any Clock<Duration>, uptime: @escaping MonotonicTime, now: @escaping WallClock,
    log: Logger
  ) {
    self.region = region
    self.endpoints = endpoints
    self.credentials = credentials
    self.transport = transport
    self.retries = retries
    self.clock = clock
    self.uptime = uptime
    self.now = now
    self.log = log
  }

  /// The same for callers that retry by themselves: each call is attempted once, with a retry quota of its own.
  package func withoutRetries() -> AWSClient {
    var retries = retries
    retries.maximumAttempts = 1
    return AWSClient(
      region: region, endpoints: endpoints, credentials: credentials, transport: transport, retries: retries,
      clock: clock, uptime: uptime, now: now, log: log)
  }

  /// A call by the Query protocol.
  /// - Parameter read: creates the result from the answer's root element. An error that it throws means a malformed
  ///   answer.
  /// - Throws: `AWSError`, and `CredentialError` or `MetadataError` when there are no credentials.
  package func query<Result>(
    _ action: AWSAction, _ parameters: [(String, String)], read: (XMLElement) throws -> Result
  ) async throws -> Result {
    let form = FormEncoding.encode([("Action", action.name), ("Version", action.service.version)] + parameters)
    return try await call(
      action, body: Array(form.utf8), headers: [("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")]
    ) { try read(XMLDocument(parsing: $0).root) }
  }

  /// A call by the JSON 1.1 protocol.
  /// - Parameter read: creates the result from the answer. An error that it throws means a malformed answer.
  /// - Throws: `AWSError`, and `CredentialError` or `MetadataError` when there are no credentials.
  package func json<Result>(_ action: AWSAction, _ body: JSONValue, read: (JSONValue) throws -> Result) async throws
    -> Result
  {
    try await json(action, body: Array(body.compactText.utf8), read: read)
  }

  /// Shorter bodies are sent as they are: the SDKs' `request_min_compression_size_bytes`.
  private static let leastCompressed = 10_240

  /// The same with a body that is JSON already.
  /// - Parameter compresses: sends long bodies by gzip, where the service accepts that.
  package func json<Result>(
    _ action: AWSAction, body: [UInt8], compresses: Bool = false, read: (JSONValue) throws -> Result
  ) async throws -> Result {
    let short = compresses && body.count >= Self.leastCompressed ? Gzip.compressed(body) : nil
    return try await call(
      action, body: short ?? body,
      headers: [
        ("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", "\(action.service.target).\(action.name)"),
      ] + (short == nil ? [] : [("Content-Encoding", "gzip")])
    ) { try read($0.isEmpty ? [:] : JSONValue(parsing: $0)) }  // an action without an output has an empty answer
  }

  /// `https://…`, without a trailing slash: the beginning of every call of a service.
  package func url(of service: AWSService) -> String { endpoints.url(service, region: region) }

  /// The name or address of a service's endpoint.
  package func host(of service: AWSService) -> String { String(Self.authority(url(of: service)).prefix { $0 != ":" }) }

  /// Host and port; empty for an `AWS_ENDPOINT_URL` without them, which the transport refuses.
  private static func authority(_ url: String) -> String {
    url.split(separator: "/", omittingEmptySubsequences: true).dropFirst().first.map(String.init) ?? ""
  }

  /// Sends an unsigned request to a service: any answer proves that it is reachable.
  /// - Returns: by how much the service's clock is ahead of this machine's, to the second; nil if the answer has no
  ///   date.
  /// - Throws: `AWSError` without an action.
  package func probe(_ service: AWSService) async throws -> Duration? {
    let url = url(of: service)
    var request = HTTPRequest("GET", url + "/")
    request.timeout = Self.probeTimeout
    request.allowsProxy = true
    do {
      let response = try await transport.send(request)
      return response.headers["date"].flatMap { Timestamp(httpDate: $0) }.map { $0 - now() }
    } catch let error as TransportError {
      throw AWSError.noAnswer(service, nil, error, url: url, role: nil, attempts: 1)
    }
  }

  private func call<Result>(
    _ action: AWSAction, body: [UInt8], headers: [(name: String, value: String)], parse: ([UInt8]) throws -> Result
  ) async throws -> Result {
    let start = uptime()
    var generator = SystemRandomNumberGenerator()
    var renewedCredentials = false, correctedClock = false
    var attempt = 0
    while true {
      attempt += 1
      var error: AWSError
      var wait: Duration?
      let signer = try await credentials.credentials()
      do {
        let response = try await send(action.service, body: body, headers: headers, as: signer)
        if response.status == 200 {
          do {
            let result = try parse(response.body)
            state.withLock { $0.quota = min(500, $0.quota + 1) }
            return result
          } catch {
            throw AWSError.malformed(
              action, error.explained, requestID: response.headers["x-amzn-requestid"], role: signer.roleName,
              attempts: attempt)
          }
        }
        error = AWSError(response, action, signer: signer, attempts: attempt)
        wait = response.headers["retry-after"].flatMap { Int64($0) }.map { min(.seconds($0), retries.backoff.cap) }
        switch error.kind {
        case .signature where !correctedClock && learnClock(from: response):
          correctedClock = true
          debug(error, "correcting for the clock")
          continue
        // EC2 answers RequestExpired to expired temporary credentials, too.
        case .expiredCredentials where !renewedCredentials,
          .signature where !renewedCredentials && signer.expiration != nil:
          renewedCredentials = true
          debug(error, "renewing the credentials")
          await credentials.discard(signer)
          continue
        default: break
        }
      } catch let failure as TransportError {
        error = AWSError.noAnswer(
          action.service, action, failure, url: url(of: action.service), role: signer.roleName, attempts: attempt)
        if case .tls = failure { throw error }
        if case .bodyTooLarge = failure { throw error }
      } catch let failure as AWSError {
        error = failure
      }
      let backoff = error.kind == .throttled ? retries.throttledBackoff : retries.backoff
      let pause = max(wait ?? .zero, backoff.fullJitter(attempt - 1, using: &generator))
      guard error.isRetryable, attempt < retries.maximumAttempts, uptime() - start + pause < retries.deadline,
        takeQuota(error.httpStatus == nil ? 10 : 5)
      else {
        debug(error, "no further attempt")
        throw error
      }
      debug(error, "retrying in \(pause.humanReadable)")
      try await clock.sleep(for: pause)
    }
  }

  private func send(
    _ service: AWSService, body: [UInt8], headers: [(name: String, value: String)], as signer: Credentials
  ) async throws -> HTTPResponse {
    let url = url(of: service)
    var request = HTTPRequest("POST", url + "/")
    request.headers = headers
    request.body = body
    request.timeout = Self.timeout
    request.maximumBodyBytes = Self.maximumBodyBytes
    request.allowsProxy = true
    SigV4(region: region, service: service.name)
      .sign(&request, host: Self.authority(url), with: signer, at: now() + state.withLock { $0.offset })
    return try await transport.send(request)
  }

  /// - Returns: whether the clock was the cause: then the call is retried once.
  private func learnClock(from response: HTTPResponse) -> Bool {
    guard let server = response.headers["date"].flatMap({ Timestamp(httpDate: $0) }) else { return false }
    let offset = server - now()
    return state.withLock { state in
      let error = offset - state.offset
      guard error > Self.tolerableSkew || error < .zero - Self.tolerableSkew else { return false }
      state.offset = offset
      log.warning(
        "this machine's clock is wrong; correcting the signatures for it",
        ["offset": .string("\(offset.components.seconds) s")])
      return true
    }
  }

  private func takeQuota(_ cost: Int) -> Bool {
    state.withLock { state in
      guard state.quota >= cost else { return false }
      state.quota -= cost
      return true
    }
  }

  private func debug(_ error: AWSError, _ next: String) {
    log.debug("AWS call failed", ["reason": .string(error.explanation), "next": .string(next)])
  }
}

/// `application/x-www-form-urlencoded`, a blank as `+`.
enum FormEncoding {
  static func encode(_ parameters: [(String, String)]) -> String {
    parameters.map { "\(encode($0.0))=\(encode($0.1))" }.joined(separator: "&")
  }

  private static func encode(_ text: String) -> String {
    let hex = Array("0123456789ABCDEF".utf8)
    var bytes: [UInt8] = []
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"),
        UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "~"):
        bytes.append(byte)
      case UInt8(ascii: " "): bytes.append(UInt8(ascii: "+"))
      default: bytes += [UInt8(ascii: "%"), hex[Int(byte >> 4)], hex[Int(byte & 15)]]
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
