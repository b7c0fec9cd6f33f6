internal import Base

/// The text of `--help`, made from the option table.
package enum Help {
  package static var text: String {
    var text = """
      Turns freshly launched EC2 instances into one healthy Consul datacenter.

      Usage: consul-bootstrap [options]
             consul-bootstrap --dry-run [options]
             consul-bootstrap sidecar [options]
             consul-bootstrap status [--check] [--json]

      Waits until the Auto Scaling group is complete, decides between a new cluster and joining the one that is there,
      writes the agent's configuration, starts the agent and proves that it is healthy. Running it again is safe.

      The sidecar stays beside the agent: it joins servers of other zones over the WAN, takes a client back to servers that
      have all been replaced, adapts the configuration to an address that a reboot has changed, and says when a secret has
      changed. It forwards logs to CloudWatch (--log). A run starts it: as consul-bootstrap.service under systemd, in the same
      process under supervise. SIGHUP makes it read its options again.

      status says how the agent, its quorum and the forwarding of the logs are; with --check, only what is wrong, with exit
      status 1.

      """
    for section in Option.Section.allCases {
      text += "\(section.rawValue):\n"
      for option in Option.all where option.section == section {
        let usage = "--\(option.name)\(option.metavariable)"
        let help = option.help + (option.defaultText.map { " (default: \($0))" } ?? "") + (option.isList ? "; repeatable" : "")
        text += wrapped(usage, help)
      }
      if section == .run {
        text += wrapped("--config FILE", "JSON with these options as keys (default: /etc/consul-bootstrap/config.json, if it is there)")
        text += wrapped("-h, --help", "this text")
        text += wrapped("-V, --version", "the version")
      }
      text += "\n"
    }
    text += """
      Each option is also an environment variable, \(Option.environmentPrefix)EXPECT for --expect, and a key of the configuration
      file; the command line wins, then the environment. Durations: 500ms, 90s, 10m, 1h30m.

      AWS settings follow the AWS tools: AWS_REGION, AWS_PROFILE, AWS_ACCESS_KEY_ID and the like, AWS_ENDPOINT_URL and
      AWS_ENDPOINT_URL_<SERVICE>, AWS_EC2_METADATA_SERVICE_ENDPOINT, AWS_CA_BUNDLE, AWS_MAX_ATTEMPTS,
      AWS_USE_FIPS_ENDPOINT, AWS_USE_DUALSTACK_ENDPOINT.

      Exit status:

      """
    for status in ExitStatus.allCases {
      if status == .usage { text += "    1  with status --check: something is wrong\n" }
      let number = String(status.rawValue)
      text += "  \(String(repeating: " ", count: 3 - number.count))\(number)  \(status.meaning)\n"
    }
    text += "  128+n  ended by signal n; under --start supervise, the agent's own status after it ends\n"
    return text
  }

  private static let indentation = 36
  private static let width = 120

  private static func wrapped(_ usage: String, _ help: String) -> String {
    var lines: [String] = []
    var line = "  " + usage
    if usage.count > indentation - 4 {
      lines.append(line)
      line = ""
    }
    line += String(repeating: " ", count: indentation - line.count)
    for word in help.split(separator: " ") {
      if line.count + 1 + word.count > width {
        lines.append(line)
        line = String(repeating: " ", count: indentation)
      }
      line += (line.last == " " ? "" : " ") + word
    }
    lines.append(line)
    return lines.joined(separator: "\n") + "\n"
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
