import Synchronization
import Testing

@testable import AWS
@testable import Base

@Suite struct AWSClientTests {
  /// Counts how often it is asked.
  final class Counting: CredentialProvider {
    let count = Mutex(0)
    func credentials() throws -> Credentials? {
      let number = count.withLock { count in
        count += 1
        return count
      }
      return Credentials(accessKeyID: "id\(number)", secretAccessKey: "secret", source: "test", roleName: "web-node")
    }
  }

  struct Bench {
    let client: AWSClient
    let transport: ScriptedTransport
    let clock = RecordingClock()
    let sink = RecordingSink()

    init(
      _ answers: [ScriptedTransport.Answer], now: @escaping WallClock = { Timestamp(iso8601: "2026-01-02T03:04:05Z")! },
      attempts: Int = 5
    ) {
      transport = ScriptedTransport(answers)
      client = AWSClient(
        region: "eu-west-1", endpoints: EndpointResolver(environment: [:]),
        credentials: CredentialCache(providers: [Counting()], now: now),
        transport: transport, retries: RetrySettings(environment: ["AWS_MAX_ATTEMPTS": "\(attempts)"]), clock: clock,
        now: now,
        log: Logger(level: .debug, sink: sink))
    }
  }

  static let empty = "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>"
  static func error(_ code: String) -> String {
    "<Response><Errors><Error><Code>\(code)</Code><Message>m</Message></Error></Errors><RequestID>r-1</RequestID></Response>"
  }

  @Test(arguments: [
    "RequestLimitExceeded", "Throttling", "ThrottlingException", "SlowDown", "TooManyRequestsException",
  ])
  func `throttling codes are tried again, with a growing wait`(_ code: String) async throws {
    let bench = Bench([answer(400, Self.error(code)), answer(503, Self.error(code)), answer(200, Self.empty)])
    _ = try await bench.client.query(.ec2, "DescribeInstances", [])
    #expect(bench.clock.sleeps.count == 2)
    #expect(bench.sink.lines.filter { $0.hasPrefix("debug AWS call failed") && $0.contains(code) }.count == 2)
  }

