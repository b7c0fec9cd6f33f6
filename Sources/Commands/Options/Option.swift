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
  /// As help shows it; nil if there is none.
  package let defaultText: String?
  package let help: String
  /// Puts the value into the options; throws a text that says what is wrong with it.
  let apply: @Sendable (_ value: String, _ options: inout Options) throws(OptionValueError) -> Void

  init(
    _ section: Section, _ name: String, _ shape: Shape, default defaultText: String? = nil, _ help: String,
    apply: @escaping @Sendable (String, inout Options) throws(OptionValueError) -> Void
  ) {
    self.section = section
    self.name = name
    self.shape = shape
    self.defaultText = defaultText
    self.help = help
    self.apply = apply
  }

  package var environmentName: String { Self.environmentPrefix + name.uppercased().replacing("-", with: "_") }
  package static let environmentPrefix = "CONSUL_BOOTSTRAP_"
}

/// What is wrong with a value, to stand after it.
package struct OptionValueError: Error, Sendable {
  package let expectation: String
}

/// Everything that the command line, the environment and the configuration file say.
package struct Options: Sendable {
  package var settings = Settings()
  package var isDryRun = false
  package var wantsJSON = false
  /// `status` is a question of a monitor's.
  package var checks = false
  package var allowsIMDSv1 = false
  /// Whose resources `iam-policy` names; nil: anybody's.
  package var account: String?
  package var logLevel = LogLevel.info
  package var logFormat = LogFormat.text
  /// Files to be read and laid over the configuration, then `--set`, each in the order given.
  var mergeFiles: [String] = []
  var sets: [Settings.Overlay] = []
  var groups: [String] = []
  var tags: [Settings.Tag] = []
  var createdGossipKey: SecretReference?

  package enum LogFormat: String, Sendable, CaseIterable { case text, json }
}
