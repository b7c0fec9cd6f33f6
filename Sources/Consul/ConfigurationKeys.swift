/// A key of Consul's configuration, by release: the installed version decides on its spelling.
///
/// The releases are those of Consul's changelog. Keys older than 0.8.0, the oldest release supported here, have 0.8.0.
package struct ConfigurationKey: Sendable, Hashable {
  /// The newest spelling.
  package let name: String
  /// Oldest first.
  package let forms: [Form]

  package struct Form: Sendable, Hashable {
    /// The first release that accepts it.
    package let since: ConsulVersion
    /// Dots for nesting; nil where the release needs no such key.
    package let path: String?
  }

  /// The oldest release that this program writes for.
  package static let oldestVersion = ConsulVersion(0, 8)

  /// Nil if that version lacks it.
  package func form(in version: ConsulVersion) -> Form? { forms.last { $0.since <= version } }

  private init(_ name: String, _ forms: (ConsulVersion, String?)...) {
    self.name = name
    self.forms = forms.map { Form(since: $0.0, path: $0.1) }
  }

  /// Spelled alike since 0.8.0.
  private init(_ name: String) { self.init(name, (Self.oldestVersion, name)) }
}

private let v0_8 = ConsulVersion(0, 8)

extension ConfigurationKey {
  package static let datacenter = Self("datacenter")
  package static let nodeName = Self("node_name")
  /// Which instance a node of the catalog is: node names may be anything.
  package static let metaInstanceID = Self("node_meta.\(CatalogNode.instanceIDKey)")
  package static let metaAvailabilityZone = Self("node_meta.\(CatalogNode.availabilityZoneKey)")
  package static let dataDirectory = Self("data_dir")
  package static let server = Self("server")
  package static let bootstrapExpect = Self("bootstrap_expect")
  package static let bindAddress = Self("bind_addr")
  package static let advertiseAddress = Self("advertise_addr")
  package static let advertiseAddressWAN = Self("advertise_addr_wan")
  package static let translateWANAddresses = Self("translate_wan_addrs")
  package static let clientAddress = Self("client_addr")
  /// Several addresses in `client_addr` or `addresses`, blanks between them: 1.0.0.
  package static let clientAddresses = Self("client_addr", (ConsulVersion(1, 0), "client_addr"))
  package static let dnsAddresses = Self("addresses.dns", (ConsulVersion(1, 0), "addresses.dns"))
  package static let dnsPort = Self("ports.dns")
  package static let recursors = Self("recursors")
  package static let retryJoin = Self("retry_join")
  package static let retryInterval = Self("retry_interval")
  package static let retryJoinWAN = Self("retry_join_wan")
  package static let retryIntervalWAN = Self("retry_interval_wan")
  package static let leaveOnTerminate = Self("leave_on_terminate")
  package static let logLevel = Self("log_level")
  package static let enableSyslog = Self("enable_syslog")
  package static let syslogFacility = Self("syslog_facility")
  /// A block since 1.9.0.
  package static let ui = Self("ui_config.enabled", (v0_8, "ui"), (ConsulVersion(1, 9), "ui_config.enabled"))
  package static let raftMultiplier = Self("performance.raft_multiplier")
  /// Under protocol 3 a server keeps its vote at a new address; autopilot needs it. The default since 1.0.0.
  package static let raftProtocol = Self("raft_protocol", (v0_8, "raft_protocol"), (ConsulVersion(1, 0), nil))
  /// Autopilot came with 0.8.0.
  package static let serverStabilizationTime = Self("autopilot.server_stabilization_time")
  package static let cleanupDeadServers = Self("autopilot.cleanup_dead_servers")
  package static let lastContactThreshold = Self("autopilot.last_contact_threshold")
  package static let minQuorum = Self("autopilot.min_quorum", (ConsulVersion(1, 6, 2), "autopilot.min_quorum"))
  package static let encrypt = Self("encrypt")
  /// TLS moved into a block with 1.12.0.
  package static let caFile = tls("ca_file")
  package static let certFile = tls("cert_file")
  package static let keyFile = tls("key_file")
  package static let verifyIncoming = tls("verify_incoming")
  package static let verifyOutgoing = tls("verify_outgoing")
  package static let verifyServerHostname = Self(
    "tls.internal_rpc.verify_server_hostname", (v0_8, "verify_server_hostname"),
    (ConsulVersion(1, 12), "tls.internal_rpc.verify_server_hostname"))
  /// Certificates handed to clients by the servers: 1.5.2.
  package static let autoEncryptTLS = Self("auto_encrypt.tls", (ConsulVersion(1, 5, 2), "auto_encrypt.tls"))
  package static let autoEncryptAllowTLS = Self(
    "auto_encrypt.allow_tls", (ConsulVersion(1, 5, 2), "auto_encrypt.allow_tls"))
  /// The ACL system is new since 1.4.0; before, `acl_datacenter` enabled ACLs.
  package static let aclEnabled = Self("acl.enabled", (ConsulVersion(1, 4), "acl.enabled"))
  package static let aclDatacenter = Self("acl_datacenter", (v0_8, "acl_datacenter"), (ConsulVersion(1, 4), nil))
  package static let aclDefaultPolicy = Self(
    "acl.default_policy", (v0_8, "acl_default_policy"), (ConsulVersion(1, 4), "acl.default_policy"))
  package static let agentToken = Self(
    "acl.tokens.agent", (v0_8, "acl_agent_token"), (ConsulVersion(1, 4), "acl.tokens.agent"))
  package static let statsdAddress = Self("telemetry.statsd_address")
  package static let dogstatsdAddress = Self("telemetry.dogstatsd_addr")
  package static let statsiteAddress = Self("telemetry.statsite_address")
  package static let prometheusRetention = Self(
    "telemetry.prometheus_retention_time", (ConsulVersion(1, 1), "telemetry.prometheus_retention_time"))

  private static func tls(_ key: String) -> Self {
    Self("tls.defaults.\(key)", (v0_8, key), (ConsulVersion(1, 12), "tls.defaults.\(key)"))
  }

  /// Every row, for the tests.
  package static let all: [Self] = [
    datacenter, nodeName, metaInstanceID, metaAvailabilityZone, dataDirectory, server, bootstrapExpect, bindAddress,
    advertiseAddress, advertiseAddressWAN,
    translateWANAddresses, clientAddress, clientAddresses, dnsAddresses, dnsPort, recursors, retryJoin, retryInterval,
    retryJoinWAN,
    retryIntervalWAN, leaveOnTerminate, logLevel, enableSyslog, syslogFacility, ui, raftMultiplier, raftProtocol,
    serverStabilizationTime, cleanupDeadServers, lastContactThreshold, minQuorum, encrypt, caFile, certFile, keyFile,
    verifyIncoming, verifyOutgoing,
    verifyServerHostname, autoEncryptTLS,
    autoEncryptAllowTLS, aclEnabled, aclDatacenter, aclDefaultPolicy, agentToken, statsdAddress, dogstatsdAddress,
    statsiteAddress,
    prometheusRetention,
  ]
}
