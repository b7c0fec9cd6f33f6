/// Where log lines come from, as `--log` says it.
package enum LogSource: Sendable, Hashable, CustomStringConvertible {
  /// The agent's output: its unit's journal.
  case consul
  /// The journal, or that of one unit.
  case journal(unit: String?)
  /// A file, or all that match a pattern of `*` and `?` in the last part of the path.
  case file(pattern: String)

  /// `consul`, `journal`, `journal:UNIT`, `file:/PATH`; nil for anything else.
  package init?(_ text: String) {
    switch text {
    case "consul": self = .consul
    case "journal": self = .journal(unit: nil)
    case let unit where unit.hasPrefix("journal:") && unit.count > 8: self = .journal(unit: String(unit.dropFirst(8)))
    case let file where file.hasPrefix("file:/") && file.count > 6 && !file.hasSuffix("/"): self = .file(pattern: String(file.dropFirst(5)))
    default: return nil
    }
  }

  package var description: String {
    switch self {
    case .consul: "consul"
    case .journal(let unit): unit.map { "journal:\($0)" } ?? "journal"
    case .file(let pattern): "file:\(pattern)"
    }
  }
}
