import Testing

@testable import Consul

@Suite struct ConfigurationKeyTests {
  /// What each release gets, a row for each key whose spelling or presence depends on it: the last release without, the
  /// first with.
  static let rows: [(ConfigurationKey, ConsulVersion, String?)] = [
    (.ui, ConsulVersion(1, 8, 19), "ui"), (.ui, ConsulVersion(1, 9), "ui_config.enabled"),
    (.ui, ConsulVersion(1, 21), "ui_config.enabled"),
    (.raftProtocol, ConsulVersion(0, 9, 4), "raft_protocol"), (.raftProtocol, ConsulVersion(1, 0), nil),
    (.minQuorum, ConsulVersion(1, 6, 1), nil), (.minQuorum, ConsulVersion(1, 6, 2), "autopilot.min_quorum"),
    (.clientAddresses, ConsulVersion(0, 9, 4), nil), (.clientAddresses, ConsulVersion(1, 0), "client_addr"),
    (.dnsAddresses, ConsulVersion(0, 9, 4), nil), (.dnsAddresses, ConsulVersion(1, 0), "addresses.dns"),
    (.caFile, ConsulVersion(1, 11, 11), "ca_file"), (.caFile, ConsulVersion(1, 12), "tls.defaults.ca_file"),
    (.certFile, ConsulVersion(1, 11, 11), "cert_file"), (.certFile, ConsulVersion(1, 12), "tls.defaults.cert_file"),
    (.keyFile, ConsulVersion(1, 11, 11), "key_file"), (.keyFile, ConsulVersion(1, 12), "tls.defaults.key_file"),
    (.verifyIncoming, ConsulVersion(1, 11, 11), "verify_incoming"),
    (.verifyIncoming, ConsulVersion(1, 12), "tls.defaults.verify_incoming"),
    (.verifyOutgoing, ConsulVersion(1, 11, 11), "verify_outgoing"),
    (.verifyOutgoing, ConsulVersion(1, 12), "tls.defaults.verify_outgoing"),
    (.verifyServerHostname, ConsulVersion(1, 11, 11), "verify_server_hostname"),
    (.verifyServerHostname, ConsulVersion(1, 12), "tls.internal_rpc.verify_server_hostname"),
    (.autoEncryptTLS, ConsulVersion(1, 5, 1), nil), (.autoEncryptTLS, ConsulVersion(1, 5, 2), "auto_encrypt.tls"),
    (.autoEncryptAllowTLS, ConsulVersion(1, 5, 1), nil),
    (.autoEncryptAllowTLS, ConsulVersion(1, 5, 2), "auto_encrypt.allow_tls"),
    (.aclEnabled, ConsulVersion(1, 3, 1), nil), (.aclEnabled, ConsulVersion(1, 4), "acl.enabled"),
    (.aclDatacenter, ConsulVersion(1, 3, 1), "acl_datacenter"), (.aclDatacenter, ConsulVersion(1, 4), nil),
    (.aclDefaultPolicy, ConsulVersion(1, 3, 1), "acl_default_policy"),
    (.aclDefaultPolicy, ConsulVersion(1, 4), "acl.default_policy"),
    (.agentToken, ConsulVersion(1, 3, 1), "acl_agent_token"), (.agentToken, ConsulVersion(1, 4), "acl.tokens.agent"),
    (.prometheusRetention, ConsulVersion(1, 0, 7), nil),
    (.prometheusRetention, ConsulVersion(1, 1), "telemetry.prometheus_retention_time"),
  ]

  @Test(arguments: rows)
  func `a release gets the key that it knows`(_ key: ConfigurationKey, _ version: ConsulVersion, _ path: String?) {
    #expect(key.form(in: version)?.path == path)
  }

  /// A row is missing above if this fails.
  @Test func `every key is either written alike by all releases or has its rows above`() {
    let tested = Set(Self.rows.map(\.0))
    for key in ConfigurationKey.all {
      let isPlain = key.forms.count == 1 && key.forms[0].since == ConfigurationKey.oldestVersion
      #expect(isPlain == !tested.contains(key), "\(key.name)")
      if isPlain { #expect(key.forms[0].path == key.name) }
    }
  }
}
