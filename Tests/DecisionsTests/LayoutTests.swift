import Base
import Consul
import Testing

@testable import Artifacts
@testable import Decisions
@testable import Model

@Suite struct LayoutTests {
  private let a = "eu-west-1a", b = "eu-west-1b", c = "eu-west-1c"

  private var six: [Instance] {
    [
      instance("i-1", "10.0.1.9", zone: a), instance("i-2", "10.0.1.10", zone: a),
      instance("i-3", "10.0.1.11", zone: a),
      instance("i-4", "10.0.2.9", zone: b, publicIP: "203.0.113.9"), instance("i-5", "10.0.2.10", zone: b),
      instance("i-6", "10.0.2.11", zone: b),
    ]
  }

  private func readiness(
    _ members: [Instance], _ groups: [(Int, [String])], _ change: (inout Settings) -> Void = { _ in }
  ) -> Readiness {
    var settings = Settings()
    settings.layout = .datacenterPerAZ
    change(&settings)
    let scaling = groups.enumerated().map {
      GroupObservation.ScalingGroup(name: "g\($0.offset)", desiredCapacity: $0.element.0, zones: $0.element.1)
    }
    return Readiness(GroupObservation(instances: members, scalingGroups: scaling), identity: me, settings: settings)
  }

  @Test func `a zone's servers are its datacenter, the others are for the WAN`() {
    let readiness = readiness(six, [(6, [a, b])])
    #expect(readiness.members.map(\.instanceID) == ["i-1", "i-2", "i-3"])
    #expect(readiness.otherZones.map(\.name) == [b] && readiness.otherZones[0].members.count == 3)
    #expect(readiness.isComplete && readiness.knowsOtherZones && readiness.expected == 3)
    var settings = Settings()
    settings.layout = .datacenterPerAZ
    #expect(selectWANPeers(readiness, settings).map(\.description) == ["10.0.2.9", "10.0.2.10", "10.0.2.11"])
    settings.wanAddress = .public
    #expect(selectWANPeers(readiness, settings).map(\.description) == ["203.0.113.9"])
    settings.role = .client
    #expect(selectWANPeers(readiness, settings).isEmpty)
  }

