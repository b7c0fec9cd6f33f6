import AWS
import Base
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
  }

  private func findings(_ address: String = "10.0.1.11") async throws -> [String] {
    try await doctor.findings("peer \(address)")
  }

  @Test func `every port of a peer that runs is open`() async throws {
    #expect(try await findings() == ["ok peer 10.0.1.11: open: 8300 tcp, 8301 tcp, 8301 udp, 8500 tcp"])
    #expect(ports.probes.sorted() == [8300, 8301, 8500].map { "tcp 10.0.1.11:\($0)" } + ["udp 10.0.1.11:8301"])
  }

  @Test func `a peer that still boots refuses`() async throws {
    ports.set("10.0.1.11", to: .refused)
    #expect(
      try await findings() == [
        "ok peer 10.0.1.11: refused, nothing listens yet: 8300 tcp, 8301 tcp, 8301 udp, 8500 tcp"
      ])
  }

  /// A security group that forgets udp is the classic: everything joins, and then members flap.
  @Test func `a filtered udp port is named apart from its tcp port`() async throws {
    ports.set("10.0.1.11", .udp, port: 8301, to: .silent)
    #expect(
      try await findings() == [
        "problem peer 10.0.1.11: filtered: 8301 udp (LAN gossip): no answer; \(Self.hint)",
        "ok peer 10.0.1.11: open: 8300 tcp, 8301 tcp, 8500 tcp",
      ])
    // A datagram may be lost.
    #expect(ports.probes.count { $0 == "udp 10.0.1.11:8301" } == 3)
  }

  @Test func `a filtered tcp port is named beside refused ones`() async throws {
    ports.set("10.0.1.11", to: .refused)
    ports.set("10.0.1.11", .tcp, port: 8300, to: .silent)
    ports.set("10.0.1.11", .tcp, port: 8500, to: .unreachable("No route to host"))
    #expect(
      try await findings() == [
        "problem peer 10.0.1.11: filtered: 8300 tcp (server RPC), 8500 tcp (HTTP API): no answer; \(Self.hint)",
        "ok peer 10.0.1.11: refused, nothing listens yet: 8301 tcp, 8301 udp",
      ])
  }

  @Test func `a peer of which nothing answers may not run yet`() async throws {
    ports.set("10.0.1.11", to: .unreachable("No route to host"))
    #expect(
      try await findings() == [
        "problem peer 10.0.1.11: filtered, or the instance is not running yet: 8300 tcp (server RPC), 8301 tcp (LAN "
          + "gossip), 8301 udp (LAN gossip), 8500 tcp (HTTP API): no route to host; \(Self.hint)"
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
        "ok peer 10.0.1.11: open: 8300 tcp, 8301 tcp, 8500 tcp; unknown: 8301 udp, as encrypted gossip does not answer "
          + "the probe"
      ])
    ports.set("10.0.1.11", .tcp, port: 8301, to: .silent)
    #expect(
      try await doctor.findings("peer 10.0.1.11") == [
        "problem peer 10.0.1.11: filtered: 8301 tcp (LAN gossip), 8301 udp (LAN gossip): no answer; \(Self.hint)",
        "ok peer 10.0.1.11: open: 8300 tcp, 8500 tcp",
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
        "ok peer 10.0.1.11: open: 8300 tcp, 8301 tcp, 8301 udp, 8302 tcp, 8302 udp, 8500 tcp",
        "ok peer 52.1.1.9: open: 8300 tcp, 8302 tcp, 8302 udp",
      ])
  }

  @Test func `ports that an overlay moves are probed where they are`() async throws {
    var doctor = doctor
    doctor.settings.overlays = [
      .init(origin: "--set", value: ["ports": ["serf_lan": 9301, "server": 9300, "http": 9500]])
    ]
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
    for member in 11..<50 { ports.set("10.0.1.\(member)", to: .open) }
    #expect(
      try await doctor.findings("peers") == ["note peers: there are 39 peers; only the first 25 are probed"])
    #expect(Set(ports.probes.map { $0.split(separator: " ")[1].prefix { $0 != ":" } }).count == 25)
  }
}
