import AWS
import Base
import TestSupport
import Testing

@testable import Model
@testable import Observers

/// This instance by its metadata, as far as the settings need it.
@Suite(.timeLimit(.minutes(5))) struct IdentityObserverTests {
  private var flow = Flow()
  private static let macs = "/latest/meta-data/network/interfaces/macs/"

  private func observer(_ flow: Flow) -> IdentityObserver {
    IdentityObserver(settings: flow.settings, context: flow.context.context, metadata: flow.metadataClient)
  }

  private var plain: Identity {
    Identity(
      instanceID: "i-2", region: "eu-west-1", availabilityZone: "eu-west-1a", privateIP: address("10.0.1.10"),
      vpcID: "vpc-1")
  }

  /// Two interfaces, the second with a public address, under their names on this machine.
  private func addInterfaces(_ flow: Flow) {
    let second = Self.macs + "02:00:00:00:00:02"
    flow.metadata.set(Self.macs, "02:00:00:00:00:01/\n02:00:00:00:00:02/")
    flow.metadata.set(second + "/device-number", "1")
    flow.metadata.set(second + "/local-ipv4s", "10.0.7.10\n10.0.7.11")
    flow.metadata.set(second + "/public-ipv4s", "192.0.2.7")
    flow.metadata.set(second + "/ipv4-associations/", "192.0.2.7")
    flow.metadata.set(second + "/ipv4-associations/192.0.2.7", "10.0.7.10")
    flow.context.files.put("/sys/class/net/eth0/address", "02:00:00:00:00:01\n")
    flow.context.files.put("/sys/class/net/eth1/address", "02:00:00:00:00:02\n")
    flow.context.files.put("/sys/class/net/bonding_masters", "")
  }

  private func interface(
    _ number: Int, _ name: String?, kind: String = "interface", _ ips: [String], publicIPs: [String: String] = [:]
  ) -> NetworkInterface {
    NetworkInterface(
      deviceNumber: number, name: name, kind: kind, privateIPs: ips.map(address),
      publicIPs: Dictionary(uniqueKeysWithValues: publicIPs.map { (address($0), address($1)) }))
  }

  @Test func `the defaults need identity and VPC only`() async throws {
    #expect(try await observer(flow).observe() == plain)
    #expect(
      Set(flow.context.transport.requests.map { String($0.url.dropFirst(FakeMetadata.base.count)) }) == [
        "/latest/api/token", "/latest/dynamic/instance-identity/document", "/latest/meta-data/mac",
        Self.macs + "02:00:00:00:00:01/vpc-id", "/latest/meta-data/autoscaling/target-lifecycle-state",
      ])
  }

  @Test func `zone ID and networks are read where the settings need them`() async throws {
    var flow = flow
    flow.settings.layout = .datacenterPerAZ
    flow.settings.datacenterSource = .zoneID
    flow.settings.resolvesReverse = true
    var expected = plain
    expected.zoneID = "euw1-az1"
    expected.vpcNetworks = [IPv4Network("10.0.0.0/16")!]
    #expect(try await observer(flow).observe() == expected)
  }

  @Test func `interfaces have their names on this machine`() async throws {
    var flow = flow
    flow.settings.bind = .interface("eth1")
    addInterfaces(flow)
    #expect(
      try await observer(flow).observe().interfaces == [
        interface(0, "eth0", ["10.0.1.10"]),
        interface(1, "eth1", ["10.0.7.10", "10.0.7.11"], publicIPs: ["192.0.2.7": "10.0.7.10"]),
      ])
    #expect(flow.log.all.isEmpty)
  }

  /// Guards against "there is no interface eth1" without any hint that its name could not be read.
  @Test func `names that cannot be read are logged`() async throws {
    var flow = flow
    flow.settings.bind = .interface("eth1")
    addInterfaces(flow)
    flow.context.files.fail(.read, "/sys/class/net/eth1/address", errno: 5)
    #expect(try await observer(flow).observe().interfaces.map(\.name) == ["eth0", nil])
    flow.context.files.fail(.list, "/sys/class/net", errno: 13)
    #expect(try await observer(flow).observe().interfaces.map(\.name) == [nil, nil])
    #expect(
      flow.lines == [
        "warning cannot read the name of a network interface "
          + #"reason="read /sys/class/net/eth1/address: Input/output error""#,
        "warning cannot list the network interfaces of this machine "
          + #"reason="list /sys/class/net: Permission denied""#,
      ])
  }

  @Test func `without metadata it is a metadata error`() async {
    flow.context.transport.silence(FakeMetadata.base)
    let flow = flow
    await #expect(throws: MetadataError.self) { _ = try await observer(flow).observe() }
  }

  // MARK: Kinds

  @Test func `one interface leaves no choice, and needs no call`() async throws {
    var identity = plain
    identity.interfaces = [interface(0, "eth0", ["10.0.1.10"])]
    #expect(try await observer(flow).interfaceKinds(of: identity, flow.client) == identity.interfaces)
    #expect(flow.aws.calls.isEmpty)
  }

  @Test func `EC2 knows which of several is an EFA`() async throws {
    var identity = plain
    identity.interfaces = [interface(0, "eth0", ["10.0.1.10"]), interface(1, "eth1", ["10.0.7.10"])]
    flow.aws.change("i-2") { instance in
      instance.interfaces = [
        FakeInterface(0, [("10.0.1.10", nil)]), FakeInterface(1, [("10.0.7.10", nil)], kind: "efa"),
      ]
    }
    #expect(
      try await observer(flow).interfaceKinds(of: identity, flow.client) == [
        interface(0, "eth0", ["10.0.1.10"]), interface(1, "eth1", kind: "efa", ["10.0.7.10"]),
      ])
    flow.aws.change("i-2") { $0.isInEC2 = false }
    #expect(try await observer(flow).interfaceKinds(of: identity, flow.client) == identity.interfaces)
  }
}
