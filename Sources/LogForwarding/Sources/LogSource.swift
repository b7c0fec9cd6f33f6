package import Base

/// Where log lines come from, as `--log` says it.
package enum LogSource: Sendable, Hashable, CustomStringConvertible {
  /// The agent's output, wherever it goes: its unit's journal, its container's log, our own child's pipe.
  case consul
  /// This program's own log.
  case bootstrap
  /// The machine's: whichever of the usual files there is, or the journal.
  case syslog
  /// The journal, or that of one unit.
  case journal(unit: String?)
  /// A file, or all that match a pattern of `*` and `?` in the last part of the path.
  case file(pattern: String)

  /// Nil for anything else than the forms of `description`.
  package init?(_ text: String) {
    switch text {
    case "consul": self = .consul
    case "bootstrap": self = .bootstrap
    case "syslog": self = .syslog
    case "journal": self = .journal(unit: nil)
    case let unit where unit.hasPrefix("journal:") && unit.count > 8: self = .journal(unit: String(unit.dropFirst(8)))
    case let file where file.hasPrefix("file:/") && file.count > 6 && !file.hasSuffix("/"):
      self = .file(pattern: String(file.dropFirst(5)))
    default: return nil
    }
  }

  package var description: String {
    switch self {
    case .consul: "consul"
    case .bootstrap: "bootstrap"
    case .syslog: "syslog"
    case .journal(let unit): unit.map { "journal:\($0)" } ?? "journal"
    case .file(let pattern): "file:\(pattern)"
    }
  }

  /// The machine's log as a file, Debian's or Red Hat's; nil where there is none, as where only the journal has it.
  package static func syslogFile(_ files: any FileReader) -> String? {
    ["/var/log/syslog", "/var/log/messages"].first { (try? files.status($0))??.kind == .file }
  }
}