  @Test func `5xx, broken connections and bodies that make no sense are tried again, so many times`() async {
    let bench = Bench([
      answer(500), failure(.truncated), answer(200, "<html>"), answer(502), failure(.timedOut(whileConnecting: true)),
    ])
    await #expect { _ = try await bench.client.query(.ec2, "DescribeInstances", []) } throws: {
      guard let error = $0 as? AWSError else { return false }
      return error.kind == .transient && error.attempts == 5 && error.httpStatus == nil
    }
    #expect(bench.transport.requests.count == 5)
  }

  @Test func `Retry-After is kept to`() async throws {
    let bench = Bench([answer(503, "", headers: ["retry-after": "7"]), answer(200, Self.empty)])
    _ = try await bench.client.query(.ec2, "DescribeInstances", [])
    #expect(bench.clock.sleeps[0] >= .seconds(7))
  }

  @Test func `the retry quota ends a storm before the attempts do`() async {
    // 500 tokens, 10 a time-out: at most 50 retries over all calls.
    let bench = Bench(Array(repeating: failure(.timedOut(whileConnecting: true)), count: 200), attempts: 10)
    for _ in 0..<10 { _ = try? await bench.client.query(.ec2, "DescribeInstances", []) }
    #expect(bench.transport.requests.count == 60)
  }

  @Test func `the total deadline ends a call`() async {
    let time = Mutex(Timestamp(seconds: 1_767_323_045))
    let bench = Bench(
      Array(
        repeating: { _ in
          time.withLock { $0 = $0 + .seconds(25) }
          return HTTPResponse(status: 500, body: [])
        }, count: 20), now: { time.withLock { $0 } }, attempts: 20)
    _ = try? await bench.client.query(.ec2, "DescribeInstances", [])
    #expect(bench.transport.requests.count == 3)
  }

  @Test func `expired credentials are renewed once and the call goes on`() async throws {
    let bench = Bench([
      answer(403, Self.error("ExpiredToken")), answer(200, Self.empty), answer(403, Self.error("ExpiredToken")),
      answer(403, Self.error("ExpiredToken")),
    ])
    _ = try await bench.client.query(.ec2, "DescribeInstances", [])
    #expect(bench.transport.requests[1].headers.contains { $0.value.contains("Credential=id2/") })
    #expect(bench.clock.sleeps.isEmpty)
    await #expect { _ = try await bench.client.query(.ec2, "DescribeInstances", []) } throws: {
      ($0 as? AWSError)?.kind == .expiredCredentials
    }
  }

  @Test func `a wrong clock is learned from the Date header, and later calls use it at once`() async throws {
    let skewed = answer(403, Self.error("AuthFailure"), headers: ["date": "Fri, 02 Jan 2026 03:34:05 GMT"])
    let bench = Bench([skewed, answer(200, Self.empty), answer(200, Self.empty)])
    _ = try await bench.client.query(.ec2, "DescribeInstances", [])
    _ = try await bench.client.query(.ec2, "DescribeInstances", [])
    let dates = bench.transport.requests.map { $0.headers.first { $0.name == "X-Amz-Date" }?.value }
    #expect(dates == ["20260102T030405Z", "20260102T033405Z", "20260102T033405Z"])
    #expect(bench.sink.lines.contains { $0.hasPrefix("warning this machine's clock is wrong") })
  }

  @Test func `a bad signature with a right clock is no reason to try again`() async {
    let bench = Bench([
      answer(403, Self.error("SignatureDoesNotMatch"), headers: ["date": "Fri, 02 Jan 2026 03:04:06 GMT"])
    ])
    await #expect { _ = try await bench.client.query(.ec2, "DescribeInstances", []) } throws: {
      ($0 as? AWSError)?.kind == .signature
    }
  }

  @Test func `a denied call names the IAM action and the role`() async throws {
    let bench = Bench([answer(403, Self.error("UnauthorizedOperation"))])
    do {
      _ = try await bench.client.query(.ec2, "DescribeInstances", [])
      Issue.record("it should have thrown")
    } catch let error as AWSError {
      let failure = error.failure("look at the group", role: "web-node")
      #expect(
        failure.lines == [
          "cannot look at the group: access denied",
          "  EC2 DescribeInstances answered UnauthorizedOperation (HTTP 403, request r-1): m",
          "  hint: allow ec2:DescribeInstances for role web-node",
        ])
    }
  }

  @Test func `JSON calls carry their target, and JSON errors are understood`() async throws {
    let logs = AWSService(
      title: "CloudWatch Logs", name: "logs", environmentSuffix: "CLOUDWATCH_LOGS", version: "2014-03-28")
    let bench = Bench([
      answer(200, #"{"logGroups":[]}"#), answer(400, #"{"__type":"com.amazon#ThrottlingException","message":"slow"}"#),
      answer(200, "{}"),
    ])
    let result = try await bench.client.json(logs, target: "Logs_20140328", "DescribeLogGroups", ["limit": 5])
    #expect(result["logGroups"] == .array([]))
    #expect(
      bench.transport.requests[0].headers.contains {
        $0.name == "X-Amz-Target" && $0.value == "Logs_20140328.DescribeLogGroups"
      })
    _ = try await bench.client.json(logs, target: "Logs_20140328", "DescribeLogGroups", [:])
    #expect(bench.clock.sleeps.count == 1)
  }

  @Test func `pages are followed, an empty one with a successor, too`() async throws {
    func page(_ ids: [String], _ token: String?) -> String {
      "<DescribeInstancesResponse><reservationSet>"
        + ids.map {
          "<item><instancesSet><item><instanceId>\($0)</instanceId><instanceState><name>running</name></instanceState><privateIpAddress>10.0.1.9</privateIpAddress></item></instancesSet></item>"
        }.joined()
        + "</reservationSet>\(token.map { "<nextToken>\($0)</nextToken>" } ?? "")</DescribeInstancesResponse>"
    }
    let bench = Bench([answer(200, page(["i-1"], "t1")), answer(200, page([], "t2")), answer(200, page(["i-2"], nil))])
    let instances = try await EC2(client: bench.client).describeInstances([.init("vpc-id", ["vpc-1"])])
    #expect(instances.map(\.instanceID) == ["i-1", "i-2"])
    #expect(instances[0].privateIP == IPv4Address("10.0.1.9"))
    #expect(String(decoding: bench.transport.requests[2].body, as: UTF8.self).contains("NextToken=t2"))
  }

  @Test func `well-formed XML of another shape is no empty group`() async {
    let bench = Bench([answer(200, "<html/>"), answer(200, "<html/>")])
    await #expect(throws: AWSError.self) {
      _ = try await EC2(client: bench.client).describeInstances([.init("vpc-id", ["v"])])
    }
    await #expect(throws: AWSError.self) {
      _ = try await AutoScaling(client: bench.client).describeAutoScalingGroups(["g"])
    }
  }
}
