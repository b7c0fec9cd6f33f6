package import Base
internal import Consul

extension Settings {
  /// Kind of address under which servers of different datacenters reach each other.
  package enum WANAddress: String, Sendable, CaseIterable {
    case `private`, `public`
  }

  /// Which of this machine's addresses.
  package enum AddressChoice: Sendable, Equatable {
    /// The primary private address of the primary interface.
    case `private`
    /// The public address that AWS translates to one of the private addresses.
    case `public`
    /// The address of the interface with this name.
    case interface(String)
    /// The address in this network.
    case network(IPv4Network)
    case address(IPv4Address)
  }

  /// Addresses of the agent's HTTP and DNS interfaces.
  package enum ClientAddress: Sendable, Equatable {
    case loopback
    /// Loopback, and the address that the agent binds.
    case `private`
    /// As Consul's `client_addr` takes them.
    case addresses(String)
  }

  /// What the options alone make of the agent's interfaces: for a look before our file is written.
  package var interfaces: SecretDocument {
    let address =
      switch clientAddress {
      case .loopback: "127.0.0.1"
      case .private: "127.0.0.1 {{ GetPrivateIP }}"
      case .addresses(let chosen): chosen
      }
    return SecretDocument(overlays.reduce(["client_addr": .string(address)]) { $0.merging($1.value.value) })
  }

  /// How this machine resolves Consul's names.
  package enum DNS: String, Sendable, CaseIterable {
    case none
    case systemdResolved = "systemd-resolved"
    case dnsmasq
    /// The agent answers on port 53, and `/etc/resolv.conf` names it first.
    case port53 = "port-53"
  }

  /// Additional address of the agent's DNS interface.
  package enum DNSAddress: Sendable, Equatable {
    /// That of Docker's bridge, for containers.
    case dockerBridge
    case address(IPv4Address)
  }

  /// A port of the agent by its key under `ports`, as the overlays or other files of the configuration directory set
  /// it; not positive if they disable it.
  package func port(_ key: String, otherwise standard: Int64) -> Int64 {
    overlays.reduce(inheritedPorts[key] ?? standard) { port, overlay in overlay.value["ports"]?[key]?.integer ?? port }
  }

  /// The same settings beside these files, which set ports for all servers alike, and the material for TLS between
  /// them.
  package func besideFiles(_ files: [OtherConfigurationFile]) -> Settings {
    var settings = self
    let ports = MergedConfiguration(nil, at: "", beside: files)["ports"]?.object ?? [:]
    settings.inheritedPorts = ports.compactMapValues(\.wholeNumber)
    // Our own file sets it.
    if dns == .port53 { settings.inheritedPorts["dns"] = nil }
    settings.inheritedTLS = InheritedTLS(MergedConfiguration(interfaces, at: configurationPath, beside: files))
    return settings
  }

  /// Port of the agent's DNS interface.
  package var dnsPort: Int64 { port("dns", otherwise: dns == .port53 ? 53 : 8600) }

  /// Port of every server's RPC, which raft uses, too.
  package var serverPort: Int64 { port("server", otherwise: 8300) }

  /// Port of every server's HTTP API: the servers of a group are configured alike.
  package var httpPort: Int64 { port("http", otherwise: 8500) }
}
