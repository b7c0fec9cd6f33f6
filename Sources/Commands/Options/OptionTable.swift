internal import Base
internal import Decisions
internal import Model

/// Every option, in the order of help and README.
extension Option {
  package static let all: [Option] =
    groupOptions + clusterOptions + configurationOptions + networkOptions + securityOptions + logOptions
    + machineOptions + runOptions

  private static let groupOptions = [
    Option(
      .group, "role", .value("server|client"), default: "server",
      "what this instance is; a client needs the servers' --group or --tag"
    ) {
      value, options throws(OptionValueError) in options.settings.role = try choice(value)
    },
    Option(
      .group, "layout", .value("single|datacenter-per-az"), default: "single",
      "one datacenter, or one for each availability zone, WAN-joined with the others"
    ) { value, options throws(OptionValueError) in options.settings.layout = try choice(value) },
    Option(
      .group, "group", .list("NAME"), default: "this instance's group",
      "Auto Scaling group whose instances are the servers"
    ) { value, options throws(OptionValueError) in options.groups.append(try nonEmpty(value)) },
    Option(
      .group, "tag", .list("KEY=VALUE"),
      "find the servers by tag instead, among this VPC's pending and running instances; all tags must match"
    ) { value, options throws(OptionValueError) in
      let halves = value.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard halves.count == 2, !halves[0].isEmpty else { throw OptionValueError(expectation: "must be KEY=VALUE") }
      options.tags.append(.init(key: String(halves[0]), value: String(halves[1])))
    },
    Option(
      .group, "expect", .value("N"), default: "the group's desired capacity",
      "servers that make a datacenter; needed with --tag; in the layout of one for each zone, the servers of a zone"
    ) { value, options throws(OptionValueError) in options.settings.expect = try integer(value, 1...1000) },
    Option(
      .group, "wait-timeout", .value("DURATION"), default: "10m", "how long the group may take to be complete"
    ) { value, options throws(OptionValueError) in options.settings.waitTimeout = try duration(value) },
    Option(
      .group, "wan-wait", .value("DURATION"), default: "60s",
      "how long a new datacenter waits for the servers of other zones to be known"
    ) { value, options throws(OptionValueError) in options.settings.wanWait = try duration(value) },
    Option(
      .group, "start-jitter", .value("DURATION"), default: "10s for clients",
      "wait a random time up to this before the first call to AWS, for fleets that boot at once"
    ) { value, options throws(OptionValueError) in options.settings.startJitter = try duration(value) },
  ]

  private static let clusterOptions = [
    Option(
      .cluster, "join", .value("all|leader"), default: "all",
      "whom retry_join names: every other server, or the numerically lowest address"
    ) { value, options throws(OptionValueError) in options.settings.join = try choice(value) },
    Option(
      .cluster, "leader-wait", .value("DURATION"), default: "40s",
      "how long peers that have raft state may be without a leader before that is an outage"
    ) { value, options throws(OptionValueError) in options.settings.leaderWait = try duration(value) },
    Option(
      .cluster, "verify-timeout", .value("DURATION"), default: "5m", "how long the agent may take to be healthy"
    ) { value, options throws(OptionValueError) in options.settings.verifyTimeout = try duration(value) },
    Option(
      .cluster, "require-wan", .flag, default: "false",
      "a boot is a success only when every known server is in the WAN pool"
    ) {
      value, options throws(OptionValueError) in options.settings.requiresWAN = try boolean(value)
    },
    Option(
      .cluster, "sidecar-interval", .value("DURATION"), default: "30s",
      "between the sidecar's looks at the agent, on average; every tenth look asks AWS as well"
    ) { value, options throws(OptionValueError) in options.settings.sidecarInterval = try duration(value) },
    Option(
      .cluster, "lifecycle-hook", .value("NAME"),
      "launch hook to complete: CONTINUE after proof, ABANDON after failure"
    ) { value, options throws(OptionValueError) in options.settings.lifecycleHook = try nonEmpty(value) },
  ]

