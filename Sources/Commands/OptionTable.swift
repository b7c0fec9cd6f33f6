internal import Base
internal import Decisions

/// Every option of the main job, in the order of help and README.
extension Option {
  package static let all: [Option] = groupOptions + clusterOptions + configurationOptions + machineOptions + runOptions

  private static let groupOptions = [
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
      "servers that make a cluster; needed with --tag"
    ) { value, options throws(OptionValueError) in options.settings.expect = try integer(value, 1...1000) },
    Option(
      .group, "wait-timeout", .value("DURATION"), default: "10m", "how long the group may take to be complete"
    ) { value, options throws(OptionValueError) in options.settings.waitTimeout = try duration(value) },
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
      .cluster, "lifecycle-hook", .value("NAME"),
      "launch hook to complete: CONTINUE after proof, ABANDON after failure"
    ) { value, options throws(OptionValueError) in options.settings.lifecycleHook = try nonEmpty(value) },
  ]

  private static let configurationOptions = [
    Option(.configuration, "datacenter", .value("NAME"), default: "dc1", "the datacenter's name") {
      value, options throws(OptionValueError) in
      guard NameTemplate.isHostName(value), !value.contains(".") else {
        throw OptionValueError(expectation: "must be a DNS label: letters, digits and hyphens, at most 63")
      }
      options.settings.datacenter = value
    },
    Option(.configuration, "node-name", .value("TEMPLATE"), default: "{instance_id}", "the node's name; fields as for --hostname") {
      value, options throws(OptionValueError) in options.settings.nodeName = try template(value)
    },
    Option(
      .configuration, "client-addr", .value("ADDRESSES"), default: "loopback and the private address",
      "where the agent's HTTP and DNS interfaces listen; peers ask each other there"
    ) { value, options throws(OptionValueError) in options.settings.clientAddress = try nonEmpty(value) },
    Option(.configuration, "ui", .flag, default: "false", "serve the web interface") { value, options throws(OptionValueError) in
      options.settings.ui = try boolean(value)
    },
    Option(
      .configuration, "consul-log-level", .value("LEVEL"), default: "info", "the agent's log level: trace, debug, info, warn, err"
    ) { value, options throws(OptionValueError) in
      guard ["trace", "debug", "info", "warn", "err", "error"].contains(value.lowercased()) else {
        throw OptionValueError(expectation: "must be trace, debug, info, warn or err")
      }
      options.settings.consulLogLevel = value.lowercased()
    },
    Option(
      .configuration, "raft-multiplier", .value("N"), default: "1", "Consul's performance.raft_multiplier; Consul's own default is 5"
    ) { value, options throws(OptionValueError) in options.settings.raftMultiplier = try integer(value, 1...10) },
    Option(
      .configuration, "retry-interval", .value("DURATION"), default: "1s", "between attempts to join; Consul's own default is 30s"
    ) { value, options throws(OptionValueError) in options.settings.retryInterval = try duration(value) },
    Option(
      .configuration, "server-stabilization-time", .value("DURATION"), default: "1s",
      "how long autopilot watches a new server before it votes; Consul's own default is 10s"
    ) { value, options throws(OptionValueError) in options.settings.serverStabilizationTime = try duration(value) },
    Option(
      .configuration, "leave-on-terminate", .value("true|false"), default: "true", "leave the cluster gracefully when stopped"
    ) { value, options throws(OptionValueError) in options.settings.leaveOnTerminate = try boolean(value) },
    Option(.configuration, "merge", .list("FILE"), "JSON file to lay over the configuration; null removes a key") {
      value, options throws(OptionValueError) in options.mergeFiles.append(try nonEmpty(value))
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
      .machine, "keep-data", .flag, default: "false", "keep a data directory that another instance made, instead of moving it aside"
    ) { value, options throws(OptionValueError) in options.settings.keepData = try boolean(value) },
    Option(.machine, "state-dir", .value("DIR"), default: "/var/lib/consul-bootstrap", "this program's own state") {
      value, options throws(OptionValueError) in options.settings.stateDirectory = try path(value)
    },
    Option(.machine, "user", .value("NAME"), default: "consul", "the user that runs the agent and owns its files") {
      value, options throws(OptionValueError) in options.settings.user = try nonEmpty(value)
    },
    Option(
      .machine, "hostname", .value("TEMPLATE"),
      "set the host name, for example consul-{instance_suffix}; fields: " + NameTemplate.fields.keys.sorted().joined(separator: ", ")
    ) { value, options throws(OptionValueError) in options.settings.hostName = try template(value) },
    Option(
      .machine, "start", .value("systemd|supervise|none"), default: "systemd where it is PID 1, else supervise",
      "how the agent runs: as consul.service, as a child of this program, or not yet"
    ) { value, options throws(OptionValueError) in options.settings.start = try choice(value) as Settings.Start },
    Option(.machine, "imdsv1", .flag, default: "false", "fall back to version 1 of the instance metadata service") {
      value, options throws(OptionValueError) in options.allowsIMDSv1 = try boolean(value)
    },
  ]

  private static let runOptions = [
    Option(.run, "dry-run", .flag, default: "false", "print the plan and the reasons; change nothing, wait for nothing") {
      value, options throws(OptionValueError) in options.isDryRun = try boolean(value)
    },
    Option(.run, "json", .flag, default: "false", "report as JSON") { value, options throws(OptionValueError) in
      options.wantsJSON = try boolean(value)
    },
    Option(.run, "log-level", .value("LEVEL"), default: "info", "debug, info, warning or error") {
      value, options throws(OptionValueError) in
      guard let level = LogLevel(name: value) else { throw OptionValueError(expectation: "must be debug, info, warning or error") }
      options.logLevel = level
    },
    Option(.run, "log-format", .value("text|json"), default: "text", "of the log on standard error") {
      value, options throws(OptionValueError) in options.logFormat = try choice(value)
    },
  ]
}

