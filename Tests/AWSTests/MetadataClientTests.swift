import Testing

@testable import AWS
@testable import Base

@Suite struct MetadataClientTests {
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

  @Test func `a token is asked for once and sent with every request`() async throws {
    let transport = ScriptedTransport([answer(200, "token"), answer(200, "a"), answer(404)])
    let client = client(transport)
    #expect(try await client.get("/latest/meta-data/mac") == "a")
    #expect(try await client.get("/latest/absent") == nil)
    #expect(transport.requests.map(\.method) == ["PUT", "GET", "GET"])
    #expect(transport.requests[0].headers[0].value == "21600")
    #expect(transport.requests[2].headers[0].value == "token")
    #expect(
      transport.requests.allSatisfy {
        $0.url.hasPrefix("http://169.254.169.254/") && !$0.allowsProxy && $0.timeout <= .seconds(2)
      })
  }

  @Test func `a refused token is renewed once`() async throws {
    let transport = ScriptedTransport([
      answer(200, "old"), answer(401), answer(200, "new"), answer(200, "x"), answer(401), answer(200, "n"), answer(401),
    ])
    let client = client(transport)
    #expect(try await client.get("/a") == "x")
    #expect(transport.requests[3].headers[0].value == "new")
    await #expect { try await client.get("/b") } throws: { ($0 as? Failure)?.status == .noMetadata }
  }

  /// Guards against scripts that hang in a container: the token request is taken, its answer exceeds the hop limit.
  @Test func `a token request that hangs names the hop limit`() async {
    let client = client(ScriptedTransport(Array(repeating: failure(.timedOut(whileConnecting: false)), count: 3)))
    await #expect { try await client.get("/a") } throws: {
      guard let failure = $0 as? Failure else { return false }
      return failure.status == .noMetadata && failure.hint?.contains("HttpPutResponseHopLimit") == true
    }
  }

  @Test func `version 1 is used only when it is allowed, and that is said`() async throws {
    await #expect(throws: Failure.self) { try await client(ScriptedTransport([answer(404)])).get("/a") }
    let transport = ScriptedTransport([answer(404), answer(200, "x")])
    let sink = RecordingSink()
    #expect(try await client(transport, version1: true, sink: sink).get("/a") == "x")
    #expect(transport.requests[1].headers.isEmpty)
    #expect(sink.lines.contains { $0.hasPrefix("warning falling back to IMDSv1") })
  }

  @Test func `slow starts and 5xx are tried again`() async throws {
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
    await #expect(throws: Failure.self) {
      try await client(ScriptedTransport([]), environment: ["AWS_EC2_METADATA_DISABLED": "true"]).get("/a")
    }
  }

  @Test(arguments: ["", "{}", "[1]", #"{"instanceId":"i","region":"r","availabilityZone":"z","privateIp":"fe80::1"}"#])
  func `an identity document that lacks something is refused`(_ document: String) async {
    let client = client(ScriptedTransport([answer(200, "t"), answer(200, document)]))
    await #expect { try await client.identity() } throws: { ($0 as? Failure)?.status == .noMetadata }
  }
}
