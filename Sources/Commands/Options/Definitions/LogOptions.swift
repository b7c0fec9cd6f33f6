internal import AWS
internal import Base
internal import Model

extension Option {
  static let logOptions: [Option] = [
    Option(
      .logs, "log", .list("SOURCE"), example: "file:/var/log/x",
      "forward to CloudWatch Logs: " + LogSource.forms.map { "\($0.form) (\($0.content))" }.joined(separator: ", ")
        + "; or a JSON object with source and its own group, "
        + "stream, retention, multiline-start, timestamp-key"
    ) { value, options throws(OptionValueError) in
      let request = try logRequest(value)
      guard !options.settings.logs.contains(where: { $0.source == request.source }) else {
        throw OptionValueError(expectation: "is a duplicate: a source has one stream")
      }
      options.settings.logs.append(request)
      if let text = request.multilineStart {
        options.patterns.append(.init(origin: "--log \(request.source): multiline-start", text: text))
      }
    },
    Option(
      .logs, "log-group", .value("TEMPLATE"), default: .value("/consul/{datacenter}"), example: "/g/{az}",
      "log group; fields: " + Settings.logFields.joined(separator: ", ")
    ) { value, options throws(OptionValueError) in
      options.settings.logGroup = try logGroup(value)
    },
    Option(
      .logs, "log-stream", .value("TEMPLATE"), default: .value("{instance_id}/{source}"), example: "{source}",
      "log stream; takes the fields of --log-group"
    ) { value, options throws(OptionValueError) in
      options.settings.logStream = try logStream(value)
    },
    Option(
      .logs, "log-retention", .value("DAYS"), default: .described("never expire"), example: "30",
      "retention of log groups that this program creates"
    ) { value, options throws(OptionValueError) in
      options.settings.logRetention = try retention(value)
    },
    Option(
      .logs, "log-tag", .list("KEY=VALUE"),
      "tag for log groups that this program creates"
    ) { value, options throws(OptionValueError) in
      let halves = value.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
      // API reference, CreateLogGroup: keys of 1 to 128 characters, values of up to 256.
      guard halves.count == 2, (1...128).contains(halves[0].count), halves[1].count <= 256, !halves[0].hasPrefix("aws:")
      else { throw OptionValueError(expectation: "must be KEY=VALUE") }
      options.settings.logTags.append(.init(key: halves[0], value: halves[1]))
    },
    Option(
      .logs, "multiline-start", .value("REGEX"), example: "^x",
      "POSIX extended regular expression that matches the first line of each record; the value "
        + "`indentation` means an unindented line, ^[^[:blank:]]"
    ) { value, options throws(OptionValueError) in
      let text = try pattern(value)
      options.settings.multilineStart = text
      options.patterns.append(.init(origin: "--multiline-start", text: text))
    },
    Option(
      .logs, "log-memory", .value("SIZE"), default: .value("8MiB"),
      "memory for unacknowledged events"
    ) { value, options throws(OptionValueError) in
      options.settings.logMemory = try size(value, 1 << 20...1 << 30)
    },
    Option(
      .logs, "log-queue", .value("SIZE"), default: .value("64MiB"),
      "disk space for the supervised agent's output while CloudWatch cannot be reached"
    ) { value, options throws(OptionValueError) in
      options.settings.logQueue = try size(value, 1 << 20...1 << 40)
    },
    Option(
      .logs, "flush-interval", .value("DURATION"), default: .value("1s"),
      "maximum time that an event waits for its batch to fill"
    ) { value, options throws(OptionValueError) in
      options.settings.flushInterval = try duration(value)
    },
    Option(
      .logs, "flush-timeout", .value("DURATION"), default: .value("10s"),
      "maximum time to send pending events when the sidecar stops"
    ) { value, options throws(OptionValueError) in
      options.settings.flushTimeout = try duration(value)
    },
    Option(
      .logs, "log-agent", .value("awslogs|amazon-cloudwatch-agent"), example: "awslogs",
      "let this agent forward the logs, and monitor it"
    ) { value, options throws(OptionValueError) in
      options.settings.logAgent = try choice(value)
    },
    Option(
      .logs, "log-agent-patience", .value("DURATION"), default: .value("1h"),
      "time without new events in a stream of that agent before it counts as stalled, at least 1s; CloudWatch reports "
        + "the last event with a delay of up to an hour"
    ) { value, options throws(OptionValueError) in
      options.settings.logAgentPatience = try duration(value, from: .seconds(1))
    },
    Option(
      .logs, "metrics", .value("ADDRESS"), example: "127.0.0.1:9107",
      "serve the metrics of log forwarding to Prometheus at unix:/PATH or 127.0.0.1:PORT"
    ) { value, options throws(OptionValueError) in
      options.settings.metricsAddress = try metricsAddress(value)
    },
  ]
}

