package import Base
internal import Decisions
package import Model

/// One option: its definition is the only place that knows its names, its help and what it does.
package struct Option: Sendable {
  package enum Shape: Sendable, Equatable {
    /// `--ui`, or `true` and `false` elsewhere.
    case flag
    /// With the word that stands for the value in help.
    case value(String)
    /// May be given more than once.
    case list(String)

    /// A typical value by its placeholder.
    fileprivate func example(default defaultValue: Default?) -> String {
      if case .value(let text)? = defaultValue { return text }
      switch self {
      case .flag: return "true"
      case .value(let word), .list(let word):
        switch word {
        case "DURATION": return "1m"
        case "N": return "3"
        case "SECRET": return "ssm:k"
        case "PATH", "DIR", "FILE": return "/c"
        case "KEY=VALUE": return "a=b"
        case let choices where choices.contains("|"): return choices.split(separator: "|").first.map(String.init) ?? ""
        default: return "n"
        }
      }
    }
  }

  package enum Section: String, Sendable, CaseIterable {
    case group = "Which instances, and how many"
    case cluster = "The cluster"
    case configuration = "The agent's configuration"
    case network = "Addresses and names"
    case security = "Encryption and access"
    case logs = "Logs to CloudWatch"
    case machine = "This machine"
    case run = "This run"
  }

  /// Without the dashes; the configuration file's key, too.
  package let name: String
  package let section: Section
  package let shape: Shape
  package enum Default: Sendable, Equatable {
    /// The setting's own value, as one would type it.
    case value(String)
    /// In words, where the value depends on the machine or on other options.
    case described(String)

    package var text: String {
      switch self {
      case .value(let text), .described(let text): text
      }
    }
  }

  package let defaultValue: Default?
  /// A valid value, for the documents and for the tests of all combinations.
  package let example: String
  package let help: String
  /// Applies a value to the options; the error explains what a valid value is.
  let apply: @Sendable (_ value: String, _ options: inout Options) throws(OptionValueError) -> Void

  init(
    _ section: Section, _ name: String, _ shape: Shape, default defaultValue: Default? = nil, example: String? = nil,
    _ help: String,
    apply: @escaping @Sendable (String, inout Options) throws(OptionValueError) -> Void
  ) {
    self.section = section
    self.name = name
    self.shape = shape
    self.defaultValue = defaultValue
    self.example = example ?? shape.example(default: defaultValue)
    self.help = help
    self.apply = apply
  }

  /// Whether a later run uses it, too: what concerns one run only is not said again.
  var isRecorded: Bool { (section != .run || name.hasPrefix("log-")) && name != "assume-dead" }

  package var environmentName: String { Self.environmentPrefix + name.uppercased().replacing("-", with: "_") }
  package static let environmentPrefix = "CONSUL_BOOTSTRAP_"
}

/// What is wrong with a value, to stand after it.
package struct OptionValueError: Error, Sendable {
  package let expectation: String
}

/// Everything that the command line, the environment and the configuration file set.
package struct Options: Sendable, Equatable {
  package var settings = Settings()
  package var isDryRun = false
  package var isFresh = false
  package var wantsJSON = false
  /// `status --check`, for a monitor.
  package var checks = false
  package var leaving = Leaving()
  package var allowsIMDSv1 = false
  /// The account of the resources in `iam-policy`; nil: any.
  package var account: String?
  package var logLevel = LogLevel.info
  package var logFormat = LogFormat.text
  /// Files of `--merge`, then the values of `--set`: merged over the configuration, each in the order given.
  var mergeFiles: [String] = []
  var sets: [Settings.Overlay] = []
  var groups: [String] = []
  var tags: [Settings.Tag] = []
  var createdGossipKey: SecretReference?
  /// Regular expressions, each with the option that set it, for the parser to validate.
  var patterns: [Pattern] = []
  struct Pattern: Equatable {
    let origin: String
    let text: String
  }

  /// Of `leave`.
  package struct Leaving: Sendable, Equatable {
    /// How long it may take until it is safe.
    package var wait = Duration.seconds(600)
    package var isForced = false
    /// The service manager stops the agent.
    package var isStopping = false
  }

  /// The word after a command's name.
  var operand: String?

  package enum LogFormat: String, Sendable, CaseIterable { case text, json }
}

/// Every option, in the order of help and documents.
extension Option {
  package static let all: [Option] =
    groupOptions + clusterOptions + configurationOptions + networkOptions + securityOptions + logOptions
    + machineOptions + runOptions
}
