import Synchronization
import TestSupport
import Testing

@testable import AWS
@testable import Base

@Suite(.timeLimit(.minutes(5))) struct AWSClientTests {
  /// Counts its calls.
  final class Counting: CredentialProvider {
    let count = Mutex(0)
    func credentials() throws -> Credentials? {
      let number = count.withLock { count in
        count += 1
        return count
      }
      return Credentials(
        accessKeyID: "id\(number)", secretAccessKey: Secret("secret"), source: "test", roleName: "web-node")
    }
  }

  struct Bench {
    let client: AWSClient
    let transport: ScriptedTransport
    let clock: RecordingClock
    let sink = RecordingSink()

    init(_ answers: [ScriptedTransport.Answer], clock: RecordingClock = RecordingClock(), attempts: Int = 5) {
      self.clock = clock
      transport = ScriptedTransport(answers)
      client = AWSClient(
        region: "eu-west-1", endpoints: EndpointResolver(environment: [:]),
        credentials: CredentialCache(providers: [Counting()], now: clock.wall),
        transport: transport, retries: RetrySettings(environment: ["AWS_MAX_ATTEMPTS": "\(attempts)"]), clock: clock,
        uptime: clock.uptime, now: clock.wall, log: Logger(level: .debug, sink: sink))
    }

    func describe() async throws { try await client.query(.describeInstances, []) { _ in } }
  }

  static let empty = "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>"
  static func error(_ code: String) -> String {
    "<Response><Errors><Error><Code>\(code)</Code><Message>m</Message></Error></Errors>"
      + "<RequestID>r-1</RequestID></Response>"
  }

  @Test(arguments: [
    "RequestLimitExceeded", "Throttling", "ThrottlingException", "SlowDown", "TooManyRequestsException",
  ])
  func `throttling codes are retried, with a growing wait`(_ code: String) async throws {
    let bench = Bench([answer(400, Self.error(code)), answer(503, Self.error(code)), answer(200, Self.empty)])
    try await bench.describe()
    #expect(bench.clock.sleeps.count == 2)
    #expect(bench.sink.lines.filter { $0.hasPrefix("debug AWS call failed") && $0.contains(code) }.count == 2)
  }

  @Test func `5xx, broken connections and malformed bodies are retried, up to the number of attempts`() async {
    let bench = Bench([
      answer(500), failure(.truncated), answer(200, "<html>"), answer(502), failure(.timedOut(whileConnecting: true)),
    ])
    await #expect { try await bench.describe() } throws: {
      guard let error = $0 as? AWSError else { return false }
      return error.kind == .transient && error.attempts == 5 && error.httpStatus == nil
    }
    #expect(bench.transport.requests.count == 5)
  }

  @Test func `a retry waits at least for Retry-After`() async throws {
    let bench = Bench([answer(503, "", headers: ["retry-after": "7"]), answer(200, Self.empty)])
    try await bench.describe()
    #expect(bench.clock.sleeps[0] >= .seconds(7))
  }

  @Test func `the retry quota ends a storm before the attempts do`() async {
    // 500 tokens, 10 a time-out: at most 50 retries over all calls.
    let bench = Bench(Array(repeating: failure(.timedOut(whileConnecting: true)), count: 200), attempts: 10)
    for _ in 0..<10 { try? await bench.describe() }
    #expect(bench.transport.requests.count == 60)
  }

  /// Each attempt takes 25 s, and the wall clock is set while it runs.
  private func attempts(settingWallBy offset: Duration) async -> Int {
    let clock = RecordingClock()
    let slow: ScriptedTransport.Answer = { _ in
      clock.advance(by: .seconds(25), wall: offset)
      return HTTPResponse(status: 500, body: [])
    }
    let bench = Bench(Array(repeating: slow, count: 20), clock: clock, attempts: 20)
    try? await bench.describe()
    return bench.transport.requests.count
  }

  @Test func `the total deadline ends a call`() async {
    #expect(await attempts(settingWallBy: .seconds(25)) == 3)
  }

  /// With the wall clock, one set back kept a call retrying for an hour longer, one set forward ended it at once.
  @Test(arguments: [-3600, 3600])
  func `the deadline does not depend on the wall clock`(_ seconds: Int) async {
    #expect(await attempts(settingWallBy: .seconds(seconds)) == 3)
  }

  @Test func `a wall clock that is set while a call runs does not lose the call`() async throws {
    let clock = TestClock(start: Timestamp(iso8601: "2026-01-02T03:04:05Z")!)
    let transport = ScriptedTransport([
      { _ in
        clock.setWall(by: .seconds(-3600))
        return HTTPResponse(status: 503, body: [])
      }, answer(200, Self.empty),
    ])
    let client = AWSClient(
      region: "eu-west-1", endpoints: EndpointResolver(environment: [:]),
      credentials: CredentialCache(providers: [Counting()], now: clock.wall), transport: transport,
      retries: RetrySettings(), clock: clock, uptime: clock.uptime, now: clock.wall,
      log: Logger(level: .error, sink: SilentSink()))
    try await client.query(.describeInstances, []) { _ in }
    let dates = transport.requests.map { $0.headers.first { $0.name == "X-Amz-Date" }?.value }
    #expect(dates == ["20260102T030405Z", "20260102T020405Z"])
  }

  @Test func `expired credentials are renewed once and the call goes on`() async throws {
    let bench = Bench([
      answer(403, Self.error("ExpiredToken")), answer(200, Self.empty), answer(403, Self.error("ExpiredToken")),
      answer(403, Self.error("ExpiredToken")),
    ])
    try await bench.describe()
    #expect(bench.transport.requests[1].headers.contains { $0.value.contains("Credential=id2/") })
    #expect(bench.clock.sleeps.isEmpty)
    await #expect { try await bench.describe() } throws: {
      ($0 as? AWSError)?.kind == .expiredCredentials
    }
  }

  @Test func `a wrong clock is learned from the Date header, and later calls use it at once`() async throws {
    let skewed = answer(403, Self.error("AuthFailure"), headers: ["date": "Fri, 02 Jan 2026 03:34:05 GMT"])
    let bench = Bench([skewed, answer(200, Self.empty), answer(200, Self.empty)])
    try await bench.describe()
    try await bench.describe()
    let dates = bench.transport.requests.map { $0.headers.first { $0.name == "X-Amz-Date" }?.value }
    #expect(dates == ["20260102T030405Z", "20260102T033405Z", "20260102T033405Z"])
    #expect(bench.sink.lines.contains { $0.hasPrefix("warning this machine's clock is wrong") })
  }

  @Test func `a bad signature with a right clock is not retried`() async {
    let bench = Bench([
      answer(403, Self.error("SignatureDoesNotMatch"), headers: ["date": "Fri, 02 Jan 2026 03:04:06 GMT"])
    ])
    await #expect { try await bench.describe() } throws: {
      ($0 as? AWSError)?.kind == .signature
    }
  }

  private func error(_ bench: Bench) async -> AWSError? {
    do {
      try await bench.describe()
    } catch let error as AWSError {
      return error
    } catch {}
    Issue.record("the call should have thrown an AWSError")
    return nil
  }

  @Test func `a denied call names the IAM action and the role`() async throws {
    let error = try #require(await error(Bench([answer(403, Self.error("UnauthorizedOperation"))])))
    #expect(error.summary("describe the group") == "cannot describe the group: access denied")
    #expect(error.explanation == "EC2 DescribeInstances answered UnauthorizedOperation (HTTP 403, request r-1): m")
    #expect(error.hint == "allow ec2:DescribeInstances for role web-node")
    #expect(
      error.explanation("describe the group")
        == "cannot describe the group: access denied: EC2 DescribeInstances answered UnauthorizedOperation "
        + "(HTTP 403, request r-1): m; hint: allow ec2:DescribeInstances for role web-node")
  }

  /// A proxy's page instead of an answer: the message was "answered an error", without the page.
  @Test func `an error that is not AWS's is quoted`() async throws {
    let page = "<html>\n<body>  Blocked by\tpolicy<br></body></html>"
    let error = try #require(await error(Bench([answer(403, page)])))
    #expect(
      error.explanation
        == "EC2 DescribeInstances answered HTTP 403: not an error of AWS: "
        + "<html> <body> Blocked by policy<br></body></html>")
    let other = try #require(await self.error(Bench([answer(502, "{}")], attempts: 1)))
    #expect(other.explanation == "EC2 DescribeInstances answered HTTP 502: not an error of AWS: {}")
    let empty = try #require(await self.error(Bench([answer(418)])))
    #expect(empty.explanation == "EC2 DescribeInstances answered HTTP 418")
  }

  /// SignatureDoesNotMatch quotes the canonical request, with the session token among its headers.
  @Test func `no secret that AWS quotes is in an error`() async throws {
    let credentials = Credentials(
      accessKeyID: "AKID", secretAccessKey: Secret("the/secret/key"), sessionToken: Secret("the/session/token"),
      source: "test")
    let quoted = "The Canonical String should have been 'x-amz-security-token:the/session/token' the/secret/key"
    for (action, body) in [
      (AWSAction.describeInstances, "<R><Error><Code>C</Code><Message>\(quoted)</Message></Error></R>"),
      (.putLogEvents, #"{"__type":"C","message":"\#(quoted)"}"#), (.describeInstances, quoted),
    ] {
      let error = AWSError(
        HTTPResponse(status: 403, body: Array(body.utf8)), action, signer: credentials, attempts: 1)
      #expect(error.message?.contains("x-amz-security-token:(redacted)' (redacted)") == true)
    }
    for padding in [190, 390] {
      let body = String(repeating: "x", count: padding) + "the/session/token"
      for text in [body, "<R><Error><Code>C</Code><Message>\(body)</Message></Error></R>"] {
        let response = HTTPResponse(status: 403, body: Array(text.utf8))
        let error = AWSError(response, .describeInstances, signer: credentials, attempts: 1)
        #expect(error.message?.contains("the/") == false)
      }
    }
  }

  @Test func `JSON calls carry their target, and JSON errors are understood`() async throws {
    let bench = Bench([
      answer(200, #"{"logStreams":[]}"#), answer(400, #"{"__type":"com.amazon#ThrottlingException","message":"slow"}"#),
      answer(200, "{}"),
    ])
    let result = try await bench.client.json(.describeLogStreams, ["limit": 5]) { $0 }
    #expect(result == ["logStreams": []])
    let headers = bench.transport.requests[0].headers.map { "\($0.name): \($0.value)" }
    #expect(headers.contains("X-Amz-Target: Logs_20140328.DescribeLogStreams"))
    try await bench.client.json(.describeLogStreams, [:]) { _ in }
    #expect(bench.clock.sleeps.count == 1)
    let gateway = Bench([answer(403, Self.error("AccessDenied"))])
    await #expect {
      try await gateway.client.json(.describeLogStreams, [:]) { _ in }
    } throws: { ($0 as? AWSError)?.hint == "allow logs:DescribeLogStreams for role web-node" }
  }

  /// A `Retry-After` comes from the network: neither sign nor size may trap, wait backwards or wait for ever.
  @Test(arguments: ["-9223372036854775808", "9223372036854775807", "99999999999999999999", "-1", "1.5", "soon"])
  func `a hostile Retry-After waits at most the cap`(_ value: String) async throws {
    let bench = Bench([answer(503, "", headers: ["retry-after": value]), answer(200, Self.empty)])
    try await bench.describe()
    #expect(.zero <= bench.clock.sleeps[0] && bench.clock.sleeps[0] <= .seconds(20))
  }

  @Test func `a service that does not answer a probe is named, without an action`() async throws {
    let bench = Bench([failure(.refused), answer(403, "", headers: ["date": "Fri, 02 Jan 2026 03:04:06 GMT"])])
    await #expect {
      _ = try await bench.client.probe(.ec2)
    } throws: {
      ($0 as? AWSError)?.explanation("reach EC2")
        == "cannot reach EC2: no answer: EC2 got no answer: https://ec2.eu-west-1.amazonaws.com: connection refused; "
        + "hint: check the route to AWS: a NAT gateway or a VPC endpoint for ec2, the security groups, DNS"
    }
    #expect(try await bench.client.probe(.ec2) == .seconds(1))
  }

  @Test func `credentials that are missing are the caller's error, and no call is made`() async {
    let transport = ScriptedTransport([]), clock = RecordingClock()
    let client = AWSClient(
      region: "eu-west-1", endpoints: EndpointResolver(environment: [:]),
      credentials: CredentialCache(providers: [], now: clock.wall), transport: transport, retries: RetrySettings(),
      clock: clock, uptime: clock.uptime, now: clock.wall, log: Logger(level: .error, sink: SilentSink()))
    await #expect(throws: CredentialError.noneFound) { try await client.query(.describeInstances, []) { _ in } }
    #expect(transport.requests.isEmpty)
  }
}
