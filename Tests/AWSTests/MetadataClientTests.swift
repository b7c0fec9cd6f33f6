import Synchronization
import Testing

@testable import AWS
@testable import Base

@Suite(.timeLimit(.minutes(5))) struct MetadataClientTests {
  private func client(
    _ transport: ScriptedTransport, version1: Bool = false, environment: [String: String] = [:],
    sink: any LogSink = SilentSink()
  )
    -> MetadataClient
  {
    MetadataClient(
      environment: environment, allowsVersion1: version1, transport: transport, clock: RecordingClock(),
      log: Logger(level: .debug, sink: sink))
  }

  @Test func `a token is requested once and sent with every request`() async throws {
    let transport = ScriptedTransport([answer(200, "token"), answer(200, "a"), answer(404)])
    let client = client(transport)
    #expect(try await client.get("/latest/meta-data/mac") == "a")
    #expect(try await client.get("/latest/absent") == nil)
    #expect(transport.requests.map(\.method) == ["PUT", "GET", "GET"])
    #expect(transport.requests[0].headers[0].value == "21600")
    #expect(transport.requests[2].headers[0].value == "token")
    #expect(
      transport.requests.allSatisfy {
        $0.url.hasPrefix("http://169.254.169.254/") && !$0.allowsProxy && $0.timeout <= .seconds(5)
      })
    // An answer that exceeds the hop limit never arrives.
    #expect(transport.requests[0].timeout == .seconds(2))
  }

  @Test func `a refused token is renewed once`() async throws {
    let transport = ScriptedTransport([
      answer(200, "old"), answer(401), answer(200, "new"), answer(200, "x"), answer(401), answer(200, "n"), answer(401),
    ])
    let client = client(transport)
    #expect(try await client.get("/a") == "x")
    #expect(transport.requests[3].headers[0].value == "new")
    let refused = MetadataError.refused(endpoint: "http://169.254.169.254", path: "/b", status: 401)
    await #expect(throws: refused) { try await client.get("/b") }
  }

  @Test func `requests at the same time whose tokens end with their first use are each answered`() async throws {
    let service = SingleUseTokens()
    let client = MetadataClient(
      environment: [:], allowsVersion1: false, transport: service, clock: RecordingClock(),
      log: Logger(level: .error, sink: SilentSink()))
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<20 {
        group.addTask {
          for number in 0..<20 {
            let text = try await client.get("/latest/\(number)")
            #expect(text == "text")
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(service.refusals > 0)
  }

  /// Guards against scripts that hang in a container: the token request is taken, its answer exceeds the hop limit.
  @Test func `a token request that hangs names the hop limit`() async {
    let hanging = Array(repeating: failure(.timedOut(whileConnecting: false)), count: 3)
    let expected = MetadataError.noTokenAnswer(
      url: "http://169.254.169.254/latest/api/token", .timedOut(whileConnecting: false), attempts: 3)
    await #expect(throws: expected) { try await client(ScriptedTransport(hanging)).get("/a") }
    #expect(expected.hint?.contains("HttpPutResponseHopLimit") == true)
    let unreachable = Array(repeating: failure(.unreachable), count: 3)
    let noAnswer = MetadataError.noAnswer(
      url: "http://169.254.169.254/latest/api/token", .unreachable, attempts: 3)
    await #expect(throws: noAnswer) { try await client(ScriptedTransport(unreachable)).get("/a") }
  }

  @Test func `version 1 is used only when it is allowed, and that is logged`() async throws {
    let noToken = MetadataError.noToken(endpoint: "http://169.254.169.254", status: 404)
    await #expect(throws: noToken) { try await client(ScriptedTransport([answer(404)])).get("/a") }
    let transport = ScriptedTransport([answer(404), answer(200, "x")])
    let sink = RecordingSink()
    #expect(try await client(transport, version1: true, sink: sink).get("/a") == "x")
    #expect(transport.requests[1].headers.isEmpty)
    #expect(
      sink.lines == [
        #"warning falling back to IMDSv1 reason="http://169.254.169.254 answered HTTP 404""#
      ])
  }

  @Test func `slow starts and 5xx are retried`() async throws {
    let transport = ScriptedTransport([answer(503), failure(.refused), answer(200, "t"), answer(200, "x")])
    #expect(try await client(transport).get("/a") == "x")
  }

  @Test func `the IPv6 endpoint, an override and the off switch`() async throws {
    let six = ScriptedTransport([answer(200, "t"), answer(200, "x")])
    _ = try await client(six, environment: ["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"]).get("/a")
    #expect(six.requests[0].url == "http://[fd00:ec2::254]/latest/api/token")
    let other = ScriptedTransport([answer(200, "t"), answer(200, "x")])
    _ = try await client(other, environment: ["AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1338/"]).get("/a")
    #expect(other.requests[1].url == "http://127.0.0.1:1338/a")
    await #expect(throws: MetadataError.disabled) {
      try await client(ScriptedTransport([]), environment: ["AWS_EC2_METADATA_DISABLED": "true"]).get("/a")
    }
  }

  static let documents: [(String, String)] = [
    ("[1", "not JSON: "), ("{}", "it has no privateIp"), ("[1]", "it has no privateIp"),
    (
      #"{"instanceId":"i","region":"r","availabilityZone":"z","privateIp":"fe80::1"}"#,
      "privateIp is not an IPv4 address"
    ),
    (#"{"instanceId":"","region":"r","availabilityZone":"z","privateIp":"10.0.0.1"}"#, "it has no instanceId"),
    (#"{"instanceId":"i","availabilityZone":"z","privateIp":"10.0.0.1"}"#, "it has no region"),
    (#"{"instanceId":"i","region":"r","availabilityZone":7,"privateIp":"10.0.0.1"}"#, "it has no availabilityZone"),
  ]

  @Test(arguments: documents)
  func `an identity document that lacks something is refused, with the reason`(
    _ document: String, _ reason: String
  ) async {
    let client = client(ScriptedTransport([answer(200, "t"), answer(200, document)]))
    await #expect {
      try await client.identity()
    } throws: { error in
      guard case .malformed("identity document", _, let found)? = error as? MetadataError else { return false }
      return found.hasPrefix(reason)
    }
  }

  @Test func `an instance without an identity document or a MAC address is an error`() async {
    let document = MetadataError.missing("identity document", path: "/latest/dynamic/instance-identity/document")
    await #expect(throws: document) {
      try await client(ScriptedTransport([answer(200, "t"), answer(404)])).identity()
    }
    let mac = MetadataError.missing("MAC address", path: "/latest/meta-data/mac")
    for response in [answer(404), answer(200, "\n")] {
      await #expect(throws: mac) { try await client(ScriptedTransport([answer(200, "t"), response])).vpcID() }
      await #expect(throws: mac) { try await client(ScriptedTransport([answer(200, "t"), response])).vpcNetworks() }
    }
  }

  private static let interfaces = ["/macs/": "02:AB/\n", "/device-number": "1\n", "/local-ipv4s": "10.0.1.5\n10.0.1.6"]

  private func interfaces(_ changes: [String: String?]) async throws -> [MetadataInterface] {
    let answers = Self.interfaces.merging(changes.mapValues { $0 ?? "" }) { $1 }
    let transport = PathTransport { path in
      guard let suffix = answers.keys.first(where: path.hasSuffix), changes[suffix] != .some(nil) else { return nil }
      return answers[suffix]
    }
    return try await MetadataClient(
      environment: [:], allowsVersion1: false, transport: transport, clock: RecordingClock(),
      log: Logger(level: .error, sink: SilentSink())
    ).interfaces()
  }

  @Test func `interfaces are read; addresses may be missing, a device number may not`() async throws {
    let found = try await interfaces(["/ipv4-associations/": "54.1.2.3", "/54.1.2.3": "10.0.1.6"])
    #expect(
      found == [
        MetadataInterface(
          macAddress: "02:ab", deviceNumber: 1, privateIPs: [IPv4Address("10.0.1.5")!, IPv4Address("10.0.1.6")!],
          publicIPs: [IPv4Address("54.1.2.3")!: IPv4Address("10.0.1.6")!])
      ])
    // An interface for EFA only has none; an association may end between two requests.
    #expect(try await interfaces(["/local-ipv4s": nil, "/ipv4-associations/": "54.1.2.3"])[0].publicIPs == [:])
    // It was device 0: the primary interface.
    await #expect(throws: MetadataError.self) { try await interfaces(["/device-number": nil]) }
    for (path, text) in [
      ("/device-number", "eth0"), ("/device-number", "-1"), ("/device-number", "99999999999999999999"),
      ("/local-ipv4s", "fe80::1"), ("/ipv4-associations/", "x"),
    ] {
      await #expect {
        try await interfaces([path: text])
      } throws: {
        if case .malformed("network interfaces", _, "unexpected \(text)")? = $0 as? MetadataError {
          true
        } else {
          false
        }
      }
    }
  }

  @Test func `a VPC network that is none is malformed`() async throws {
    let transport = PathTransport { path in
      path.hasSuffix("/mac") ? "02:ab" : path.hasSuffix("/vpc-ipv4-cidr-blocks") ? "10.0.0.0/16\n10.0.0.1/16" : nil
    }
    let client = MetadataClient(
      environment: [:], allowsVersion1: false, transport: transport, clock: RecordingClock(),
      log: Logger(level: .error, sink: SilentSink()))
    await #expect {
      try await client.vpcNetworks()
    } throws: {
      if case .malformed("VPC networks", _, "unexpected 10.0.0.1/16")? = $0 as? MetadataError { true } else { false }
    }
    #expect(try await client.vpcID() == nil)
  }
}

