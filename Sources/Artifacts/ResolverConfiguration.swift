package import Base
package import Model

extension ResolverConfiguration {
  /// systemd-resolved takes a port behind a server's address since systemd 246 (systemd NEWS).
  private static let resolvedPortVersion = 246
  private static let stub = IPv4Address("127.0.0.53")!
  private static let loopback = IPv4Address("127.0.0.1")!

  /// Nil where no DNS is asked for.
  /// - Parameter agent: the address at which the agent's DNS answers on this machine.
  /// - Throws: `Failure` with status 2 for a machine that cannot do what is asked.
  package init?(_ settings: Settings, _ identity: Identity, _ machine: MachineObservation, agent: IPv4Address)
    throws(Failure)
  {
    let suffix = identity.region.hasPrefix("cn-") ? "amazonaws.com.cn" : "amazonaws.com"
    let path: String, text: String, server: IPv4Address, restart: Command?
    var originalText: String?
    let names = ["consul.service.consul", "ec2.\(identity.region).\(suffix)"]
    let zones = settings.resolvesReverse ? identity.vpcNetworks.map(\.reverseZone) : []
    let port = settings.dnsPort
    let mark = SystemdUnit.header + ", which overwrites it."
    switch settings.dns {
    case .none: return nil
    case .systemdResolved:
      guard let version = machine.systemdVersion else {
        throw Failure(.usage, "--dns systemd-resolved: systemd is not the init system here", hint: "use --dns port-53")
      }
      guard version >= Self.resolvedPortVersion || port == 53 else {
        throw Failure(
          .usage, "--dns systemd-resolved: systemd \(version) cannot forward to port \(port)",
          details: ["it can since systemd 246"],
          hint: "use --dns dnsmasq or --dns port-53")
      }
      path = "/etc/systemd/resolved.conf.d/consul-bootstrap.conf"
      let domains = (["~consul"] + zones.map { "~\($0)" }).joined(separator: " ")
      text = "\(mark)\n[Resolve]\nDNS=\(agent)\(port == 53 ? "" : ":\(port)")\nDomains=\(domains)\nDNSSEC=no\n"
      restart = Command("/bin/systemctl", ["restart", "systemd-resolved.service"])
      server = Self.stub
    case .dnsmasq:
      guard machine.hasDnsmasq, machine.isBootedBySystemd else {
        throw Failure(
          .usage, "--dns dnsmasq: there is no dnsmasq that systemd runs",
          hint: "install dnsmasq, or use --dns systemd-resolved or --dns port-53")
      }
      path = "/etc/dnsmasq.d/consul-bootstrap.conf"
      text = ([mark] + (["consul"] + zones).map { "server=/\($0)/\(agent)#\(port)" }).joined(separator: "\n") + "\n"
      restart = Command("/bin/systemctl", ["restart", "dnsmasq.service"])
      server = Self.loopback
    case .port53:
      guard !machine.resolverConfigurationIsManaged else {
        throw Failure(
          .usage, "--dns port-53: /etc/resolv.conf is a link, which something else writes",
          hint: "use --dns systemd-resolved, or make it a file")
      }
      path = "/etc/resolv.conf"
      var lines: [String] = []
      if case .text(let text) = machine.resolverConfiguration {
        lines = text.split(separator: "\n").map(String.init).filter {
          !$0.hasPrefix("nameserver \(agent)") && !$0.hasPrefix(SystemdUnit.header)
        }
      }
      originalText = lines.joined(separator: "\n") + "\n"
      // The others stay, so that a machine without its agent still has names.
      text = (["\(SystemdUnit.header): the agent first", "nameserver \(agent)"] + lines).joined(separator: "\n") + "\n"
      restart = nil
      server = agent
    }
    self.init(
      path: path, text: text, originalText: originalText, restart: restart, server: server, names: names)
  }

  /// The VPC's resolver, at any instance.
  private static let vpcResolver = IPv4Address("169.254.169.253")!

  /// Whom the agent asks for other people's names: the machine's own resolvers, never itself.
  package static func recursors(_ settings: Settings, _ machine: MachineObservation, own: Set<IPv4Address>)
    -> [IPv4Address]
  {
    if !settings.recursors.isEmpty { return settings.recursors }
    guard settings.dns != .none else { return [] }
    let found = machine.nameServers.filter { !$0.isLoopback && !$0.isUnspecified && !own.contains($0) }
    return found.isEmpty ? [vpcResolver] : found
  }
}
