package import Base

/// Where log lines come from, as `--log` names it.
package enum LogSource: Sendable, Hashable, CustomStringConvertible {
  /// The agent's output, wherever it goes: its unit's journal, its container's log or its pipe under supervise.
  case consul
  /// This program's own log.
  case bootstrap
  /// The machine's log: its usual file, or the journal where there is no such file.
  case syslog
  /// The whole journal, or that of one unit.
  case journal(unit: String?)
  /// A file, or every file that matches a pattern.
  case file(FilePattern)

  /// How `--log` names each source, and what it forwards; for help, errors and documents.
  package static let forms: [(form: String, content: String)] = [
    ("consul", "the agent's output"),
    ("bootstrap", "this program's log"),
    ("syslog", "the system's log file, or the journal if there is none"),
    ("journal", "the whole journal"),
    ("journal:UNIT", "the journal of one unit"),
    ("file:/PATH", "a file; with * and ? in its last part, every file that matches"),
  ]

  /// Nil for text in none of the `forms`.
  package init?(_ text: String) {
    switch text {
    case "consul": self = .consul
    case "bootstrap": self = .bootstrap
    case "syslog": self = .syslog
    case "journal": self = .journal(unit: nil)
    case let unit where unit.hasPrefix("journal:") && unit.count > 8:
      self = .journal(unit: String(unit.dropFirst(8)))
    case let file where file.hasPrefix("file:"):
      guard let pattern = FilePattern(String(file.dropFirst(5))) else { return nil }
      self = .file(pattern)
    default: return nil
    }
  }

  package var description: String {
    switch self {
    case .consul: "consul"
    case .bootstrap: "bootstrap"
    case .syslog: "syslog"
    case .journal(let unit): unit.map { "journal:\($0)" } ?? "journal"
    case .file(let pattern): "file:\(pattern.path)"
    }
  }

  /// The file or files to read; nil for a source that is not a file.
  /// - Parameter syslogFile: the machine's log file, if it has one.
  package func files(syslogFile: String?) -> FilePattern? {
    switch self {
    case .bootstrap: FilePattern(file: Settings.ownLogPath)
    case .syslog: syslogFile.map(FilePattern.init(file:))
    case .file(let pattern): pattern
    case .consul, .journal: nil
    }
  }

  /// The source forwards several files, each to a stream of its own.
  package var isPattern: Bool {
    if case .file(let pattern) = self { pattern.hasWildcards } else { false }
  }

  /// Value of `{source}` in the names of log groups and streams.
  package var nameInStream: String { LogStreamName.part(of: description) }
}
