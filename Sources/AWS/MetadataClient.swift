package import Base
internal import Synchronization

/// The EC2 instance metadata service, version 2 (EC2 User Guide, "Use the Instance Metadata Service").
package final class MetadataClient: Sendable {
  private let base: String
  private let allowsVersion1: Bool
  private let isDisabled: Bool
  private let transport: any HTTPTransport
  private let clock: any Clock<Duration>
  private let log: Logger
  private let token = Mutex<Access?>(nil)

  private enum Access: Sendable {
    case token(Secret)
    /// IMDSv1, allowed explicitly and found necessary.
    case none

    var isToken: Bool { if case .token = self { true } else { false } }
  }

  private static let tokenPath = "/latest/api/token"
  /// Seconds: the longest life that the service gives.
  private static let tokenTTL = 21_600
  /// The service is on the link: a connection takes under a millisecond. A token answer that exceeds the hop limit
  /// never arrives, so each attempt from inside a container takes this long.
  private static let connectTimeout = Duration.seconds(1)
  private static let tokenTimeout = Duration.seconds(2)
  /// A service that has given a token answers, if late: a notice of two minutes is worth the wait.
  private static let timeout = Duration.seconds(5)
  /// The service may be slow or answer 5xx while the instance boots.
  private static let attempts = 3
  /// Seconds.
  private static let longestRetryAfter: Int64 = 20

  /// - Parameter environment: `AWS_EC2_METADATA_SERVICE_ENDPOINT`, `AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE`
  ///   (`IPv4` or `IPv6`) and `AWS_EC2_METADATA_DISABLED` are read.
  package init(
    environment: [String: String], allowsVersion1: Bool, transport: any HTTPTransport, clock: any Clock<Duration>,
    log: Logger
  ) {
    if let endpoint = environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"], !endpoint.isEmpty {
      base = endpoint.hasSuffix("/") ? String(endpoint.dropLast()) : endpoint
    } else if environment["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"]?.lowercased() == "ipv6" {
      base = "http://[fd00:ec2::254]"
    } else {
      base = "http://169.254.169.254"
    }
    isDisabled = environment["AWS_EC2_METADATA_DISABLED"]?.lowercased() == "true"
    self.allowsVersion1 = allowsVersion1
    self.transport = transport
    self.clock = clock
    self.log = log
  }

  /// Requests carry no token, since the service gave none.
  package var usesVersion1: Bool { token.withLock { if case .some(Access.none) = $0 { true } else { false } } }

  /// Requests the token, unless there is one: several requests at once would each request their own.
  /// - Throws: `MetadataError`.
  package func authenticate() async throws {
    if isDisabled { throw MetadataError.disabled }
    _ = try await access()
  }

  /// The text at a path such as `/latest/meta-data/mac`; nil if the service answers 404.
  /// - Throws: `MetadataError`.
  package func get(_ path: String) async throws -> String? { try await dated(path)?.text }

  /// The text at a path, and the time at which the service answered, by its own clock where it tells it.
  /// - Throws: `MetadataError`.
  func dated(_ path: String) async throws -> (text: String, at: Timestamp?)? {
    if isDisabled { throw MetadataError.disabled }
    var own: Access?
    while true {
      let access = if let own { own } else { try await access() }
      var request = HTTPRequest("GET", base + path)
      if case .token(let token) = access { request.headers.append(("X-aws-ec2-metadata-token", token.value)) }
      let response = try await send(request, what: path)
      switch response.status {
      case 200, 404:
        if let own { token.withLock { $0 = own } }
        guard response.status == 200 else { return nil }
        return (response.text, response.headers["date"].flatMap { Timestamp(httpDate: $0) })
      case 401 where own == nil && access.isToken:
        // The token has expired, or the service was restarted: request a new one, once. Other requests see it after it
        // has worked: the answer to this one then depends on no other.
        log.debug("metadata token refused; requesting a new one")
        own = try await requestToken()
      default:
        throw MetadataError.refused(endpoint: base, path: path, status: response.status)
      }
    }
  }

  private func access() async throws -> Access {
    if let known = token.withLock({ $0 }) { return known }
    let found = try await requestToken()
    token.withLock { $0 = found }
    return found
  }

  private func requestToken() async throws -> Access {
    var request = HTTPRequest("PUT", base + Self.tokenPath)
    request.headers.append(("X-aws-ec2-metadata-token-ttl-seconds", String(Self.tokenTTL)))
    do {
      let response = try await send(request, what: Self.tokenPath)
      if response.status == 200, !response.body.isEmpty { return .token(Secret(response.text)) }
      throw MetadataError.noToken(endpoint: base, status: response.status)
    } catch let error as MetadataError {
      guard allowsVersion1 else { throw error }
      log.warning("falling back to IMDSv1", ["reason": .string(error.cause ?? error.summary)])
      return .none
    }
  }

  private func send(_ template: HTTPRequest, what: String) async throws -> HTTPResponse {
    var request = template
    request.connectTimeout = Self.connectTimeout
    request.timeout = what == Self.tokenPath ? Self.tokenTimeout : Self.timeout
    request.maximumBodyBytes = 1 << 18
    let backoff = Backoff(base: .milliseconds(100), cap: .seconds(1))
    var generator = SystemRandomNumberGenerator()
    for attempt in 0... {
      let isLast = attempt == Self.attempts - 1
      do {
        let response = try await transport.send(request)
        guard response.status >= 500 || response.status == 429, !isLast else { return response }
        log.debug("metadata request failed", ["path": .string(what), "status": .integer(Int64(response.status))])
        // The service limits packets a second; it may say how long it refuses them.
        if let seconds = response.headers["retry-after"].flatMap({ Int64($0) }), seconds > 0 {
          try await clock.sleep(for: .seconds(min(seconds, Self.longestRetryAfter)))
        }
      } catch let error as TransportError {
        log.debug("metadata request failed", ["path": .string(what), "reason": .string(error.explanation)])
        if isLast {
          if what == Self.tokenPath, error == .timedOut(whileConnecting: false) {
            throw MetadataError.noTokenAnswer(url: base + what, error, attempts: Self.attempts)
          }
          throw MetadataError.noAnswer(url: base + what, error, attempts: Self.attempts)
        }
      }
      try await clock.sleep(for: backoff.fullJitter(attempt, using: &generator))
    }
    preconditionFailure("the loop above ends by return or throw")
  }
}
