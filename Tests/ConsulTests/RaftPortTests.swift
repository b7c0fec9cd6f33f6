import Base
import TestSupport
import Testing

@testable import Consul

/// Status over raft's own port.
@Suite(.timeLimit(.minutes(5))) struct RaftPortTests {
  private let context = TestContext()
  private let peer = IPv4Address("10.0.1.5")!

  private func status(tls: TLSClient? = nil) async throws -> ClusterStatus {
    try await RaftPort(
      address: peer, port: 8300, tls: tls, transport: context.streams, timeout: .seconds(1)
    ).clusterStatus()
  }

  private func error() async -> RaftPortError? {
    do {
      _ = try await status()
      return nil
    } catch {
      return error as? RaftPortError
    }
  }

  @Test func `three calls go out at once`() async throws {
    context.streams.answer("10.0.1.5:8300", RaftPortAnswer.status(ClusterStatus(leader: nil, peers: [])))
    _ = try await status()
    let request = try #require(context.streams.requests.first)
    var rest = request.body.dropFirst()
    #expect(request.body.first == 0 && request.announcement.isEmpty && request.tls == nil)
    for (number, method) in [(1, "Status.Leader"), (2, "Status.Peers"), (3, "Status.RaftStats")] {
      #expect(
        try MessagePackValue(decoding: &rest)
          == .map(["ServiceMethod": .text(method), "Seq": .unsigned(UInt64(number))]))
      #expect(try MessagePackValue(decoding: &rest) == .map([:]))
    }
    #expect(rest.isEmpty && context.streams.requests.count == 1)
  }

  @Test(arguments: [
    ClusterStatus(leader: nil, peers: [], lastLog: LogPosition(term: 0, index: 0)),
    ClusterStatus(
      leader: "10.0.1.5:8300", peers: ["10.0.1.5:8300", "10.0.1.6:8300"], lastLog: LogPosition(term: 2, index: 1234)),
    ClusterStatus(leader: nil, peers: ["10.0.1.5:8300"], lastLog: LogPosition(term: .max, index: .max)),
  ])
  func `an empty server, a leader, a survivor`(_ expected: ClusterStatus) async throws {
    context.streams.answer("10.0.1.5:8300", RaftPortAnswer.status(expected))
    #expect(try await status() == expected)
  }

  /// Go writes an empty list as nil.
  @Test func `nil is no peers`() async throws {
    let stats = MessagePackValue.map(["LastTerm": .unsigned(0), "LastIndex": .unsigned(0)])
    context.streams.answer("10.0.1.5:8300", RaftPortAnswer.values([.text(""), .null, stats]))
    #expect(try await status().peers.isEmpty)
  }

  @Test func `with a certificate the byte of TLS comes first`() async throws {
    let tls = TLSClient(
      ca: Secret("a"), certificate: Secret("b"), key: Secret("c"), serverName: "server.dc1.consul", verifiesName: true)
    context.streams.answer("10.0.1.5:8300", RaftPortAnswer.status(ClusterStatus(leader: nil, peers: [])))
    _ = try await status(tls: tls)
    let request = try #require(context.streams.requests.first)
    // Behind TLS the server reads the protocol's byte again.
    #expect(request.tls == tls && request.announcement == [3] && request.body.first == 0)
  }

  @Test func `the server's error is its own, wherever it stands`() async {
    context.streams.answer("10.0.1.5:8300", RaftPortAnswer.error("rpc: can't find service Status.Leader"))
    #expect(await error() == .server("rpc: can't find service Status.Leader"))
    // What comes behind the error is not waited for.
    context.streams.answer("10.0.1.5:8300", RaftPortAnswer.error(String(repeating: "x", count: 5000)))
    #expect(await error() == .server(String(repeating: "x", count: 200)))
  }

  private static let stats = MessagePackValue.map(["LastTerm": .unsigned(0), "LastIndex": .unsigned(0)])

  @Test(arguments: [
    (RaftPortAnswer.values([.unsigned(1), .array([]), stats]), "the leader is not text"),
    (RaftPortAnswer.values([.bytes([0xFF]), .array([]), stats]), "the leader is not text"),
    (RaftPortAnswer.values([.text(""), .text(""), stats]), "the peers are not a list"),
    (RaftPortAnswer.values([.text(""), .array([.unsigned(1)]), stats]), "a peer is not an address"),
    (RaftPortAnswer.values([.text(""), .array([.text("")]), stats]), "a peer is not an address"),
    (RaftPortAnswer.values([.text(""), .array([]), .map([:])]), "the end of the log is missing"),
    (
      RaftPortAnswer.values([.text(""), .array([]), .map(["LastTerm": .negative(-1), "LastIndex": .unsigned(0)])]),
      "the end of the log is missing"
    ),
    (
      Array("HTTP/1.1 400 Bad Request\r\n".utf8), "the header of the answer to Status.Leader is not one of Consul's RPC"
    ),
    (
      MessagePackValue.map(["Seq": .unsigned(2), "Error": .text("")]).encoded + [0xA0],
      "the header of the answer to Status.Leader is not one of Consul's RPC"
    ),
    ([0xC1], "type 193 is not used by Consul"),
  ])
  func `anything else is malformed`(_ bytes: [UInt8], _ reason: String) async {
    context.streams.answer("10.0.1.5:8300", bytes)
    #expect(await error() == .malformed(reason))
  }

  @Test func `an answer cut anywhere is no answer`() async {
    let whole = RaftPortAnswer.status(
      ClusterStatus(leader: "10.0.1.5:8300", peers: ["10.0.1.5:8300"], lastLog: LogPosition(term: 2, index: 300)))
    for count in 0..<whole.count {
      context.streams.answer("10.0.1.5:8300", Array(whole.prefix(count)))
      #expect(await error() == .stream(.closed(after: count)))
    }
  }

  @Test(arguments: [
    StreamError.refused, .silent, .noAnswer, .unreachable("No route to host"), .closed(after: 0), .handshake("no"),
  ])
  func `errors of the connection keep their kind`(_ cause: StreamError) async {
    context.streams.fail("10.0.1.5:8300", cause)
    #expect(await error() == .stream(cause))
  }

  @Test func `a peer that talks without end is cut off`() async {
    let long = MessagePackValue.text(String(repeating: "x", count: 20_000))
    context.streams.answer("10.0.1.5:8300", RaftPortAnswer.values([long, .array([]), Self.stats]))
    #expect(await error() == .stream(.tooLarge(limit: 16 << 10)))
  }

  // MARK: The cluster's identity

  private func identity(token: Secret? = nil) async throws -> ClusterIdentity? {
    try await RaftPort(
      address: peer, port: 8300, tls: nil, transport: context.streams, timeout: .seconds(1)
    ).clusterIdentity(datacenter: "dc1", token: token)
  }

  private func answerKey(_ value: JSONValue?, token: String? = nil) {
    context.streams.on("10.0.1.5:8300") { try RaftPortAnswer.key(value, token: token, $0.body) }
  }

  @Test func `the identity is read as the leader has it`() async throws {
    answerKey(["cluster": "a", "epoch": 2], token: "secret")
    #expect(try await identity(token: Secret("secret")) == ClusterIdentity(cluster: "a", epoch: 2))
    var rest = try #require(context.streams.requests.first).body.dropFirst()
    #expect(
      try MessagePackValue(decoding: &rest) == .map(["ServiceMethod": .text("KVS.Get"), "Seq": .unsigned(1)]))
    #expect(
      try MessagePackValue(decoding: &rest)
        == .map([
          "Datacenter": .text("dc1"), "Key": .text("consul-bootstrap/cluster"), "Token": .text("secret"),
          "RequireConsistent": .bool(true),
        ]))
    await #expect(throws: RaftPortError.server("Permission denied")) { _ = try await identity() }
    answerKey(nil)
    #expect(try await identity() == nil)
  }

  @Test(arguments: [
    (MessagePackValue.map([:]), "the entries are missing"), (.null, "the entries are missing"),
    (.map(["Entries": .text("")]), "the entries are missing"),
    (.map(["Entries": .array([.map([:])])]), "the entry has no value"),
    (.map(["Entries": .array([.map(["Value": .text("{}")])])]), "consul-bootstrap/cluster is not a cluster's identity"),
  ])
  func `another result is no identity`(_ result: MessagePackValue, _ reason: String) async {
    context.streams.answer("10.0.1.5:8300", RaftPortAnswer.values([result]))
    await #expect(throws: RaftPortError.malformed(reason)) { _ = try await identity() }
  }

  @Test func `a value that is no JSON is malformed`() async {
    let result = MessagePackValue.map(["Entries": .array([.map(["Value": .bytes([0xFF])])])])
    context.streams.answer("10.0.1.5:8300", RaftPortAnswer.values([result]))
    await #expect(throws: RaftPortError.self) { _ = try await identity() }
  }
}
