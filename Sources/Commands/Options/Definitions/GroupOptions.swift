internal import Base
internal import Model

extension Option {
  static let groupOptions: [Option] = [
    Option(
      .group, "role", .value("server|client"), default: .value("server"),
      "role of this instance; a client requires --group or --tag of the servers"
    ) { value, options throws(OptionValueError) in
      options.settings.role = try choice(value)
    },
    Option(
      .group, "layout", .value("single|datacenter-per-az"), default: .value("single"),
      "one datacenter, or one datacenter for each availability zone, joined over the WAN"
    ) { value, options throws(OptionValueError) in
      options.settings.layout = try choice(value)
    },
    Option(
      .group, "group", .list("NAME"), default: .described("the group of this instance"),
      "Auto Scaling group whose instances are the servers"
    ) { value, options throws(OptionValueError) in
      options.groups.append(try nonEmpty(value))
    },
    Option(
      .group, "tag", .list("KEY=VALUE"),
      "discover the servers by tag instead, among the instances of this VPC; "
        + "all tags must match"
    ) { value, options throws(OptionValueError) in
      let halves = value.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard halves.count == 2, !halves[0].isEmpty else { throw OptionValueError(expectation: "must be KEY=VALUE") }
      options.tags.append(.init(key: String(halves[0]), value: String(halves[1])))
    },
    Option(
      .group, "expect", .value("N"), default: .described("the desired capacity of the group"),
      "number of servers of a datacenter; required with --tag; with --layout datacenter-per-az, "
        + "the servers of one zone"
    ) { value, options throws(OptionValueError) in
      options.settings.expect = try integer(value, 1...1000)
    },
    Option(
      .group, "assume-dead", .list("INSTANCE"), example: "i-0123456789abcdef0",
      "do not wait for this instance, whose data will not come back: it may then be left out of a new cluster"
    ) { value, options throws(OptionValueError) in
      options.settings.assumedDead.insert(try instanceID(value))
    },
    Option(
      .group, "wait-timeout", .value("DURATION"), default: .value("10m"),
      "maximum time to wait until the group is complete"
    ) { value, options throws(OptionValueError) in
      options.settings.waitTimeout = try duration(value)
    },
    Option(
      .group, "wan-wait", .value("DURATION"), default: .value("60s"),
      "maximum time that a new datacenter waits to discover the servers of the other zones"
    ) { value, options throws(OptionValueError) in
      options.settings.wanWait = try duration(value, from: .zero)
    },
    Option(
      .group, "start-jitter", .value("DURATION"), default: .described("10s for clients, none for servers"),
      "maximum random delay before the first AWS call, to spread the calls of a fleet"
    ) { value, options throws(OptionValueError) in
      options.settings.startJitter = try duration(value, from: .zero)
    },
  ]
}
