import AWS
import Base
import Consul
import Model
import TestSupport
import Testing

@testable import Doctor

@Suite(.timeLimit(.minutes(5))) struct PeerChecksTests {
  private var doctor = DoctorFixture()
  private var ports: FakePorts { doctor.context.ports }

  private static let hint =
    "hint: allow these ports in the security groups of both instances and in the network ACLs of their subnets; a port "
    + "that is not filtered answers or refuses"

  init() {
    doctor.aws.setGroups([FakeGroup(desired: 2)])
    doctor.aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10"), FakeInstance("i-0bbb", ip: "10.0.1.11")])
    ports.set("10.0.1.11", to: .open)
    answers("10.0.1.11")
  }

  /// A server without data, whose HTTP API listens on the loopback address only.
  private func answers(_ ip: String, port: Int64 = 8300) {
    doctor.context.streams.answer("\(ip):\(port)", RaftPortAnswer.status(ClusterStatus(leader: nil, peers: [])))
  }

  private func fails(_ error: StreamError) { doctor.context.streams.fail("10.0.1.11:8300", error) }

  private func findings(_ address: String = "10.0.1.11") async throws -> [String] {
    try await doctor.findings("peer \(address)")
  }

  @Test func `every port of a peer that runs is open`() async throws {
    #expect(try await findings() == ["ok peer 10.0.1.11: open: 8300 tcp, 8301 tcp, 8301 udp"])
    #expect(ports.probes.sorted() == ["tcp 10.0.1.11:8301", "udp 10.0.1.11:8301"])
    // By the doctor and by the dry run of the plan.
    #expect(Set(doctor.context.streams.requests.map { "\($0.address):\($0.port)" }) == ["10.0.1.11:8300"])
  }

  @Test func `a peer that still boots refuses`() async throws {
    ports.set("10.0.1.11", to: .refused)
    fails(.refused)
    #expect(
      try await findings() == [
        "ok peer 10.0.1.11: refused, nothing listens yet: 8300 tcp, 8301 tcp, 8301 udp"
      ])
  }

  /// A security group that forgets udp is the classic: everything joins, and then members flap.
  @Test func `a filtered udp port is named apart from its tcp port`() async throws {
    ports.set("10.0.1.11", .udp, port: 8301, to: .silent)
    #expect(
      try await findings() == [
        "problem peer 10.0.1.11: filtered: 8301 udp (LAN gossip): no answer; \(Self.hint)",
        "ok peer 10.0.1.11: open: 8300 tcp, 8301 tcp",
      ])
    // A datagram may be lost.
    #expect(ports.probes.count { $0 == "udp 10.0.1.11:8301" } == 3)
  }

  @Test func `a filtered tcp port is named beside refused ones`() async throws {
    var doctor = doctor
    doctor.settings.clientAddress = .private
    ports.set("10.0.1.11", to: .refused)
    fails(.silent)
    ports.set("10.0.1.11", .tcp, port: 8500, to: .unreachable("No route to host"))
    #expect(
      try await doctor.findings("peer 10.0.1.11") == [
        "problem peer 10.0.1.11: filtered: 8300 tcp (server RPC), 8500 tcp (HTTP API): no answer; \(Self.hint)",
        "ok peer 10.0.1.11: refused, nothing listens yet: 8301 tcp, 8301 udp",
      ])
  }

  @Test func `a peer of which nothing answers may not run yet`() async throws {
    ports.set("10.0.1.11", to: .unreachable("No route to host"))
    fails(.unreachable("No route to host"))
    #expect(
      try await findings() == [
        "problem peer 10.0.1.11: filtered, or the instance is not running yet: 8300 tcp (server RPC), 8301 tcp (LAN "
          + "gossip), 8301 udp (LAN gossip): no route to host; \(Self.hint)"
      ])
  }

  /// An agent with a gossip key does not answer a datagram without it.
  @Test func `with encrypted gossip a silent udp port says nothing where its tcp port is open`() async throws {
    var doctor = doctor
    doctor.settings.gossipKey = .file(path: "/key")
    doctor.context.files.put("/key", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
    ports.set("10.0.1.11", .udp, port: 8301, to: .silent)
    #expect(
      try await doctor.findings("peer 10.0.1.11") == [
        "ok peer 10.0.1.11: open: 8300 tcp, 8301 tcp; unknown: 8301 udp, as encrypted gossip does not answer "
          + "the probe"
      ])
    ports.set("10.0.1.11", .tcp, port: 8301, to: .silent)
    #expect(
      try await doctor.findings("peer 10.0.1.11") == [
        "problem peer 10.0.1.11: filtered: 8301 tcp (LAN gossip), 8301 udp (LAN gossip): no answer; \(Self.hint)",
        "ok peer 10.0.1.11: open: 8300 tcp",
      ])
  }

  @Test func `a client probes what it needs of servers`() async throws {
    var doctor = doctor
    doctor.settings.role = .client
    doctor.settings.membership = .groups(["web"])
    #expect(
      try await doctor.findings("peer 10.0.1.11") == ["ok peer 10.0.1.11: open: 8300 tcp, 8301 tcp, 8301 udp"])
  }

  @Test func `servers of other zones are probed at the ports of the WAN, under their WAN address`() async throws {
    var doctor = doctor
    doctor.settings.layout = .datacenterPerAZ
    doctor.settings.wanAddress = .public
    doctor.settings.membership = .groups(["a", "b"])
    doctor.metadata.set("/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/ipv4-associations/", "52.1.1.1")
    doctor.metadata.set(
      "/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/ipv4-associations/52.1.1.1", "10.0.1.10")
    doctor.aws.setGroups([
      FakeGroup("a", desired: 2, zones: ["eu-west-1a"]), FakeGroup("b", desired: 1, zones: ["eu-west-1b"]),
    ])
    doctor.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10", group: "a"), FakeInstance("i-0bbb", ip: "10.0.1.11", group: "a"),
      FakeInstance("i-0ccc", ip: "10.0.1.20", zone: "eu-west-1b", group: "b", publicIP: "52.1.1.9"),
    ])
    ports.set("52.1.1.9", to: .open)
    let findings = try await doctor.run().filter { $0.subject.hasPrefix("peer ") }
    #expect(
      lines(findings) == [
        "ok peer 10.0.1.11: open: 8300 tcp, 8301 tcp, 8301 udp, 8302 tcp, 8302 udp",
        "ok peer 52.1.1.9: open: 8300 tcp, 8302 tcp, 8302 udp",
      ])
  }

  @Test func `ports that an overlay moves are probed where they are`() async throws {
    var doctor = doctor
    doctor.settings.overlays = [
      .init(origin: "--set", value: ["ports": ["serf_lan": 9301, "server": 9300, "http": 9500]])
    ]
    doctor.settings.clientAddress = .private
    answers("10.0.1.11", port: 9300)
    doctor.context.transport.fail("http://127.0.0.1:9500/", .refused)
    #expect(
      try await doctor.findings("peer 10.0.1.11") == [
        "ok peer 10.0.1.11: open: 9300 tcp, 9301 tcp, 9301 udp, 9500 tcp"
      ])
  }

  @Test func `of a large fleet the first 25 peers are probed`() async throws {
    let members = (10..<50).map { FakeInstance("i-\($0)", ip: "10.0.1.\($0)") }
    doctor.aws.setGroups([FakeGroup(desired: 40)])
    doctor.aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10")] + members.dropFirst())
    for member in 11..<50 {
      ports.set("10.0.1.\(member)", to: .open)
      answers("10.0.1.\(member)")
    }
    #expect(
      try await doctor.findings("peers") == ["note peers: there are 39 peers; only the first 25 are probed"])
    #expect(Set(ports.probes.map { $0.split(separator: " ")[1].prefix { $0 != ":" } }).count == 25)
  }

  /// The agents' own port may be open and yet of no use: a run then waits, for it takes no answer for no cluster.
  @Test(arguments: [
    (StreamError.closed(after: 0), "connection closed without an answer"),
    (.handshake("certificate has expired"), "TLS: certificate has expired"), (.noAnswer, "no answer in time"),
  ])
  func `a server that listens and gives no answer is a problem`(_ error: StreamError, _ words: String) async throws {
    fails(error)
    #expect(
      try await findings() == [
        "problem peer 10.0.1.11: 8300 tcp (server RPC) gives no answer: \(words); hint: until it does, a run does "
          + "not know whether this server has a cluster: check that Consul listens there, and that --tls-ca, "
          + "--tls-cert and --tls-key are of the same authority as the peer's",
        "ok peer 10.0.1.11: open: 8301 tcp, 8301 udp",
      ])
  }

  @Test func `an HTTP API that servers open is probed`() async throws {
    var doctor = doctor
    doctor.settings.clientAddress = .private
    #expect(
      try await doctor.findings("peer 10.0.1.11") == [
        "ok peer 10.0.1.11: open: 8300 tcp, 8301 tcp, 8301 udp, 8500 tcp"
      ])
  }

  @Test func `an HTTP API that another file opens is probed, one that it closes is not`() async throws {
    doctor.context.files.put("/etc/consul.d/z.hcl", "client_addr = \"0.0.0.0\"\n")
    #expect(try await doctor.findings("peer 10.0.1.11").first?.contains("8500 tcp") == true)
    var doctor = doctor
    doctor.settings.clientAddress = .private
    doctor.context.files.put("/etc/consul.d/z.hcl", "addresses { http = \"127.0.0.1\" }\n")
    #expect(try await doctor.findings("peer 10.0.1.11").first?.contains("8500 tcp") == false)
  }

  @Test func `a server with a certificate asks with it`() async throws {
    var doctor = doctor
    for (name, text) in [("ca", "CERTIFICATE"), ("cert", "CERTIFICATE"), ("key", "PRIVATE KEY")] {
      doctor.context.files.put("/\(name)", "-----BEGIN \(text)-----\nAAAA\n-----END \(text)-----\n")
    }
    doctor.settings.tls.ca = .file(path: "/ca")
    doctor.settings.tls.cert = .file(path: "/cert")
    doctor.settings.tls.key = .file(path: "/key")
    _ = try await doctor.findings("peer 10.0.1.11")
    let request = try #require(doctor.context.streams.requests.first)
    #expect(request.tls?.serverName == "server.dc1.consul" && request.announcement == [3])
  }
}
