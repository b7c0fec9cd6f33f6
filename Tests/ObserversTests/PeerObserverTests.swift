import Base
import Consul
import TestSupport
import Testing

@testable import Model
@testable import Observers

/// Whether other members have a cluster: what a server does not answer is unknown, never no.
@Suite(.timeLimit(.minutes(5))) struct PeerObserverTests {
  private var flow = Flow()
  private let cluster = ClusterStatus(
    leader: "10.0.1.1:8300", peers: ["10.0.1.1:8300", "10.0.1.2:8300"], lastLog: LogPosition(term: 3, index: 900))
  private let empty = ClusterStatus(leader: nil, peers: [], lastLog: LogPosition(term: 0, index: 0))

  private var streams: FakeStreams { flow.context.streams }

  private func query(_ ips: [String]) async -> [String: PeerAnswer] {
    await query(ips, flow.observation(), flow.settings)
  }

  private func query(
    _ ips: [String], _ observation: Observation, _ settings: Settings
  ) async -> [String: PeerAnswer] {
    let answers = await PeerObserver(observation, settings: settings, context: flow.context.context).query(
      ips.map(address))
    return Dictionary(uniqueKeysWithValues: answers.map { ("\($0.key)", $0.value) })
  }

  /// A server whose HTTP API listens on the loopback address only.
  private func closeHTTP(_ ip: String) { flow.context.transport.fail("http://\(ip):8500/", .refused) }

  @Test func `each answer is kept by its address`() async {
    let results: [(ip: String, error: StreamError?, bytes: [UInt8], answer: PeerAnswer)] = [
      ("10.0.1.1", nil, RaftPortAnswer.status(cluster), .status(cluster)),
      ("10.0.1.2", nil, RaftPortAnswer.status(empty), .status(empty)),
      ("10.0.1.3", .unreachable("No route to host"), [], .unknown(reason: "port 8300: No route to host")),
      ("10.0.1.4", .refused, [], .refused),
      ("10.0.1.5", .silent, [], .unknown(reason: "port 8300: no connection in time")),
      ("10.0.1.6", .noAnswer, [], .unknown(reason: "port 8300: no answer in time")),
      (
        "10.0.1.7", .closed(after: 0), [], .unknown(reason: "port 8300: connection closed without an answer")
      ),
      ("10.0.1.8", .handshake("bad"), [], .unknown(reason: "port 8300: TLS: bad")),
      (
        "10.0.1.9", nil, RaftPortAnswer.error("rpc: no"),
        .unknown(reason: "port 8300: error from the server: rpc: no")
      ),
      (
        "10.0.1.10", nil, RaftPortAnswer.values([.unsigned(1), .array([]), .map([:])]),
        .unknown(reason: "port 8300: malformed answer: the leader is not text")
      ),
    ]
    for result in results {
      closeHTTP(result.ip)
      if let error = result.error {
        streams.fail("\(result.ip):8300", error)
      } else {
        streams.answer("\(result.ip):8300", result.bytes)
      }
    }
    let answers = await query(results.map(\.ip))
    for result in results { #expect(answers[result.ip] == result.answer, "\(result.ip)") }
    // All at once.
    #expect(flow.elapsed == .milliseconds(750))
  }

  @Test func `the ports are the configured ones, and no token is sent`() async throws {
    var settings = flow.settings
    settings.overlays = [.init(origin: "--set", value: ["ports": ["server": 18300, "http": 18500]])]
    streams.fail("10.0.1.1:18300", .refused)
    flow.context.transport.fail("http://10.0.1.1:18500/", .refused)
    #expect(await query(["10.0.1.1"], flow.observation(), settings) == ["10.0.1.1": .refused])
    let requests = flow.context.transport.requests
    #expect(requests.map(\.url) == ["http://10.0.1.1:18500/v1/status/leader"])
    #expect(requests.allSatisfy { $0.headers.isEmpty && !$0.allowsProxy })
  }

  /// Its server may listen on another port, or may not be up yet.
  @Test func `an older member answers over HTTP where raft's port gave none`() async {
    for (ip, error) in [("10.0.1.1", StreamError.refused), ("10.0.1.2", .closed(after: 0)), ("10.0.1.3", .silent)] {
      flow.agent(ip, leader: "10.0.1.1:8300", peers: ["10.0.1.1:8300"])
      streams.fail("\(ip):8300", error)
    }
    let status = PeerAnswer.status(ClusterStatus(leader: "10.0.1.1:8300", peers: ["10.0.1.1:8300"]))
    #expect(
      await query(["10.0.1.1", "10.0.1.2", "10.0.1.3"]) == [
        "10.0.1.1": status, "10.0.1.2": status, "10.0.1.3": status,
      ])
  }

  @Test func `HTTP is not asked where raft's port answers or HTTP is off`() async {
    streams.answer("10.0.1.1:8300", RaftPortAnswer.status(empty))
    streams.fail("10.0.1.2:8300", .refused)
    var settings = flow.settings
    settings.overlays = [.init(origin: "--set", value: ["ports": ["http": -1]])]
    #expect(await query(["10.0.1.1"]) == ["10.0.1.1": .status(empty)])
    #expect(await query(["10.0.1.2"], flow.observation(), settings) == ["10.0.1.2": .refused])
    #expect(flow.context.transport.requests.isEmpty)
  }

  /// Refused means that nothing runs there: an agent that answers anything over HTTP runs.
  @Test(arguments: [
    (TransportError.refused, PeerAnswer.refused), (.timedOut(whileConnecting: true), .refused),
    (.timedOut(whileConnecting: false), .unknown(reason: "HTTP API: no answer in time")),
    (.unreachable, .unknown(reason: "HTTP API: host unreachable")),
    (.truncated, .unknown(reason: "HTTP API: connection ended before the whole answer")),
  ])
  func `a refused port is refused unless HTTP shows an agent`(_ second: TransportError, _ answer: PeerAnswer) async {
    streams.fail("10.0.1.1:8300", .refused)
    flow.context.transport.fail("http://10.0.1.1:8500/", second)
    #expect(await query(["10.0.1.1"]) == ["10.0.1.1": answer])
  }

  /// A security group without 8500 drops what is sent there: a poll of a booting group must not take a second.
  @Test func `silence of the HTTP API costs a quarter of a second`() async {
    streams.fail("10.0.1.1:8300", .refused)
    flow.context.transport.silence("http://10.0.1.1:8500/")
    #expect(await query(["10.0.1.1"]) == ["10.0.1.1": .refused])
    #expect(flow.elapsed == .milliseconds(250))
  }

  @Test func `without peers nothing is queried`() async { #expect(await query([]).isEmpty) }

  /// 64 connections at a time bound the sockets: 200 silent peers take four rounds, not one and not 200.
  @Test func `many peers are queried 64 at a time`() async {
    streams.fail("10.0.9.", .silent)
    flow.context.transport.silence("http://10.0.9.")
    let answers = await query((1...200).map { "10.0.9.\($0)" })
    #expect(answers.count == 200)
    #expect(Set(answers.values.map { "\($0)" }) == [#"unknown(reason: "port 8300: no connection in time")"#])
    #expect(flow.elapsed == .seconds(4))
  }

  @Test func `a cancelled query is unknown`() async throws {
    let gate = streams.hold("10.0.1.9:8300")
    let flow = flow
    let task = Task {
      await PeerObserver(flow.observation(), settings: flow.settings, context: flow.context.context).query([
        address("10.0.1.9")
      ])
    }
    try await gate.arrivals()
    task.cancel()
    #expect(await task.value == [address("10.0.1.9"): .unknown(reason: "the query was cancelled")])
  }
}

/// Servers whose agents speak TLS to each other.
@Suite(.timeLimit(.minutes(5))) struct PeerObserverTLSTests {
  private let flow: Flow
  private let observation: Observation
  private let empty = ClusterStatus(leader: nil, peers: [], lastLog: LogPosition(term: 0, index: 0))

  init() {
    var flow = Flow()
    let references = SecretReference.file(path: "/etc/tls")
    (flow.settings.tls.ca, flow.settings.tls.cert, flow.settings.tls.key) = (references, references, references)
    flow.context.files.put("/etc/tls/key.pem", "KEY", mode: 0o600)
    flow.context.transport.fail("http://10.0.1.1:8500/", .refused)
    var observation = flow.observation()
    observation.secrets.ca = .pem(Secret("CA"))
    observation.secrets.cert = .pem(Secret("CERT"))
    observation.secrets.key = .file(path: "/etc/tls/key.pem")
    self.flow = flow
    self.observation = observation
  }

  private func query(_ settings: Settings) async -> PeerAnswer? {
    let peer = address("10.0.1.1")
    return await PeerObserver(observation, settings: settings, context: flow.context.context).query([peer])[peer]
  }

  private func answers(plain: StreamError?, tls: StreamError?) {
    let bytes = RaftPortAnswer.status(empty)
    flow.context.streams.on("10.0.1.1:8300") { request in
      if let error = request.tls == nil ? plain : tls { throw error }
      return bytes
    }
  }

  private func isTLS() -> [Bool] { flow.context.streams.requests.map { $0.tls != nil } }

  @Test func `a server with a certificate asks by TLS, as its agent does`() async throws {
    answers(plain: .closed(after: 0), tls: nil)
    #expect(await query(flow.settings) == .status(empty))
    let request = try #require(flow.context.streams.requests.first)
    #expect(isTLS() == [true] && request.announcement == [3])
    #expect(
      request.tls
        == TLSClient(
          ca: Secret("CA"), certificate: Secret("CERT"), key: Secret("KEY"), serverName: "server.dc1.consul",
          verifiesName: false))
  }

  @Test func `the name of the server follows datacenter and domain`() async throws {
    var settings = flow.settings
    settings.datacenter = "eu"
    settings.tls.verifyServerHostname = true
    settings.overlays = [.init(origin: "--set", value: ["domain": "example"])]
    answers(plain: nil, tls: nil)
    _ = await query(settings.besideFiles([]))
    let tls = try #require(flow.context.streams.requests.first?.tls)
    #expect(tls.serverName == "server.eu.example" && tls.verifiesName)
  }

  /// Images ship TLS in a file of their own: without it a replacement asks in vain, and would form a new cluster.
  @Test(arguments: [
    "ca_file = \"/t/ca\" cert_file = \"/t/cert\" key_file = \"/t/key\" verify_outgoing = true",
    "tls { defaults { ca_file = \"/t/ca\", cert_file = \"/t/cert\", verify_outgoing = true }\n"
      + "internal_rpc { key_file = \"/t/key\" } }",
  ])
  func `TLS that another file sets is used`(_ text: String) async throws {
    for name in ["ca", "cert", "key"] { flow.context.files.put("/t/\(name)", name) }
    let document = SecretDocument(try ConfigurationSyntax.hcl.parse(Array(text.utf8)))
    let more = SecretDocument(["domain": "example", "verify_server_hostname": true])
    let settings = Settings().besideFiles([
      OtherConfigurationFile(path: "/etc/consul.d/tls.hcl", .document(document)),
      OtherConfigurationFile(path: "/etc/consul.d/z.json", .document(more)),
    ])
    let peer = address("10.0.1.1")
    answers(plain: .closed(after: 0), tls: nil)
    let found = await PeerObserver(flow.observation(), settings: settings, context: flow.context.context).query([peer])
    #expect(found == [peer: .status(empty)])
    #expect(
      flow.context.streams.requests.map(\.tls) == [
        TLSClient(
          ca: Secret("ca"), certificate: Secret("cert"), key: Secret("key"), serverName: "server.dc1.example",
          verifiesName: true)
      ])
  }

  /// While TLS is being switched on in a group, `verify_outgoing` is false, and some servers speak plain text.
  @Test func `without verify_outgoing plain text comes first, and TLS where it is closed`() async {
    var settings = flow.settings
    settings.tls.verifyOutgoing = false
    answers(plain: nil, tls: .closed(after: 0))
    #expect(await query(settings) == .status(empty))
    #expect(isTLS() == [false])
    answers(plain: .closed(after: 0), tls: nil)
    #expect(await query(settings) == .status(empty))
    #expect(isTLS() == [false, false, true])
    answers(plain: .refused, tls: nil)
    #expect(await query(settings) == .refused)
    #expect(isTLS() == [false, false, true, false])
  }

  @Test func `a failed handshake is unknown`() async {
    answers(plain: nil, tls: .handshake("certificate has expired"))
    #expect(await query(flow.settings) == .unknown(reason: "port 8300: TLS: certificate has expired"))
  }

  /// As for an ordinary user's dry run.
  @Test func `a key that cannot be read is named, and nothing is sent`() async throws {
    flow.context.files.fail(.read, "/etc/tls/key.pem", errno: 13)
    let answer = await query(flow.settings)
    #expect(answer == .unknown(reason: "port 8300: read /etc/tls/key.pem: Permission denied"))
    #expect(flow.context.streams.requests.isEmpty)
  }
}
