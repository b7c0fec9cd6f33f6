package import Base
internal import Synchronization

/// How hard a call tries.
package struct RetrySettings: Sendable {
  /// All attempts of one call, the first included (`AWS_MAX_ATTEMPTS`).
  package var maximumAttempts = 5
  /// The SDKs' standard mode waits up to 20 s between attempts.
  package var backoff = Backoff(base: .milliseconds(100), cap: .seconds(20))
  /// Throttled calls wait longer.
  package var throttledBackoff = Backoff(base: .milliseconds(500), cap: .seconds(20))
  /// One call with all its attempts. The outer wait goes on after it where waiting can help.
  package var deadline = Duration.seconds(60)

  package init(environment: [String: String] = [:]) {
    if let attempts = environment["AWS_MAX_ATTEMPTS"].flatMap({ Int($0) }), attempts > 0 { maximumAttempts = attempts }
  }
}

/// Calls AWS services: signs, retries, renews credentials, learns the clock's offset.
package final class AWSClient: Sendable {
  package let region: String
  private let endpoints: EndpointResolver
  private let credentials: CredentialCache
  private let transport: any HTTPTransport
  private let retries: RetrySettings
  private let clock: any Clock<Duration>
  private let now: WallClock
  private let log: Logger
  private let state = Mutex(State())

  private struct State {
    /// What AWS's clock is ahead of ours.
    var offset = Duration.zero
    /// The retry quota of the SDKs' standard mode: 500 tokens, 5 a retry, 10 after a time-out; success gives one back.
    var quota = 500
  }

  /// One attempt: EC2 needs some seconds for 1,000 instances.
  private static let timeout = Duration.seconds(30)
  /// 1,000 instances with many tags and interfaces are some 10 MB.
  private static let maximumBodyBytes = 64 << 20
  private static let reachTimeout = Duration.seconds(5)
  /// EC2 and Auto Scaling accept signatures up to five minutes off; the SDKs correct from four on.
  private static let tolerableSkew = Duration.seconds(4 * 60)

  package init(
    region: String, endpoints: EndpointResolver, credentials: CredentialCache, transport: any HTTPTransport,
    retries: RetrySettings, clock: any Clock<Duration>, now: @escaping WallClock, log: Logger
  ) {
    self.region = region
    self.endpoints = endpoints
    self.credentials = credentials
    self.transport = transport
    self.retries = retries
    self.clock = clock
    self.now = now
    self.log = log
  }

  /// The same for calls whose failures are somebody else's matter: each is tried once, and costs the others nothing.
  package func withoutRetries() -> AWSClient {
    var retries = retries
    retries.maximumAttempts = 1
    return AWSClient(
      region: region, endpoints: endpoints, credentials: credentials, transport: transport, retries: retries,
      clock: clock, now: now, log: log)
  }

  /// The role whose credentials sign the calls, for hints; nil if unknown.
  package func roleName() async -> String? {
    try? await credentials.credentials().roleName
  }

  /// A call by the Query protocol.
  /// - Throws: `AWSError`, or `Failure` when there are no credentials.
  package func query(_ service: AWSService, _ action: String, _ parameters: [(String, String)]) async throws
    -> XMLDocument
  {
    let form = FormEncoding.encode([("Action", action), ("Version", service.version)] + parameters)
    return try await call(
      service, action, body: Array(form.utf8),
      headers: [("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")]
    ) { try XMLDocument(parsing: $0) }
  }

  /// A call by the JSON 1.1 protocol.
  /// - Parameter target: the prefix of `X-Amz-Target`, for example `Logs_20140328`.
  /// - Throws: `AWSError`, or `Failure` when there are no credentials.
  package func json(_ service: AWSService, target: String, _ action: String, _ body: JSONValue) async throws
    -> JSONValue
  {
    try await json(service, target: target, action, body: Array(body.compactText.utf8))
  }

  /// Shorter bodies are not worth it: the SDKs' `request_min_compression_size_bytes`.
  private static let leastCompressed = 10_240

  /// The same with a body that is JSON already.
  /// - Parameter compresses: sends long bodies by gzip, where the service takes that.
  package func json(
    _ service: AWSService, target: String, _ action: String, body: [UInt8], compresses: Bool = false
  ) async throws -> JSONValue {
    let short = compresses && body.count >= Self.leastCompressed ? Gzip.compressed(body) : nil
    return try await call(
      service, action, body: short ?? body,
      headers: [("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", "\(target).\(action)")]
        + (short == nil ? [] : [("Content-Encoding", "gzip")])
    ) { try $0.isEmpty ? [:] : JSONValue(parsing: $0) }  // an action without an output answers with nothing
  }

  /// A service that can be reached.
  package struct Reachability: Sendable {
    /// `https://…`, as every call begins.
    package let url: String
    /// What the service's clock is ahead of ours, to the second; nil if it does not say.
    package let clockOffset: Duration?
  }

  /// The name that a service is reached under, or its address.
  package func host(of service: AWSService) -> String {
    let authority =
      endpoints.url(service, region: region).split(separator: "/", omittingEmptySubsequences: true).dropFirst().first
      ?? ""
    return String(authority.prefix { $0 != ":" })
  }

  /// Asks a service for anything at all, unsigned: whatever it answers, it can be reached.
  /// - Throws: `Failure` with status 12.
  package func reach(_ service: AWSService) async throws -> Reachability {
    let url = endpoints.url(service, region: region)
    var request = HTTPRequest("GET", url + "/")
    request.timeout = Self.reachTimeout
    request.allowsProxy = true
    do {
      let response = try await transport.send(request)
      let server = response.headers["date"].flatMap { Timestamp(httpDate: $0) }
      return Reachability(url: url, clockOffset: server.map { $0 - now() })
    } catch let error as TransportError {
      throw AWSError(
        service: service, action: "GET", kind: .transient, httpStatus: nil, code: nil,
        message: "\(url): \(error.explanation)", requestID: nil,
        attempts: 1
      ).failure("reach \(url)", role: nil)
    }
  }

  private func call<Result>(
    _ service: AWSService, _ action: String, body: [UInt8], headers: [(name: String, value: String)],
    parse: ([UInt8]) throws -> Result
  ) async throws -> Result {
    let started = now()
    var generator = SystemRandomNumberGenerator()
    var renewedCredentials = false, correctedClock = false
    var attempt = 0
    while true {
      attempt += 1
      var error: AWSError
      var wait: Duration?
      let signer = try await credentials.credentials()
      do {
        let response = try await send(service, body: body, headers: headers, as: signer)
        if response.status == 200 {
          do {
            let result = try parse(response.body)
            state.withLock { $0.quota = min(500, $0.quota + 1) }
            return result
          } catch {
            throw AWSError(
              service: service, action: action, kind: .malformed, httpStatus: 200, code: nil,
              message: "the body cannot be parsed (\(error))", requestID: response.headers["x-amzn-requestid"],
              attempts: attempt)
          }
        }
        error = AWSError(response, service: service, action: action, attempts: attempt)
        wait = response.headers["retry-after"].flatMap { Int($0) }.map { min(.seconds($0), retries.backoff.cap) }
        switch error.kind {
        case .signature where !correctedClock && learnClock(from: response):
          correctedClock = true
          debug(error, "correcting for the clock")
          continue
        // EC2 says RequestExpired of expired temporary credentials, too.
        case .expiredCredentials where !renewedCredentials,
          .signature where !renewedCredentials && signer.expiration != nil:
          renewedCredentials = true
          debug(error, "renewing the credentials")
          await credentials.discard(signer)
          continue
        default: break
        }
      } catch let failure as TransportError {
        error = AWSError(
          service: service, action: action, kind: .transient, httpStatus: nil, code: nil,
          message: "\(endpoints.url(service, region: region)): \(failure.explanation)", requestID: nil,
          attempts: attempt)
        if case .tls = failure { throw error }
        if case .bodyTooLarge = failure { throw error }
      } catch let failure as AWSError {
        error = failure
      }
      let backoff = error.kind == .throttled ? retries.throttledBackoff : retries.backoff
      let pause = max(wait ?? .zero, backoff.fullJitter(attempt - 1, using: &generator))
      guard error.isRetryable, attempt < retries.maximumAttempts, now() - started + pause < retries.deadline,
        takeQuota(error.httpStatus == nil ? 10 : 5)
      else {
        debug(error, "giving up")
        throw error
      }
      debug(error, "trying again in \(pause.humanReadable)")
      try await clock.sleep(for: pause)
    }
  }

  private func send(
    _ service: AWSService, body: [UInt8], headers: [(name: String, value: String)], as signer: Credentials
  ) async throws -> HTTPResponse {
    let url = endpoints.url(service, region: region)
    var request = HTTPRequest("POST", url + "/")
    request.headers = headers
    request.body = body
    request.timeout = Self.timeout
    request.maximumBodyBytes = Self.maximumBodyBytes
    request.allowsProxy = true
    let host = url.split(separator: "/", omittingEmptySubsequences: true).dropFirst().first.map(String.init) ?? ""
    SigV4(region: region, service: service.name)
      .sign(&request, host: host, with: signer, at: now() + state.withLock { $0.offset })
    return try await transport.send(request)
  }

  /// - Returns: whether the clock was the reason: then the call is worth one more try.
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

extension AWSError {
  /// Reads an answer that is not 200: Query's `Error` or `Errors/Error`, or JSON's `__type` and `message`.
  init(_ response: HTTPResponse, service: AWSService, action: String, attempts: Int) {
    var code: String?, message: String?
    var requestID = response.headers["x-amzn-requestid"]
    if let root = try? XMLDocument(parsing: response.body).root {
      let error = root.child("Error") ?? root.child("Errors")?.child("Error")
      code = error?["Code"]
      message = error?["Message"]
      requestID = root["RequestId"] ?? root["RequestID"] ?? requestID
    } else if let body = try? JSONValue(parsing: response.body) {
      // `__type` may be qualified: `com.amazon.coral.service#ThrottlingException`.
      code = body["__type"]?.string?.split(separator: "#").last.map(String.init)
      message = body["message"]?.string ?? body["Message"]?.string
    }
    self.init(
      service: service, action: action, kind: Kind(code: code, httpStatus: response.status),
      httpStatus: response.status,
      code: code.map { String($0.prefix(100)) }, message: message.map { String($0.prefix(400)) },
      requestID: requestID.map { String($0.prefix(64)) }, attempts: attempts)
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
