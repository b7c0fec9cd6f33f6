package import Base
package import Consul
package import Model

/// The agent's configuration, in the keys of the installed release of Consul (Consul documentation, "Agents
/// Configuration File Reference"; `ConfigurationKey` lists the releases).
package struct AgentConfiguration: Sendable, Equatable {
  package let document: SecretDocument

  /// Text of the file: equal settings give equal bytes.
  package var text: Secret { document.text }
  /// The text for reports, without secrets.
  package var redactedText: String { document.redacted.prettyText }

  /// The addresses that the agent binds and advertises.
  package struct Addresses: Sendable, Equatable {
    package let bind: IPv4Address
    package let advertise: IPv4Address
    /// Address advertised to other datacenters; nil: the advertised address.
    package let advertiseWAN: IPv4Address?

    package init(bind: IPv4Address, advertise: IPv4Address, advertiseWAN: IPv4Address?) {
      self.bind = bind
      self.advertise = advertise
      self.advertiseWAN = advertiseWAN
    }
  }

  /// What the configuration depends on besides the settings and the release.
  package struct Parts: Sendable {
    package let identity: Identity
    package let datacenter: String
    /// Value of `bootstrap_expect`; nil for clients, and for a server that joins or rejoins.
    package let bootstrapExpect: Int?
    package let addresses: Addresses
    /// Value of `retry_join`.
    package let peers: [IPv4Address]
    /// Value of `retry_join_wan`.
    package let wanPeers: [IPv4Address]
    package let recursors: [IPv4Address]
    /// Additional address of the DNS interface; nil: none.
    package let dnsAddress: IPv4Address?
    package let secrets: Secrets

    package init(
      identity: Identity, datacenter: String, bootstrapExpect: Int?, addresses: Addresses, peers: [IPv4Address],
      wanPeers: [IPv4Address], recursors: [IPv4Address], dnsAddress: IPv4Address?, secrets: Secrets
    ) {
      self.identity = identity
      self.datacenter = datacenter
      self.bootstrapExpect = bootstrapExpect
      self.addresses = addresses
      self.peers = peers
      self.wanPeers = wanPeers
      self.recursors = recursors
      self.dnsAddress = dnsAddress
      self.secrets = secrets
    }
  }

  /// - Throws: `Failure` with status 14 for an option that needs a newer Consul.
  package init(_ settings: Settings, _ parts: Parts, version: ConsulVersion) throws(Failure) {
    guard version >= ConfigurationKey.oldestVersion else {
      throw Failure(
        .configurationRejected, "Consul \(version) is too old",
        details: ["the oldest supported release is \(ConfigurationKey.oldestVersion)"],
        hint: "install a newer Consul")
    }
    var keys = KeyWriter(version: version)
    let identity = parts.identity, isServer = settings.role == .server
    keys.set(.datacenter, .string(parts.datacenter))
    keys.set(.nodeName, .string(settings.nodeName.expanded(for: identity)))
    keys.set(.metaInstanceID, .string(identity.instanceID))
    keys.set(.metaAvailabilityZone, .string(identity.availabilityZone))
    keys.set(.dataDirectory, .string(settings.dataDirectory))
    keys.set(.server, .bool(isServer))
    keys.set(.logLevel, .string(settings.consulLogLevel.uppercased()))
    // A server leaves by this program, which asks first whether the others keep their quorum.
    keys.set(.leaveOnTerminate, .bool(settings.leaveOnTerminate && !isServer))
    Self.addresses(settings, parts, &keys)
    keys.set(.retryJoin, .strings(parts.peers.map(\.description)))
    keys.set(.retryInterval, .string(settings.retryInterval.goText))
    if isServer {
      if let expect = parts.bootstrapExpect { keys.set(.bootstrapExpect, .integer(Int64(expect))) }
      keys.set(.raftMultiplier, .integer(Int64(settings.raftMultiplier)))
      keys.set(.raftProtocol, 3)
      if settings.layout == .datacenterPerAZ {
        keys.set(.retryJoinWAN, .strings(parts.wanPeers.map(\.description)))
        keys.set(.retryIntervalWAN, .string(settings.retryInterval.goText))
      }
      Self.autopilot(settings, &keys)
    }
    if settings.ui { keys.set(.ui, true) }
    Self.dns(settings, parts, &keys)
    Self.security(settings, parts, &keys)
    Self.reporting(settings, &keys)
    if let (option, key) = keys.unsupported {
      throw Failure(
        .configurationRejected, "Consul \(version) does not support \(key.name), which \(option) needs",
        details: ["Consul supports it since \(key.forms[0].since)"],
        hint: "install a newer Consul, or remove \(option)")
    }
    document = SecretDocument(settings.overlays.reduce(keys.value) { $0.merging($1.value.value) })
  }

  private static func addresses(_ settings: Settings, _ parts: Parts, _ keys: inout KeyWriter) {
    let addresses = parts.addresses
    keys.set(.bindAddress, .string(addresses.bind.description))
    if addresses.advertise != addresses.bind { keys.set(.advertiseAddress, .string(addresses.advertise.description)) }
    if let wan = addresses.advertiseWAN {
      keys.set(.advertiseAddressWAN, .string(wan.description))
      keys.set(.translateWANAddresses, true)
    }
    switch settings.clientAddress {
    case .loopback: keys.set(.clientAddress, .string(AgentInterface.loopback.description))
    case .private where keys.supports(.clientAddresses):
      keys.set(.clientAddresses, .string("\(AgentInterface.loopback) \(addresses.bind)"))
    case .private: keys.set(.clientAddress, .string(addresses.bind.description))
    case .addresses(let chosen): keys.set(.clientAddress, .string(chosen))
    }
  }

  private static func autopilot(_ settings: Settings, _ keys: inout KeyWriter) {
    keys.set(.serverStabilizationTime, .string((settings.serverStabilizationTime ?? .seconds(1)).goText))
    if let cleanup = settings.cleanupDeadServers { keys.set(.cleanupDeadServers, .bool(cleanup)) }
    if let threshold = settings.lastContactThreshold { keys.set(.lastContactThreshold, .string(threshold.goText)) }
    if let quorum = settings.minQuorum { keys.set(.minQuorum, .integer(Int64(quorum)), for: "--min-quorum") }
  }

  private static func dns(_ settings: Settings, _ parts: Parts, _ keys: inout KeyWriter) {
    if !parts.recursors.isEmpty { keys.set(.recursors, .strings(parts.recursors.map(\.description))) }
    if settings.dns == .port53 { keys.set(.dnsPort, 53) }
    if let address = parts.dnsAddress { keys.set(.dnsAddresses, .string("127.0.0.1 \(address)"), for: "--dns-address") }
  }

  private static func security(_ settings: Settings, _ parts: Parts, _ keys: inout KeyWriter) {
    let secrets = parts.secrets, tls = settings.tls
    if let key = secrets.gossipKey { keys.set(.encrypt, .string(key.value)) }
    if let policy = settings.aclDefaultPolicy {
      if keys.supports(.aclEnabled) {
        keys.set(.aclEnabled, true)
      } else {
        keys.set(.aclDatacenter, .string(parts.datacenter))
      }
      keys.set(.aclDefaultPolicy, .string(policy))
      if let token = secrets.agentToken { keys.set(.agentToken, .string(token.value)) }
    }
    for (key, material, name) in [
      (ConfigurationKey.caFile, secrets.ca, "ca"), (.certFile, secrets.cert, "cert"), (.keyFile, secrets.key, "key"),
    ] {
      guard let material else { continue }
      keys.set(key, .string(material.path(in: settings.tlsDirectory, name: name)))
    }
    guard tls.ca != nil else { return }
    let getsCertificate = tls.autoEncrypt && settings.role == .client
    if getsCertificate {
      keys.set(.autoEncryptTLS, true, for: "--tls-auto-encrypt")
    } else {
      if tls.autoEncrypt { keys.set(.autoEncryptAllowTLS, true, for: "--tls-auto-encrypt") }
      keys.set(.verifyIncoming, .bool(tls.verifyIncoming ?? (tls.cert != nil)))
    }
    keys.set(.verifyOutgoing, .bool(tls.verifyOutgoing ?? true))
    keys.set(.verifyServerHostname, .bool(tls.verifyServerHostname ?? settings.isProduction))
  }

  private static func reporting(_ settings: Settings, _ keys: inout KeyWriter) {
    if let facility = settings.syslog {
      keys.set(.enableSyslog, true)
      keys.set(.syslogFacility, .string(facility))
    }
    for telemetry in settings.telemetry {
      let key: ConfigurationKey =
        switch telemetry.sink {
        case .statsd: .statsdAddress
        case .dogstatsd: .dogstatsdAddress
        case .statsite: .statsiteAddress
        case .prometheus: .prometheusRetention
        }
      keys.set(key, .string(telemetry.value), for: "--telemetry \(telemetry.sink.rawValue)")
    }
  }

  /// Keys that an agent uses only when it starts: a change of these alone needs no reload.
  package static let joinKeys: Set = [
    "bootstrap_expect", "retry_join", "retry_interval", "retry_join_wan", "retry_interval_wan", "retry_max",
  ]

  /// Top-level keys in which two configurations differ.
  package static func changedKeys(_ old: SecretDocument?, _ new: SecretDocument) -> Set<String> {
    let old = old?.value.object ?? [:], new = new.value.object ?? [:]
    return Set(old.keys).union(new.keys).filter { old[$0] != new[$0] }
  }
}

/// Sets keys under the paths that a release supports.
private struct KeyWriter {
  let version: ConsulVersion
  private(set) var value = JSONValue.object([:])
  /// The first option whose key the release does not support.
  private(set) var unsupported: (option: String, key: ConfigurationKey)?

  init(version: ConsulVersion) { self.version = version }

  func supports(_ key: ConfigurationKey) -> Bool { key.form(in: version) != nil }

  mutating func set(_ key: ConfigurationKey, _ new: JSONValue, for option: String? = nil) {
    guard let form = key.form(in: version) else {
      if unsupported == nil { unsupported = (option ?? key.name, key) }
      return
    }
    guard let path = form.path else { return }
    value = value.merging(path.split(separator: ".").reversed().reduce(new) { .object([String($1): $0]) })
  }
}

extension Secrets.TLSMaterial {
  /// Path at which the agent reads the material.
  package func path(in directory: String, name: String) -> String {
    switch self {
    case .file(let path): path
    case .pem: "\(directory)/\(name).pem"
    }
  }
}
