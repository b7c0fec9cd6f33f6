internal import Base
internal import Host

/// The manual page, in man(7)'s macros, made from the same definitions as `--help`.
package enum ManualPage {
  /// Below /usr/share or /usr/local/share.
  package static let path = "man/man8/consul-bootstrap.8"

  package static var text: String {
    var page = """
      .\\" Made by consul-bootstrap man
      .TH CONSUL-BOOTSTRAP 8 "" "consul-bootstrap \(escaped(Machine.programVersion))" "System administration"
      .SH NAME
      consul\\-bootstrap \\- turn EC2 instances into one healthy Consul datacenter
      .SH SYNOPSIS
      .B consul\\-bootstrap
      .RI [ options ]
      .br
      .B consul\\-bootstrap \\-\\-dry\\-run
      .RI [ options ]

      """
    for command in Subcommand.allCases {
      page +=
        ".br\n.B consul\\-bootstrap \(escaped(command.rawValue))\n"
        + (command.usage.isEmpty ? "" : "\(escaped(command.usage))\n")
    }
    page += ".SH DESCRIPTION\n\(escaped(Help.purpose))\n.SH COMMANDS\n"
    for command in Subcommand.allCases {
      page += ".TP\n.B \(escaped(command.rawValue))\n\(escaped(command.explanation))\n"
    }
    page += ".SH OPTIONS\n\(escaped(Help.sources))\n"
    for section in Option.Section.allCases {
      page += ".SS \(escaped(section.rawValue))\n"
      for option in Option.all where option.section == section {
        let word = option.metavariable.isEmpty ? "" : " \\fI\(escaped(String(option.metavariable.dropFirst())))\\fR"
        page += ".TP\n\\fB\\-\\-\(escaped(option.name))\\fR\(word)\n\(escaped(Help.explanation(of: option)))\n"
      }
      if section == .run {
        for (usage, help) in Help.commonOptions { page += ".TP\n\\fB\(escaped(usage))\\fR\n\(escaped(help))\n" }
      }
    }
    page += ".SH ENVIRONMENT\n\(escaped(Help.environment))\n.SH EXIT STATUS\n"
    for (status, meaning) in Help.exitStatuses { page += ".TP\n.B \(escaped(status))\n\(escaped(meaning))\n" }
    page += ".SH FILES\n"
    for (path, meaning) in Help.files { page += ".TP\n.I \(escaped(path))\n\(escaped(meaning))\n" }
    return page + ".SH SEE ALSO\n.BR systemctl (1),\n.BR journalctl (1)\n"
  }

  /// A hyphen is a minus, a backslash is one, and no line begins with a control character (groff_man(7)).
  private static func escaped(_ text: String) -> String {
    let plain = text.replacing("\\", with: "\\e").replacing("-", with: "\\-").replacing("…", with: "\\[u2026]")
    return plain.hasPrefix(".") || plain.hasPrefix("'") ? "\\&" + plain : plain
  }
}
