internal import Base
internal import Model

extension Option {
  static let networkOptions: [Option] = [
    Option(
      .network, "bind", .value("ADDRESS"), default: .value("private"),
      "address that the agent binds: private (the primary one), public, an interface, a network or an address"
    ) { value, options throws(OptionValueError) in
      options.settings.bind = try addressChoice(value)
    },
    Option(
      .network, "advertise", .value("ADDRESS"), default: .described("the address that the agent binds"),
      example: "public",
      "address advertised to other agents; takes the same values as --bind; peers are contacted in the same network, "
        + "or on the interface with the same device number"
    ) { value, options throws(OptionValueError) in
      options.settings.advertise = try addressChoice(value)
    },
    Option(
      .network, "wan-address", .value("private|public"), default: .value("private"), example: "public",
      "addresses over which the servers of different zones connect; public also sets translate_wan_addrs"
    ) { value, options throws(OptionValueError) in
      options.settings.wanAddress = try choice(value)
    },
    Option(
      .network, "dns", .value("none|systemd-resolved|dnsmasq|port-53"), default: .value("none"), example: "port-53",
      "how this machine resolves names under consul: systemd-resolved or dnsmasq forward them to the agent, or "
        + "the agent serves port 53; undone if names do not resolve"
    ) { value, options throws(OptionValueError) in
      options.settings.dns = try choice(value)
    },
    Option(
      .network, "dns-reverse", .flag, default: .value("false"),
      "also forward the reverse zones of the VPC"
    ) { value, options throws(OptionValueError) in
      options.settings.resolvesReverse = try boolean(value)
    },
    Option(
      .network, "dns-address", .value("docker-bridge|ADDRESS"), example: "docker-bridge",
      "additional address of the agent's DNS interface: that of docker0, for containers, or another"
    ) { value, options throws(OptionValueError) in
      options.settings.dnsAddress = value == "docker-bridge" ? .dockerBridge : .address(try address(value))
    },
    Option(
      .network, "recursor", .list("ADDRESS"), default: .described("with --dns, the name servers of this machine"),
      example: "10.0.0.2",
      "name server that the agent queries for names outside Consul; if this machine has none, the VPC's resolver"
    ) { value, options throws(OptionValueError) in
      options.settings.recursors.append(try address(value))
    },
  ]
}