  private static let configurationOptions = [
    Option(.configuration, "datacenter", .value("NAME"), default: "dc1", "the datacenter's name") {
      value, options throws(OptionValueError) in
      guard NameTemplate.isLabel(value) else {
        throw OptionValueError(expectation: "must be a DNS label: letters, digits and hyphens, at most 63")
      }
      options.settings.datacenter = value
    },
    Option(
      .configuration, "datacenter-from", .value("zone-name|zone-id"), default: "zone-name",
      "which name of its zone a datacenter gets; names map to other zones in other accounts"
    ) { value, options throws(OptionValueError) in options.settings.datacenterSource = try choice(value) },
    Option(
      .configuration, "node-name", .value("TEMPLATE"), default: "{instance_id}",
      "the node's name, a DNS label; fields as for --hostname"
    ) {
      value, options throws(OptionValueError) in options.settings.nodeName = try template(value)
    },
    Option(
      .configuration, "client-addr", .value("ADDRESSES"), default: "loopback and the private address",
      "where the agent's HTTP and DNS interfaces listen; peers ask each other there"
    ) { value, options throws(OptionValueError) in options.settings.clientAddress = try nonEmpty(value) },
    Option(.configuration, "ui", .flag, default: "false", "serve the web interface") {
      value, options throws(OptionValueError) in
      options.settings.ui = try boolean(value)
    },
    Option(
      .configuration, "consul-log-level", .value("LEVEL"), default: "info",
      "the agent's log level: trace, debug, info, warn, err"
    ) { value, options throws(OptionValueError) in
      guard ["trace", "debug", "info", "warn", "err", "error"].contains(value.lowercased()) else {
        throw OptionValueError(expectation: "must be trace, debug, info, warn or err")
      }
      options.settings.consulLogLevel = value.lowercased()
    },
    Option(
      .configuration, "raft-multiplier", .value("N"), default: "1",
      "Consul's performance.raft_multiplier; Consul's own default is 5"
    ) { value, options throws(OptionValueError) in options.settings.raftMultiplier = try integer(value, 1...10) },
    Option(
      .configuration, "retry-interval", .value("DURATION"), default: "1s",
      "between attempts to join; Consul's own default is 30s"
    ) { value, options throws(OptionValueError) in options.settings.retryInterval = try duration(value) },
    Option(
      .configuration, "server-stabilization-time", .value("DURATION"), default: "1s",
      "how long autopilot watches a new server before it votes; Consul's own default is 10s"
    ) { value, options throws(OptionValueError) in options.settings.serverStabilizationTime = try duration(value) },
    Option(
      .configuration, "cleanup-dead-servers", .value("true|false"),
      "autopilot removes dead servers once replacements are there; Consul's own default is true"
    ) {
      value, options throws(OptionValueError) in options.settings.cleanupDeadServers = try boolean(value)
    },
    Option(
      .configuration, "last-contact-threshold", .value("DURATION"),
      "how long a server may be without a word from the leader and count as healthy; Consul's own default is 200ms"
    ) {
      value, options throws(OptionValueError) in options.settings.lastContactThreshold = try duration(value)
    },
    Option(
      .configuration, "min-quorum", .value("N"), "servers below which autopilot removes none (Consul 1.6.2 and newer)"
    ) {
      value, options throws(OptionValueError) in options.settings.minQuorum = try integer(value, 1...1000)
    },
    Option(.configuration, "syslog", .value("FACILITY"), "the agent logs to syslog, too, for example LOCAL0") {
      value, options throws(OptionValueError) in
      let facilities =
        ["KERN", "USER", "MAIL", "DAEMON", "AUTH", "SYSLOG", "LPR", "NEWS", "UUCP", "CRON", "AUTHPRIV", "FTP"]
        + (0...7).map { "LOCAL\($0)" }
      guard facilities.contains(value.uppercased()) else {
        throw OptionValueError(expectation: "must be a facility of syslog, such as LOCAL0 or DAEMON")
      }
      options.settings.syslog = value.uppercased()
    },
    Option(
      .configuration, "telemetry", .list("SINK=VALUE"),
      "send metrics: statsd=, dogstatsd= or statsite=HOST:PORT, or keep them for prometheus=DURATION"
    ) {
      value, options throws(OptionValueError) in options.settings.telemetry.append(try telemetry(value))
    },
    Option(
      .configuration, "leave-on-terminate", .value("true|false"), default: "true",
      "leave the cluster gracefully when stopped"
    ) { value, options throws(OptionValueError) in options.settings.leaveOnTerminate = try boolean(value) },
    Option(.configuration, "merge", .list("FILE"), "JSON file to lay over the configuration; null removes a key") {
      value, options throws(OptionValueError) in options.mergeFiles.append(try path(value))
    },
    Option(
      .configuration, "set", .list("KEY=JSON"), "one key to lay over that, dots for nesting: --set ports.dns=53"
    ) { value, options throws(OptionValueError) in options.sets.append(try setting(value)) },
  ]