  @Test func `what a zone gets of the desired capacity`() {
    #expect(readiness(six, [(6, [a, b])]).expected == 3)
    #expect(readiness(six, [(9, [a, b, c])]).expected == 3)
    #expect(readiness(six, [(3, [a]), (5, [b])]).expected == 3)
    #expect(readiness(six, [(3, [a]), (5, [b])]).otherZones.map(\.expected) == [5])
    #expect(readiness(six, [(2, [a, b]), (3, [a])]).expected == 4)
    #expect(readiness(six, [(7, [a, b])], { $0.expect = 3 }).expected == 3)
    #expect(
      readiness(six, [(7, [a, b])]).expectationFailure?.details
        == ["its desired capacity of 7 is not a multiple of its 2 zones (eu-west-1a, eu-west-1b)"])
    #expect(
      readiness(six, [(3, [b])]).expectationFailure?.message == "the expected number of servers in eu-west-1a is 0")
    #expect(readiness(six, []).expectationFailure?.hint == "set --expect N, the number of servers in each zone")
  }

  /// Guards against a trap: AWS's numbers are input, and two of them may not have a sum.
  @Test func `desired capacities beyond any sum saturate`() {
    #expect(readiness(six, [(.max, [a]), (3, [a])]).expected == .max)
    #expect(
      readiness(six, [(.max, [a]), (.max, [a])]).missing(identity: me).last == "9223372036854775804 not launched yet")
    #expect(readiness(six, [(.max, [a]), (.max, [b])]).otherZones.map(\.expected) == [.max])
    #expect(
      readiness(six, [(-3, [a]), (2, [a])]).expectationFailure?.message
        == "the expected number of servers in eu-west-1a is -1")
    #expect(readiness(six, [(.min, [a]), (.min, [a])]).expected == nil)
    #expect(observation(desired: .max).group?.desiredCapacity == .max)
  }

  @Test func `the other zones are known when each is complete; without any, one is expected`() {
    #expect(!readiness(Array(six.prefix(5)), [(6, [a, b])]).knowsOtherZones)
    #expect(!readiness(Array(six.prefix(3)), [(3, [a]), (3, [b])]).knowsOtherZones)
    #expect(!readiness(Array(six.prefix(3)), [], { $0.expect = 3 }).knowsOtherZones)
    #expect(readiness(six, [], { $0.expect = 3 }).knowsOtherZones)
    // This zone does not wait for what the other lacks.
    #expect(readiness(Array(six.prefix(3)), [(6, [a, b])]).isComplete)
    #expect(readiness(six, [(6, [a, b])]).missing(identity: me).isEmpty)
  }

  @Test func `a client needs one server of its own zone, and no number`() {
    let client: (inout Settings) -> Void = { $0.role = .client }
    #expect(readiness([six[0]], [(6, [a, b])], client).isComplete)
    #expect(!readiness([six[3]], [(6, [a, b])], client).isComplete)
    var settings = Settings()
    settings.role = .client
    #expect(
      ClusterDecision(observation(), readiness([six[3]], [], client), keepsData: true, settings)
        == .wait(.noServer, evidence: []))
    // This instance is no server.
    let decision = ClusterDecision(observation(), readiness(six, [], client), keepsData: true, settings)
    #expect(decision.name == "join as a client" && decision.evidence.count == 2)
  }

  @Test func `the datacenter is named after the zone or its id, if that is a label`() throws {
    var settings = Settings()
    #expect(try settings.datacenterName(for: me) == "dc1")
    settings.layout = .datacenterPerAZ
    #expect(try settings.datacenterName(for: me) == "eu-west-1a")
    settings.datacenterSource = .zoneID
    #expect(throws: Failure.self) { try settings.datacenterName(for: me) }
    var identity = me
    identity.zoneID = "euw1-az1"
    #expect(try settings.datacenterName(for: identity) == "euw1-az1")
    identity.zoneID = "not a label"
    #expect(throws: Failure.self) { try settings.datacenterName(for: identity) }
  }

  @Test(arguments: [
    (1, "1 server survives no failure: the state of the datacenter is lost with it; use 3 or 5"),
    (2, "2 servers survive no failure, fewer than 1 does: a majority needs both; use 3 or 5"), (3, nil),
    (4, "4 servers survive 1 failure, no more than 3 do; use an odd number"), (5, nil),
    (6, "6 servers survive 2 failures, no more than 5 do; use an odd number"),
  ])
  func `what a number of servers survives`(_ servers: Int, _ warning: String?) {
    #expect(Plan.quorumWarning(servers) == warning)
  }
}

@Suite struct AddressDecisionTests {
  private let interfaces = [
    NetworkInterface(
      deviceNumber: 0, name: "eth0", kind: "interface", privateIPs: [address("10.0.1.10")],
      publicIPs: [address("203.0.113.5"): address("10.0.1.10")]),
    NetworkInterface(
      deviceNumber: 1, name: "eth1", kind: "interface", privateIPs: [address("10.0.9.1"), address("10.0.9.2")],
      publicIPs: [:]),
    NetworkInterface(deviceNumber: 2, name: "eth2", kind: "efa", privateIPs: [address("10.0.8.1")], publicIPs: [:]),
  ]

  private func decide(_ bind: Settings.AddressChoice, _ advertise: Settings.AddressChoice? = nil) throws
    -> AddressDecision
  {
    var identity = me, settings = Settings()
    identity.interfaces = interfaces
    settings.bind = bind
    settings.advertise = advertise
    return try AddressDecision(identity, settings)
  }

  @Test func `the address of a peer corresponds to this machine's`() throws {
    let peer = [
      NetworkInterface(
        deviceNumber: 0, name: nil, kind: "interface", privateIPs: [address("10.0.1.20")],
        publicIPs: [address("203.0.113.6"): address("10.0.1.20")]),
      NetworkInterface(deviceNumber: 1, name: nil, kind: "trunk", privateIPs: [address("10.0.9.19")], publicIPs: [:]),
      NetworkInterface(
        deviceNumber: 2, name: nil, kind: "interface", privateIPs: [address("10.0.9.20")], publicIPs: [:]),
    ]
    for (choice, advertise, expected) in [
      (Settings.AddressChoice.private, Settings.AddressChoice?.none, "10.0.1.20"), (.private, .public, "203.0.113.6"),
      (.network(IPv4Network("10.0.1.0/24")!), nil, "10.0.1.20"), (.address(address("10.0.9.2")), nil, "10.0.9.19"),
    ] {
      #expect(try decide(choice, advertise).peers.address(in: peer)?.description == expected)
    }
    #expect(PeerAddressing.network(IPv4Network("10.0.9.0/24")!).address(in: peer)?.description == "10.0.9.20")
  }

