internal import Base
internal import Model

extension Option {
  static let configurationOptions: [Option] = [
    Option(
      .configuration, "datacenter", .value("NAME"), default: .value("dc1"),
      "name of the datacenter"
    ) { value, options throws(OptionValueError) in
      guard NameTemplate.isLabel(value) else {
        throw OptionValueError(expectation: "must be a DNS label: letters, digits and hyphens, at most 63")
      }
      options.settings.datacenter = value
    },
    Option(
      .configuration, "datacenter-from", .value("zone-name|zone-id"), default: .value("zone-name"), example: "zone-id",
      "name datacenters by the zone's name or by its ID; a name means different zones in different "
        + "accounts"
    ) { value, options throws(OptionValueError) in
      options.settings.datacenterSource = try choice(value)
    },
    Option(
      .configuration, "node-name", .value("TEMPLATE"), default: .value("{instance_id}"),
      "node name, a DNS label; takes the fields of --hostname"
    ) { value, options throws(OptionValueError) in
      options.settings.nodeName = try template(value)
    },
    Option(
      .configuration, "client-addr", .value("ADDRESSES"), default: .value("127.0.0.1"), example: "private",
      "addresses of the agent's HTTP and DNS interfaces; private: 127.0.0.1 and the private address"
    ) { value, options throws(OptionValueError) in
      let text = try nonEmpty(value)
      options.settings.clientAddress =
        switch text {
        case "private": .private
        case "127.0.0.1": .loopback
        default: .addresses(text)
        }
    },
    Option(
      .configuration, "ui", .flag, default: .value("false"), example: "true",
      "enable the web UI"
    ) { value, options throws(OptionValueError) in
      options.settings.ui = try boolean(value)
    },
    Option(
      .configuration, "consul-log-level", .value("LEVEL"), default: .value("info"),
      "log level of the agent: trace, debug, info, warn, err"
    ) { value, options throws(OptionValueError) in
      guard ["trace", "debug", "info", "warn", "err", "error"].contains(value.lowercased()) else {
        throw OptionValueError(expectation: "must be trace, debug, info, warn or err")
      }
      options.settings.consulLogLevel = value.lowercased()
    },
    Option(
      .configuration, "raft-multiplier", .value("N"), default: .value("1"),
      "Consul's performance.raft_multiplier; Consul's default is 5"
    ) { value, options throws(OptionValueError) in
      options.settings.raftMultiplier = try integer(value, 1...10)
    },
    Option(
      .configuration, "retry-interval", .value("DURATION"), default: .value("1s"),
      "interval between join attempts; Consul's default is 30s"
    ) { value, options throws(OptionValueError) in
      options.settings.retryInterval = try duration(value)
    },
    Option(
      .configuration, "server-stabilization-time", .value("DURATION"), default: .described("1s"),
      "time for which a new server must be healthy before it becomes a voter; Consul's default is 10s"
    ) { value, options throws(OptionValueError) in
      options.settings.serverStabilizationTime = try duration(value)
    },
    Option(
      .configuration, "cleanup-dead-servers", .value("true|false"), default: .described("Consul's own, true"),
      example: "true",
      "let autopilot remove dead servers once their replacements have joined"
    ) { value, options throws(OptionValueError) in
      options.settings.cleanupDeadServers = try boolean(value)
    },
    Option(
      .configuration, "last-contact-threshold", .value("DURATION"), default: .described("Consul's own, 200ms"),
      "maximum time since last leader contact before a server counts as unhealthy"
    ) { value, options throws(OptionValueError) in
      options.settings.lastContactThreshold = try duration(value)
    },
    Option(
      .configuration, "min-quorum", .value("N"),
      "number of servers below which autopilot removes none (Consul 1.6.2 or newer)"
    ) { value, options throws(OptionValueError) in
      options.settings.minQuorum = try integer(value, 1...1000)
    },
    Option(
      .configuration, "syslog", .value("FACILITY"), example: "LOCAL0",
      "also log the agent to syslog, for example to LOCAL0"
    ) { value, options throws(OptionValueError) in
      let facilities =
        ["KERN", "USER", "MAIL", "DAEMON", "AUTH", "SYSLOG", "LPR", "NEWS", "UUCP", "CRON", "AUTHPRIV", "FTP"]
        + (0...7).map { "LOCAL\($0)" }
      guard facilities.contains(value.uppercased()) else {
        throw OptionValueError(expectation: "must be a syslog facility such as LOCAL0 or DAEMON")
      }
      options.settings.syslog = value.uppercased()
    },
    Option(
      .configuration, "telemetry", .list("SINK=VALUE"), example: "statsd=127.0.0.1:8125",
      "send metrics to statsd=, dogstatsd= or statsite=HOST:PORT, or retain them for prometheus=DURATION"
    ) { value, options throws(OptionValueError) in
      options.settings.telemetry.append(try telemetry(value))
    },
    Option(
      .configuration, "leave-on-terminate", .value("true|false"), default: .value("true"),
      "leave the cluster gracefully when the agent stops"
    ) { value, options throws(OptionValueError) in
      options.settings.leaveOnTerminate = try boolean(value)
    },
    Option(
      .configuration, "merge", .list("FILE"), example: "/m.json",
      "JSON file to merge over the configuration; null removes a key"
    ) { value, options throws(OptionValueError) in
      options.mergeFiles.append(try path(value))
    },
    Option(
      .configuration, "set", .list("KEY=JSON"), example: "a.b=1",
      "one key to merge last, with dots for nesting: --set ports.dns=53"
    ) { value, options throws(OptionValueError) in
      options.sets.append(try setting(value))
    },
  ]
}