  private static let machineOptions = [
    Option(.machine, "consul", .value("PATH"), default: "consul in PATH", "the Consul binary") {
      value, options throws(OptionValueError) in options.settings.consulPath = try path(value)
    },
    Option(.machine, "config-dir", .value("DIR"), default: "/etc/consul.d", "where 00-consul-bootstrap.json goes") {
      value, options throws(OptionValueError) in options.settings.configDirectory = try path(value)
    },
    Option(.machine, "data-dir", .value("DIR"), default: "/opt/consul", "the agent's data") {
      value, options throws(OptionValueError) in options.settings.dataDirectory = try path(value)
    },
    Option(
      .machine, "keep-data", .flag, default: "false",
      "keep a data directory that another instance made, instead of moving it aside"
    ) { value, options throws(OptionValueError) in options.settings.keepData = try boolean(value) },
    Option(.machine, "state-dir", .value("DIR"), default: "/var/lib/consul-bootstrap", "this program's own state") {
      value, options throws(OptionValueError) in options.settings.stateDirectory = try path(value)
    },
    Option(.machine, "user", .value("NAME"), default: "consul", "the user that runs the agent and owns its files") {
      value, options throws(OptionValueError) in options.settings.user = try nonEmpty(value)
    },
    Option(
      .machine, "hostname", .value("TEMPLATE"),
      "set the host name, for example consul-{instance_suffix}; fields: "
        + NameTemplate.fields.keys.sorted().joined(separator: ", ")
    ) { value, options throws(OptionValueError) in options.settings.hostName = try template(value) },
    Option(
      .machine, "start", .value("systemd|supervise|docker|none"), default: "systemd where it is PID 1, else supervise",
      "how the agent runs: as consul.service, as a child of this program, in a container, or not yet"
    ) { value, options throws(OptionValueError) in options.settings.start = try choice(value) as Settings.Start },
    Option(
      .machine, "image", .value("IMAGE"),
      "for --start docker: the image that holds Consul, best with its digest: consul@sha256:…"
    ) {
      value, options throws(OptionValueError) in options.settings.image = try imageName(value)
    },
    Option(
      .machine, "registrator", .value("IMAGE"),
      "for --start docker: also run registrator, which registers the machine's containers"
    ) {
      value, options throws(OptionValueError) in options.settings.registratorImage = try imageName(value)
    },
    Option(.machine, "imdsv1", .flag, default: "false", "fall back to version 1 of the instance metadata service") {
      value, options throws(OptionValueError) in options.allowsIMDSv1 = try boolean(value)
    },
  ]

  private static let runOptions = [
    Option(.run, "dry-run", .flag, default: "false", "print the plan and the reasons; change nothing, wait for nothing")
    {
      value, options throws(OptionValueError) in options.isDryRun = try boolean(value)
    },
    Option(.run, "json", .flag, default: "false", "report as JSON") { value, options throws(OptionValueError) in
      options.wantsJSON = try boolean(value)
    },
    Option(
      .run, "check", .flag, default: "false", "with status: say only what is wrong, and exit with 1 if anything is"
    ) {
      value, options throws(OptionValueError) in
      options.checks = try boolean(value)
    },
    Option(.run, "account", .value("ID"), default: "any", "with iam-policy: the AWS account whose resources it names") {
      value, options throws(OptionValueError) in
      guard value.utf8.count == 12, value.utf8.allSatisfy({ (48...57).contains($0) }) else {
        throw OptionValueError(expectation: "must be twelve digits")
      }
      options.account = value
    },
    Option(.run, "log-level", .value("LEVEL"), default: "info", "debug, info, warning or error") {
      value, options throws(OptionValueError) in
      guard let level = LogLevel(name: value) else {
        throw OptionValueError(expectation: "must be debug, info, warning or error")
      }
      options.logLevel = level
    },
    Option(.run, "log-format", .value("text|json"), default: "text", "of the log on standard error") {
      value, options throws(OptionValueError) in options.logFormat = try choice(value)
    },
  ]
}
