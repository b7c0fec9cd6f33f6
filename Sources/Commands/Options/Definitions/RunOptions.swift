internal import Base
internal import Model

extension Option {
  static let runOptions: [Option] = [
    Option(
      .run, "dry-run", .flag, default: .value("false"), example: "true",
      "print the plan with its reasons; change nothing, wait for nothing"
    ) { value, options throws(OptionValueError) in
      options.isDryRun = try boolean(value)
    },
    Option(
      .run, "fresh", .flag, default: .value("false"), example: "true",
      "forget the options of the last run, which a run otherwise uses where no other source sets an option"
    ) { value, options throws(OptionValueError) in
      options.isFresh = try boolean(value)
    },
    Option(
      .run, "json", .flag, default: .value("false"),
      "print the report as JSON"
    ) { value, options throws(OptionValueError) in
      options.wantsJSON = try boolean(value)
    },
    Option(
      .run, "check", .flag, default: .value("false"), example: "false",
      "for status: print only problems, and exit with status 1 if there are any"
    ) { value, options throws(OptionValueError) in
      options.checks = try boolean(value)
    },
    Option(
      .run, "wait", .value("DURATION"), default: .value("10m"),
      "for leave: how long to wait until the others keep their quorum without this server"
    ) { value, options throws(OptionValueError) in
      options.leaving.wait = try duration(value, from: .zero)
    },
    Option(
      .run, "force", .flag, default: .value("false"), example: "false",
      "for leave: leave whatever the others lose by it"
    ) { value, options throws(OptionValueError) in
      options.leaving.isForced = try boolean(value)
    },
    Option(
      .run, "stopping", .flag, default: .value("false"), example: "false",
      "for leave: the agent is being stopped; leave within 50 s if the others keep their quorum, and not for a reboot"
    ) { value, options throws(OptionValueError) in
      options.leaving.isStopping = try boolean(value)
    },
    Option(
      .run, "account", .value("ID"), default: .described("any account"), example: "123456789012",
      "for iam-policy: AWS account of the resources"
    ) { value, options throws(OptionValueError) in
      guard value.utf8.count == 12, value.utf8.allSatisfy({ (48...57).contains($0) }) else {
        throw OptionValueError(expectation: "must be twelve digits")
      }
      options.account = value
    },
    Option(
      .run, "log-level", .value("LEVEL"), default: .value("info"),
      "debug, info, warning or error"
    ) { value, options throws(OptionValueError) in
      guard let level = LogLevel(name: value) else {
        throw OptionValueError(expectation: "must be debug, info, warning or error")
      }
      options.logLevel = level
    },
    Option(
      .run, "log-format", .value("text|json"), default: .value("text"),
      "format of the log on standard error"
    ) { value, options throws(OptionValueError) in
      options.logFormat = try choice(value)
    },
  ]
}