/// A metadata service by path: nil is 404.
private struct PathTransport: HTTPTransport {
  let text: @Sendable (String) -> String?

  func send(_ request: HTTPRequest) async throws -> HTTPResponse {
    if request.method == "PUT" { return HTTPResponse(status: 200, body: Array("token".utf8)) }
    guard let text = text(request.url) else { return HTTPResponse(status: 404, body: []) }
    return HTTPResponse(status: 200, body: Array(text.utf8))
  }
}

/// A metadata service whose tokens are good for one request each.
private final class SingleUseTokens: HTTPTransport {
  private let state = Mutex((requests: 0, issued: 0, valid: Set<String>(), refusals: 0))

  var refusals: Int { state.withLock { $0.refusals } }

  func send(_ request: HTTPRequest) async throws -> HTTPResponse {
    // Requests overtake each other.
    for _ in 0..<state.withLock({
      $0.requests += 1; return $0.requests
    }) % 5 { await Task.yield() }
    return state.withLock { state in
      if request.method == "PUT" {
        state.issued += 1
        state.valid.insert("token\(state.issued)")
        return HTTPResponse(status: 200, body: Array("token\(state.issued)".utf8))
      }
      guard state.valid.remove(request.headers[0].value) != nil else {
        state.refusals += 1
        return HTTPResponse(status: 401, body: [])
      }
      return HTTPResponse(status: 200, body: Array("text".utf8))
    }
  }
}
