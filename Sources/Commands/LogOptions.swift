internal import AWS
internal import Base
internal import Decisions
internal import LogForwarding

extension Option {
  static let logOptions = [
    Option(
      .logs, "log", .list("SOURCE"),
      "forward to CloudWatch Logs: consul (its unit's journal), journal, journal:UNIT, or file:/PATH with * and ? in its last part"
    ) { value, options throws(OptionValueError) in
      guard LogSource(value) != nil else {
        throw OptionValueError(expectation: "must be consul, journal, journal:UNIT or file:/PATH")
      }
      options.settings.logSources.append(value)
    },
    Option(
      .logs, "log-group", .value("TEMPLATE"), default: Settings().logGroup, "the log group; fields: " + Settings.logFields.joined(separator: ", ")
    ) { value, options throws(OptionValueError) in
      // API reference, CreateLogGroup.
      options.settings.logGroup = try logName(value, allowed: { $0.isLetter || $0.isNumber || "_-/.#".contains($0) })
    },
    Option(.logs, "log-stream", .value("TEMPLATE"), default: Settings().logStream, "the log stream; fields as for --log-group") {
      value, options throws(OptionValueError) in
      // API reference, CreateLogStream.
      options.settings.logStream = try logName(value, allowed: { $0 != ":" && $0 != "*" })
    },
    Option(.logs, "log-retention", .value("DAYS"), default: "for ever", "how long a log group that is made here keeps its events") {
      value, options throws(OptionValueError) in
      guard let days = Int(value), CloudWatchLogs.retentionDays.contains(days) else {
        throw OptionValueError(
          expectation: "must be one of " + CloudWatchLogs.retentionDays.sorted().map(String.init).joined(separator: ", "))
      }
      options.settings.logRetention = days
    },
    Option(.logs, "flush-timeout", .value("DURATION"), default: "10s", "how long the sidecar's end waits for logs that are not sent yet") {
      value, options throws(OptionValueError) in options.settings.flushTimeout = try duration(value)
    },
  ]
}

private func logName(_ value: String, allowed: (Character) -> Bool) throws(OptionValueError) -> String {
  guard let plain = NameTemplate.expand(value, { Settings.logFields.contains($0) ? "x" : nil }), (1...512).contains(plain.utf8.count),
    plain.allSatisfy({ $0.isASCII && allowed($0) })
  else {
    throw OptionValueError(
      expectation: "must be a name that CloudWatch Logs takes, with fields of these: "
        + Settings.logFields.map { "{\($0)}" }.joined(separator: ", "))
  }
  return value
}
