internal import Base
internal import Decisions
internal import Model

extension Option {
  static let networkOptions = [
    Option(
      .network, "bind", .value("ADDRESS"), default: "private",
      "the address that the agent binds: private (the primary one), public, an interface, a network or an address"
    ) { value, options throws(OptionValueError) in options.settings.bind = try addressChoice(value) },
    Option(
      .network, "advertise", .value("ADDRESS"), default: "the bound address",
      "the address that others meet the agent under; said as for --bind; peers are met under their corresponding address"
    ) { value, options throws(OptionValueError) in options.settings.advertise = try addressChoice(value) },
    Option(
      .network, "wan-address", .value("private|public"), default: "private",
      "the addresses under which servers of different zones meet; public also sets translate_wan_addrs"
    ) { value, options throws(OptionValueError) in options.settings.wanAddress = try choice(value) },
    Option(
      .network, "dns", .value("none|systemd-resolved|dnsmasq|port-53"), default: "none",
      "how this machine resolves names under consul: systemd-resolved or dnsmasq forward them to the agent, or the agent serves port 53 itself; "
        + "tried, and undone if names do not resolve"
    ) { value, options throws(OptionValueError) in options.settings.dns = try choice(value) },
    Option(.network, "dns-reverse", .flag, default: "false", "forward the VPC's reverse zones as well") {
      value, options throws(OptionValueError) in options.settings.resolvesReverse = try boolean(value)
    },
    Option(
      .network, "dns-address", .value("docker-bridge|ADDRESS"),
      "where the agent serves DNS beside loopback: docker0's address, for containers, or another"
    ) {
      value, options throws(OptionValueError) in
      options.settings.dnsAddress = value == "docker-bridge" ? .dockerBridge : .address(try address(value))
    },
    Option(
      .network, "recursor", .list("ADDRESS"), default: "with --dns, this machine's resolvers",
      "whom the agent asks for names that are not Consul's; the VPC's resolver where the machine names none"
    ) { value, options throws(OptionValueError) in options.settings.recursors.append(try address(value)) },
  ]
}