// MARK: Values

private func nonEmpty(_ value: String) throws(OptionValueError) -> String {
  guard !value.isEmpty else { throw OptionValueError(expectation: "must not be empty") }
  return value
}

private func path(_ value: String) throws(OptionValueError) -> String {
  guard value.hasPrefix("/") else { throw OptionValueError(expectation: "must be an absolute path") }
  return value.count > 1 && value.hasSuffix("/") ? String(value.dropLast()) : value
}

private func boolean(_ value: String) throws(OptionValueError) -> Bool {
  switch value.lowercased() {
  case "true", "1", "yes": true
  case "false", "0", "no": false
  default: throw OptionValueError(expectation: "must be true or false")
  }
}

private func integer(_ value: String, _ range: ClosedRange<Int>) throws(OptionValueError) -> Int {
  guard let number = Int(value), range.contains(number) else {
    throw OptionValueError(expectation: "must be a number from \(range.lowerBound) to \(range.upperBound)")
  }
  return number
}

private func choice<Choice: RawRepresentable & CaseIterable>(_ value: String) throws(OptionValueError) -> Choice
where Choice.RawValue == String {
  guard let choice = Choice(rawValue: value) else {
    throw OptionValueError(expectation: "must be " + Choice.allCases.map(\.rawValue).joined(separator: ", "))
  }
  return choice
}

private func template(_ value: String) throws(OptionValueError) -> NameTemplate {
  guard !value.isEmpty, let template = NameTemplate(value) else {
    throw OptionValueError(
      expectation: "must be a name with fields of these: "
        + NameTemplate.fields.keys.sorted().map { "{\($0)}" }.joined(separator: ", "))
  }
  return template
}

/// As Go writes durations: `90s`, `1m30s`, `500ms`, `2h`.
private func duration(_ value: String) throws(OptionValueError) -> Duration {
  let wrong = OptionValueError(expectation: "must be a duration such as 90s, 10m or 1h30m, from 1ms to 24h")
  var milliseconds = 0.0
  var rest = Substring(value)
  let units: [(text: String, milliseconds: Double)] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)]
  guard !rest.isEmpty else { throw wrong }
  while !rest.isEmpty {
    let digits = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    rest = rest.dropFirst(digits.count)
    guard let number = Double(digits), let unit = units.first(where: { rest.hasPrefix($0.text) }) else { throw wrong }
    milliseconds += number * unit.milliseconds
    rest = rest.dropFirst(unit.text.count)
  }
  guard (1...86_400_000).contains(milliseconds) else { throw wrong }
  return .milliseconds(Int64(milliseconds))
}

/// `ports.dns=53` becomes `{"ports": {"dns": 53}}`.
private func setting(_ value: String) throws(OptionValueError) -> Settings.Overlay {
  guard let equals = value.firstIndex(of: "="), equals > value.startIndex else {
    throw OptionValueError(expectation: "must be KEY=JSON, for example ports.dns=53")
  }
  let key = value[..<equals], text = String(value[value.index(after: equals)...])
  guard let json = try? JSONValue(parsing: text) else {
    throw OptionValueError(expectation: "has no JSON after KEY=; a text needs quotes: --set '\(key)=\"…\"'")
  }
  let parts = key.split(separator: ".", omittingEmptySubsequences: false)
  guard parts.allSatisfy({ !$0.isEmpty }) else { throw OptionValueError(expectation: "has an empty part in its key") }
  return .init(origin: "--set \(key)", value: parts.reversed().reduce(json) { .object([String($1): $0]) })
}