  @Test func `a choice that matches none or several addresses is refused with the choices`() {
    for (choice, details) in [
      (Settings.AddressChoice.interface("eth1"), ["10.0.9.1 (eth1)", "10.0.9.2 (eth1)"]),
      (
        .network(IPv4Network("10.0.8.0/24")!),
        [
          "its addresses are: 10.0.1.10 (eth0), 203.0.113.5 (public, translated to 10.0.1.10 on eth0), "
            + "10.0.9.1 (eth1), 10.0.9.2 (eth1)"
        ]
      ),
      (.interface("eth5"), ["the interfaces are: eth0, eth1, eth2"]), (.public, ["AWS translates it to 10.0.1.10"]),
    ] {
      let failure = #expect(throws: Failure.self) { try decide(choice) }
      #expect(failure?.status == .usage && failure?.details == details)
    }
  }

  @Test(arguments: [
    ("10.0.0.0/16", "0.10.in-addr.arpa"), ("172.31.0.0/16", "31.172.in-addr.arpa"),
    ("10.0.1.0/24", "1.0.10.in-addr.arpa"),
    ("172.16.0.0/12", "172.in-addr.arpa"),
  ])
  func `a network's reverse zone`(_ network: String, _ zone: String) {
    #expect(IPv4Network(network)?.reverseZone == zone)
  }

  @Test(arguments: ["10.0.0.1/16", "10.0.0.0/33", "10.0.0.0", "10.0.0.0/", "x/8", "10.0.0.0/+8"])
  func `text that is not a network`(_ text: String) { #expect(IPv4Network(text) == nil) }
}

@Suite struct VersionedConfigurationTests {
  private func configuration(_ version: ConsulVersion, _ change: (inout Settings, inout Secrets) -> Void) throws
    -> JSONValue
  {
    var settings = Settings(), secrets = Secrets()
    change(&settings, &secrets)
    var seen = observation(machine(version: version))
    seen.secrets = secrets
    return try Plan(seen, settings).configuration.document.value
  }

  private func secure(_ settings: inout Settings, _ secrets: inout Secrets) {
    settings.tls.ca = .file(path: "/ca")
    settings.tls.cert = .ssm(name: "cert")
    settings.tls.key = .ssm(name: "key")
    settings.aclDefaultPolicy = "deny"
    settings.isProduction = true
    secrets.gossipKey = Secret("KEY")
    secrets.agentToken = Secret("TOKEN")
    secrets.ca = .file(path: "/ca")
    secrets.cert = .pem(Secret("CERT"))
    secrets.key = .pem(Secret("PEM"))
  }

