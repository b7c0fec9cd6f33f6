internal import Model
internal import Base

/// The text of `--help`, generated from the definitions of options and commands.
package enum Help {
  static let purpose =
    "Turns freshly launched EC2 instances into one healthy Consul datacenter. It waits until the Auto Scaling group is "
    + "complete or a server reports a cluster, and decides whether to form a new cluster or to join the existing one. "
    + "It writes the agent's configuration, starts the agent and verifies that it is healthy. Running it again is safe."

  static let sources =
    "Each option is also an environment variable (\(Option.environmentPrefix)EXPECT for --expect) and a key of the "
    + "configuration file. The command line overrides the environment, which overrides the file. Durations: 500ms, "
    + "90s, 10m, 1h30m."

  static let environment =
    "AWS settings follow the AWS SDKs: AWS_REGION, AWS_PROFILE, AWS_ACCESS_KEY_ID and so on, AWS_ENDPOINT_URL and "
    + "AWS_ENDPOINT_URL_<SERVICE>, AWS_EC2_METADATA_SERVICE_ENDPOINT, AWS_CA_BUNDLE, AWS_MAX_ATTEMPTS, "
    + "AWS_USE_FIPS_ENDPOINT, AWS_USE_DUALSTACK_ENDPOINT. NO_COLOR disables colors."

  static let commonOptions = [
    (
      "--config FILE", "JSON file with these options as keys (default: /etc/consul-bootstrap/config.json, if it exists)"
    ),
    ("-h, --help", "print this text"), ("-V, --version", "print the version"),
  ]

  static let files = [
    ("/etc/consul-bootstrap/config.json", "options of this machine, as JSON"),
    ("/etc/consul.d/00-consul-bootstrap.json", "configuration of the agent"),
    ("/var/lib/consul-bootstrap", "state: the instance ID, the sidecar's options, the checkpoints of the logs"),
    ("/var/log/consul-bootstrap.log", "log of this program, if it is forwarded (--log bootstrap)"),
  ]

  static var exitStatuses: [(status: String, meaning: String)] {
    ExitStatus.allCases.map { (String($0.rawValue), $0.meaning) } + [
      ("128+n", "ended by signal n"), ("other", "under --start supervise, the agent's own status after it ends"),
    ]
  }

  static func explanation(of option: Option) -> String {
    option.help + (option.defaultValue.map { " (default: \($0.text))" } ?? "") + (option.isList ? "; repeatable" : "")
  }

  /// - Parameter width: of the terminal, in columns.
  package static func text(width: Int) -> String {
    let page = Page(width: max(60, min(120, width)))
    var text = page.paragraph(purpose) + "\n"
    text += "Usage: consul-bootstrap [options]\n       consul-bootstrap --dry-run [options]\n"
    for command in Subcommand.all {
      text += "       consul-bootstrap \(command.name)\(command.usage.isEmpty ? "" : " \(command.usage)")\n"
    }
    text += "\nCommands:\n"
    for command in Subcommand.all { text += page.entry(command.name, command.summary) }
    text += "\n"
    for command in Subcommand.all { text += page.paragraph(command.explanation) + "\n" }
    for section in Option.Section.allCases {
      text += "\(section.rawValue):\n"
      for option in Option.all where option.section == section {
        text += page.entry("--\(option.name)\(option.metavariable)", explanation(of: option))
      }
      if section == .run { for (usage, help) in commonOptions { text += page.entry(usage, help) } }
      text += "\n"
    }
    text += page.paragraph(sources) + "\n" + page.paragraph(environment) + "\nExit status:\n"
    for (status, meaning) in exitStatuses {
      text += page.filled(
        "  \(String(repeating: " ", count: max(0, 5 - status.count)))\(status)  ", meaning, indentation: 9)
    }
    return text
  }

  /// Text in lines of a width.
  private struct Page {
    let width: Int
    private var indentation: Int { width >= 100 ? 36 : 8 }

    init(width: Int) { self.width = width }

    func paragraph(_ text: String) -> String { filled("", text, indentation: 0) }

    func entry(_ usage: String, _ help: String) -> String {
      let head = "  " + usage
      // A usage that leaves no room stands on a line of its own.
      guard head.count > indentation - 2 else {
        return filled(head + String(repeating: " ", count: indentation - head.count), help, indentation: indentation)
      }
      return head + "\n" + filled(String(repeating: " ", count: indentation), help, indentation: indentation)
    }

    func filled(_ head: String, _ text: String, indentation: Int) -> String {
      var lines: [String] = []
      var line = head
      for word in text.split(separator: " ") {
        if line.count + 1 + word.count > width, line.contains(where: { $0 != " " }) {
          lines.append(line)
          line = String(repeating: " ", count: indentation)
        }
        line += (line.isEmpty || line.last == " " ? "" : " ") + word
      }
      lines.append(line)
      return lines.joined(separator: "\n") + "\n"
    }
  }
}

extension Option {
  package var metavariable: String {
    switch shape {
    case .flag: ""
    case .value(let word), .list(let word): " \(word)"
    }
  }

  package var isList: Bool { if case .list = shape { true } else { false } }
}

extension Option {
  /// Its values as a configuration file has them.
  func json(_ values: [String]) -> JSONValue {
    isList ? .strings(values) : values.last.map(JSONValue.string) ?? .null
  }
}
