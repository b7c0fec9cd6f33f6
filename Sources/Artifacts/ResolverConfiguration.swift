internal import AWS
package import Base
package import Model

extension ResolverConfiguration {
  /// systemd-resolved forwards to a port of a server since systemd 246 (systemd NEWS).
  private static let resolvedPortVersion = 246
  private static let stub = IPv4Address("127.0.0.53")!
  private static let loopback = IPv4Address("127.0.0.1")!

  /// Nil if the settings leave the resolver unchanged.
  /// - Parameter agent: address at which this machine reaches the agent's DNS interface.
  /// - Throws: `Failure` with status 2 for a machine that does not support the setting.
  package init?(_ settings: Settings, _ identity: Identity, _ machine: MachineObservation, agent: IPv4Address)
    throws(Failure)
  {
    let path: String, text: String, server: IPv4Address, restart: Command?
    var originalText: String?
    let names = ["consul.service.consul", "ec2.\(identity.region).\(Partition.of(region: identity.region).suffix)"]
    let zones = settings.resolvesReverse ? identity.vpcNetworks.map(\.reverseZone) : []
    let port = settings.dnsPort
    let header = SystemdUnit.header + ", which overwrites it."
    switch settings.dns {
    case .none: return nil
    case .systemdResolved:
      guard machine.isBootedBySystemd else {
        throw Failure(.usage, "--dns systemd-resolved: systemd is not the init system here", hint: "use --dns port-53")
      }
      guard let version = machine.systemdVersion else {
        throw Failure(
          .usage, "--dns systemd-resolved: the version of systemd is not known",
          details: ["systemd-resolved forwards to a port since systemd 246"],
          hint: "check systemctl --version, or use --dns dnsmasq or --dns port-53")
      }
      guard version >= Self.resolvedPortVersion || port == 53 else {
        throw Failure(
          .usage, "--dns systemd-resolved: systemd \(version) cannot forward to port \(port)",
          details: ["it forwards to a port since systemd 246"],
          hint: "use --dns dnsmasq or --dns port-53")
      }
      path = "/etc/systemd/resolved.conf.d/consul-bootstrap.conf"
      let domains = (["~consul"] + zones.map { "~\($0)" }).joined(separator: " ")
      text = "\(header)\n[Resolve]\nDNS=\(agent)\(port == 53 ? "" : ":\(port)")\nDomains=\(domains)\nDNSSEC=no\n"
      restart = .systemctl("restart", "systemd-resolved.service")
      server = Self.stub
    case .dnsmasq:
      guard machine.hasDnsmasq, machine.isBootedBySystemd else {
        throw Failure(
          .usage, "--dns dnsmasq: there is no dnsmasq that systemd runs",
          hint: "install dnsmasq, or use --dns systemd-resolved or --dns port-53")
      }
      path = "/etc/dnsmasq.d/consul-bootstrap.conf"
      text = ([header] + (["consul"] + zones).map { "server=/\($0)/\(agent)#\(port)" }).joined(separator: "\n") + "\n"
      restart = .systemctl("restart", "dnsmasq.service")
      server = Self.loopback
    case .port53:
      guard !machine.resolverConfigurationIsManaged else {
        throw Failure(
          .usage, "--dns port-53: /etc/resolv.conf is a symbolic link, whose target another program writes",
          hint: "use --dns systemd-resolved, or replace the link by a file")
      }
      path = "/etc/resolv.conf"
      // The other servers stay, so that the machine still resolves names without its agent.
      var lines: [Substring] = []
      if case .text(let text) = machine.resolverConfiguration {
        lines = text.split(separator: "\n").filter { line in
          line.split { $0 == " " || $0 == "\t" }.prefix(2) != ["nameserver", "\(agent)"]
            && !line.hasPrefix(SystemdUnit.header)
        }
        originalText = lines.joined(separator: "\n") + "\n"
      }
      text = "\(SystemdUnit.header): the agent first\nnameserver \(agent)\n" + lines.map { "\($0)\n" }.joined()
      restart = nil
      server = agent
    }
    self.init(
      path: path, text: text, originalText: originalText, restart: restart, server: server, names: names)
  }

  /// Address of the VPC's resolver on every instance.
  private static let vpcResolver = IPv4Address("169.254.169.253")!

  /// Servers that the agent forwards other names to: the machine's resolvers, never the agent itself.
  /// - Parameter own: addresses of this machine.
  package static func recursors(_ settings: Settings, _ machine: MachineObservation, own: Set<IPv4Address>)
    -> [IPv4Address]
  {
    if !settings.recursors.isEmpty { return settings.recursors }
    guard settings.dns != .none else { return [] }
    let found = machine.nameServers.filter { !$0.isLoopback && !$0.isUnspecified && !own.contains($0) }
    return found.isEmpty ? [vpcResolver] : found
  }
}