  @Test func `TLS and ACLs have the keys of 1.3, 1.8 and 1.12`() throws {
    let oldest = try configuration(ConsulVersion(1, 3, 1), secure),
      old = try configuration(ConsulVersion(1, 8, 7), secure)
    let new = try configuration(ConsulVersion(1, 12), secure)
    #expect(
      oldest["acl_datacenter"] == "dc1" && oldest["acl_default_policy"] == "deny"
        && oldest["acl_agent_token"] == "TOKEN" && oldest["acl"] == nil)
    #expect(
      old["acl"] == ["enabled": true, "default_policy": "deny", "tokens": ["agent": "TOKEN"]]
        && old["acl_datacenter"] == nil)
    #expect(
      old["ca_file"] == "/ca" && old["key_file"] == "/etc/consul.d/tls/key.pem" && old["verify_server_hostname"] == true
        && old["tls"] == nil)
    #expect(
      new["tls"] == [
        "defaults": [
          "ca_file": "/ca", "cert_file": "/etc/consul.d/tls/cert.pem", "key_file": "/etc/consul.d/tls/key.pem",
          "verify_incoming": true,
          "verify_outgoing": true,
        ], "internal_rpc": ["verify_server_hostname": true],
      ])
    #expect(new["ca_file"] == nil && new["encrypt"] == "KEY")
  }

  @Test func `an option that the release does not support is refused by name`() throws {
    for (version, change, message) in [
      (
        ConsulVersion(1, 6, 1), { $0.minQuorum = 3 },
        "Consul 1.6.1 does not support autopilot.min_quorum, which --min-quorum needs"
      ),
      (
        ConsulVersion(1, 5, 1),
        {
          $0.tls.ca = .file(path: "/ca")
          $0.tls.autoEncrypt = true
        }, "Consul 1.5.1 does not support auto_encrypt.allow_tls, which --tls-auto-encrypt needs"
      ),
      (
        ConsulVersion(1, 0, 7), { $0.telemetry = [.init(sink: .prometheus, value: "60s")] },
        "Consul 1.0.7 does not support telemetry.prometheus_retention_time, which --telemetry prometheus needs"
      ),
      (
        ConsulVersion(0, 9, 4), { $0.dnsAddress = .address(address("172.17.0.1")) },
        "Consul 0.9.4 does not support addresses.dns, which --dns-address needs"
      ),
      (ConsulVersion(0, 7, 5), { _ in }, "Consul 0.7.5 is too old"),
    ] as [(ConsulVersion, (inout Settings) -> Void, String)] {
      let failure = #expect(throws: Failure.self) { try configuration(version) { settings, _ in change(&settings) } }
      #expect(failure?.message == message && failure?.status == .configurationRejected)
    }
  }

  @Test func `before 1.0 one client address and raft protocol 3 are written`() throws {
    let value = try configuration(ConsulVersion(0, 8)) { settings, _ in settings.clientAddress = .private }
    #expect(value["client_addr"] == "10.0.1.10" && value["raft_protocol"] == 3)
    #expect(try configuration(ConsulVersion(0, 8)) { _, _ in }["client_addr"] == "127.0.0.1")
    let new = try configuration(ConsulVersion(1, 8)) { settings, _ in settings.clientAddress = .private }
    #expect(new["client_addr"] == "127.0.0.1 10.0.1.10")
    #expect(try configuration(ConsulVersion(1, 0)) { _, _ in }["raft_protocol"] == nil)
  }

  @Test func `a client has no keys of servers`() throws {
    let value = try configuration(ConsulVersion(1, 12)) { settings, _ in
      settings.role = .client
      settings.membership = .groups(["g"])
      settings.tls.ca = .file(path: "/ca")
      settings.tls.autoEncrypt = true
    }
    #expect(value["auto_encrypt"] == ["tls": true] && value["server"] == false)
    for key in ["bootstrap_expect", "performance", "autopilot", "retry_join_wan"] { #expect(value[key] == nil) }
    #expect(value["tls"]?["defaults"]?["verify_incoming"] == nil)
  }

  @Test func `secrets stay out of titles, commands and redacted texts`() throws {
    var settings = Settings(), seen = observation()
    secure(&settings, &seen.secrets)
    let plan = try Plan(seen, settings)
    let shown =
      plan.steps.all.map { "\($0.title) \($0.command?.text ?? "") \($0.file?.text ?? "")" }.joined()
      + plan.configuration.redactedText
      + plan.warnings.joined()
    for secret in ["KEY", "TOKEN", "PEM"] { #expect(!shown.contains(secret)) }
    #expect("\(Secret("x")) \(String(reflecting: Secret("x")))" == "(redacted) (redacted)")
  }
}

@Suite struct ResolverChangeTests {
  private func change(
    _ dns: Settings.DNS, _ machine: MachineObservation, reverse: Bool = false, region: String = "eu-west-1"
  ) throws -> ResolverConfiguration? {
    var settings = Settings()
    var identity = Identity(
      instanceID: me.instanceID, region: region, availabilityZone: me.availabilityZone, privateIP: me.privateIP,
      vpcID: me.vpcID)
    settings.dns = dns
    settings.resolvesReverse = reverse
    identity.vpcNetworks = [IPv4Network("10.0.0.0/16")!]
    return try ResolverConfiguration(settings, identity, machine, agent: address("127.0.0.1"))
  }

  @Test func `systemd-resolved takes a port since 246`() throws {
    var machine = machine(systemd: true)
    machine.systemdVersion = 245
    #expect(throws: Failure.self) { try change(.systemdResolved, machine) }
    machine.systemdVersion = 246
    let text = try change(.systemdResolved, machine, reverse: true)?.text.split(separator: "\n").dropFirst().joined(
      separator: "\n")
    #expect(text == "[Resolve]\nDNS=127.0.0.1:8600\nDomains=~consul ~0.10.in-addr.arpa\nDNSSEC=no")
  }

  /// Regression: in partitions other than China's a name was verified that does not exist, and the change reverted.
  @Test(arguments: [
    ("eu-west-1", "ec2.eu-west-1.amazonaws.com"), ("cn-north-1", "ec2.cn-north-1.amazonaws.com.cn"),
    ("us-iso-east-1", "ec2.us-iso-east-1.c2s.ic.gov"), ("eusc-de-east-1", "ec2.eusc-de-east-1.amazonaws.eu"),
  ])
  func `verifies a name of the region's partition`(_ region: String, _ name: String) throws {
    let change = try change(.port53, machine(), region: region)
    #expect(change?.names == ["consul.service.consul", name])
  }

  @Test func `port 53 puts the agent first, keeps the others and can be reverted`() throws {
    var machine = machine()
    machine.resolverConfiguration = .text("search x\nnameserver 10.0.0.2\n")
    let first = try #require(try change(.port53, machine))
    #expect(
      first.text.split(separator: "\n").dropFirst() == ["nameserver 127.0.0.1", "search x", "nameserver 10.0.0.2"])
    #expect(first.originalText == "search x\nnameserver 10.0.0.2\n")
    machine.resolverConfiguration = .text(first.text)
    #expect(try change(.port53, machine) == first)
    machine.resolverConfigurationIsManaged = true
    #expect(throws: Failure.self) { try change(.port53, machine) }
  }

  /// Guards against 10.0.0.25 removed from the machine's resolvers because the agent is at 10.0.0.2.
  @Test func `port 53 removes the agent's own line, and no other that begins like it`() throws {
    var machine = machine()
    machine.resolverConfiguration = .text("nameserver 127.0.0.11\nnameserver\t127.0.0.1\nnameserver 127.0.0.1 # old\n")
    let change = try #require(try change(.port53, machine))
    #expect(change.text.split(separator: "\n").dropFirst() == ["nameserver 127.0.0.1", "nameserver 127.0.0.11"])
    #expect(change.originalText == "nameserver 127.0.0.11\n")
  }

  /// A file that did not exist is removed again, not left empty.
  @Test func `port 53 without a resolver configuration reverts to none`() throws {
    let change = try #require(try change(.port53, machine()))
    #expect(change.text.split(separator: "\n").dropFirst() == ["nameserver 127.0.0.1"])
    #expect(change.originalText == nil)
  }

  /// Guards against "systemd is not the init system" on a machine that systemd has booted.
  @Test func `a version of systemd that is not known is an error of its own`() throws {
    let unknown = #expect(throws: Failure.self) { try change(.systemdResolved, machine(systemd: true)) }
    #expect(
      unknown
        == Failure(
          .usage, "--dns systemd-resolved: the version of systemd is not known",
          details: ["systemd-resolved forwards to a port since systemd 246"],
          hint: "check systemctl --version, or use --dns dnsmasq or --dns port-53"))
    let without = #expect(throws: Failure.self) { try change(.systemdResolved, machine()) }
    #expect(without?.message == "--dns systemd-resolved: systemd is not the init system here")
  }

  @Test(arguments: [
    (["10.0.0.2", "1.1.1.1"], ["10.0.0.2", "1.1.1.1"]), (["127.0.0.1", "10.0.0.2"], ["10.0.0.2"]),
    (["127.0.0.53"], ["169.254.169.253"]),
    (["10.0.1.10"], ["169.254.169.253"]), ([], ["169.254.169.253"]),
  ])
  func `the agent forwards to the machine's resolvers, never to itself`(_ servers: [String], _ expected: [String]) {
    var settings = Settings(), machine = machine()
    settings.dns = .port53
    machine.nameServers = servers.map(address)
    #expect(
      ResolverConfiguration.recursors(settings, machine, own: [address("10.0.1.10")]).map(\.description) == expected)
    settings.dns = .none
    #expect(ResolverConfiguration.recursors(settings, machine, own: []).isEmpty)
  }
}