/// `file:/var/log/app.log`, or `{"source": "file:/var/log/app.log", "group": "/app"}`.
private func logRequest(_ value: String) throws(OptionValueError) -> Settings.LogRequest {
  guard value.hasPrefix("{") else { return Settings.LogRequest(source: try logSource(value)) }
  guard let members = (try? JSONValue(parsing: value))?.object else {
    throw OptionValueError(expectation: "begins with { but is not a JSON object")
  }
  guard let source = members["source"]?.string else {
    throw OptionValueError(expectation: "needs a source, for example \"file:/var/log/app.log\"")
  }
  var request = Settings.LogRequest(source: try logSource(source))
  for (key, member) in members.sorted(by: { $0.key < $1.key }) {
    let text = member.string ?? member.integer.map(String.init) ?? ""
    switch key {
    case "source": break
    case "group": request.group = try within(key) { () throws(OptionValueError) in try logGroup(text) }
    case "stream": request.stream = try within(key) { () throws(OptionValueError) in try logStream(text) }
    case "retention": request.retention = try within(key) { () throws(OptionValueError) in try retention(text) }
    case "multiline-start":
      request.multilineStart = try within(key) { () throws(OptionValueError) in try pattern(text) }
    case "timestamp-key": request.timestampKey = try within(key) { () throws(OptionValueError) in try nonEmpty(text) }
    default:
      throw OptionValueError(
        expectation:
          "has an unknown member \(key); known are source, group, stream, retention, multiline-start, timestamp-key")
    }
  }
  return request
}

private func within<Value>(_ key: String, _ read: () throws(OptionValueError) -> Value) throws(OptionValueError)
  -> Value
{
  do { return try read() } catch { throw OptionValueError(expectation: "has a \(key) that \(error.expectation)") }
}

private func logSource(_ value: String) throws(OptionValueError) -> LogSource {
  guard let source = LogSource(value) else {
    if value.hasPrefix("file:") {
      throw OptionValueError(
        expectation: "must be file:/PATH, with * and ? in its last part only")
    }
    throw OptionValueError(expectation: "must be one of " + LogSource.forms.map(\.form).joined(separator: ", "))
  }
  return source
}

private func retention(_ value: String) throws(OptionValueError) -> Int {
  guard let days = Int(value), CloudWatchLogs.retentionDays.contains(days) else {
    throw OptionValueError(
      expectation: "must be one of " + CloudWatchLogs.retentionDays.sorted().map(String.init).joined(separator: ", "))
  }
  return days
}

/// The parser checks that it is a regular expression.
private func pattern(_ value: String) throws(OptionValueError) -> String {
  value == "indentation" ? "^[^[:blank:]]" : try nonEmpty(value)
}

/// `64MiB`, `500kB`, `1048576`.
private func size(_ value: String, _ range: ClosedRange<Int>) throws(OptionValueError) -> Int {
  let wrong = OptionValueError(
    expectation: "must be a size such as 8MiB, from \(range.lowerBound >> 20)MiB to \(range.upperBound >> 20)MiB")
  let units = [
    "": 1, "B": 1, "kB": 1000, "MB": 1_000_000, "GB": 1_000_000_000, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
  ]
  let digits = value.prefix { $0.isASCII && $0.isNumber }
  guard let number = Int(digits), let unit = units[String(value.dropFirst(digits.count))],
    case let (bytes, overflow) = number.multipliedReportingOverflow(by: unit),
    !overflow, range.contains(bytes)
  else { throw wrong }
  return bytes
}

private func metricsAddress(_ value: String) throws(OptionValueError) -> ServedAddress {
  // sockaddr_un has room for 107 bytes and a zero (unix(7)).
  if value.hasPrefix("unix:/"), value.utf8.count <= 5 + 107 { return .unix(path: String(value.dropFirst(5))) }
  if value.hasPrefix("127.0.0.1:"), let port = UInt16(value.dropFirst(10)), port > 0 { return .loopback(port: port) }
  throw OptionValueError(expectation: "must be unix:/PATH or 127.0.0.1:PORT; metrics are served on this machine only")
}

/// API reference, CreateLogGroup.
private func logGroup(_ value: String) throws(OptionValueError) -> String {
  try logName(value, allowed: { $0.isLetter || $0.isNumber || "_-/.#".contains($0) })
}

/// API reference, CreateLogStream.
private func logStream(_ value: String) throws(OptionValueError) -> String {
  try logName(value, allowed: { $0 != ":" && $0 != "*" })
}

private func logName(_ value: String, allowed: (Character) -> Bool) throws(OptionValueError) -> String {
  guard let plain = NameTemplate.expand(value, { Settings.logFields.contains($0) ? "x" : nil }),
    (1...512).contains(plain.utf8.count),
    plain.allSatisfy({ $0.isASCII && allowed($0) })
  else {
    throw OptionValueError(
      expectation: "must be a name that CloudWatch Logs takes, with fields of these: "
        + Settings.logFields.map { "{\($0)}" }.joined(separator: ", "))
  }
  return value
}
