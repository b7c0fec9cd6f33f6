package import Base
internal import Synchronization

/// The log on standard error: short lines on a terminal, time-stamped records elsewhere.
package final class Console: ErrorOutput {
  package enum Format: String, Sendable, CaseIterable { case text, json }

  private struct State {
    /// Whether the terminal shows a progress line, which has no newline.
    var hasOpenLine = false
    var lastProgress: (message: String, uptime: Duration)?
  }

  private let format: Format
  private let terminal: Terminal
  private var isTerminal: Bool { format == .text && terminal.isTerminal }
  private let state = Mutex(State())

  /// Elsewhere than on a terminal, an unchanged state is repeated this often.
  private static let progressInterval = Duration.seconds(10)

  package init(format: Format, environment: [String: String]) {
    self.format = format
    terminal = .error(environment)
  }

  package func write(_ record: LogRecord) {
    write(text: text(record) + "\n")
  }

  /// Whole lines, unchanged; they replace a progress line.
  package func write(text: String) {
    state.withLock { state in
      Machine.write((state.hasOpenLine ? "\r\u{1B}[K" : "") + text, toStandardError: true)
      state.hasOpenLine = false
    }
  }

  package func progress(_ record: LogRecord) {
    let now = Machine.uptime()
    guard !isTerminal else {
      let elapsed = record.attributes.first { $0.key == "elapsed" }?.value.string.map { "\($0): " } ?? ""
      let line = String((elapsed + record.message).prefix(max(20, terminal.width - 1)))
      return state.withLock { state in
        Machine.write("\r\u{1B}[K" + line, toStandardError: true)
        state.hasOpenLine = true
      }
    }
    // Values that change every time, such as the elapsed time, are attributes, not part of the message.
    let isNews = state.withLock { state in
      if let last = state.lastProgress, last.message == record.message, now - last.uptime < Self.progressInterval {
        return false
      }
      state.lastProgress = (record.message, now)
      return true
    }
    if isNews { write(record) }
  }

  private func text(_ record: LogRecord) -> String {
    guard isTerminal else { return Self.line(record, format) }
    let line = Self.humanReadable(record)
    switch record.level {
    case .info: return line
    case .debug: return "debug: \(line)"
    case .warning: return terminal.colored("warning:", .yellow) + " \(line)"
    case .error: return terminal.colored("error:", .red) + " \(line)"
    }
  }

  /// A time-stamped record, without a newline.
  static func line(_ record: LogRecord, _ format: Format) -> String {
    switch format {
    case .json:
      var members = Dictionary(record.attributes.map { ($0.key, $0.value) }, uniquingKeysWith: { _, last in last })
      members["time"] = .string(Machine.now().iso8601)
      members["level"] = .string(record.level.name)
      members["message"] = .string(record.message)
      return JSONValue.object(members).compactText
    case .text: return "\(Machine.now().iso8601) \(record.level.name) \(sentence(record))"
    }
  }

  /// One line without JSON.
  private static func humanReadable(_ record: LogRecord) -> String {
    let attributes = record.attributes.compactMap { key, value -> String? in
      let text =
        value.string ?? value.array.map { $0.compactMap(\.string).joined(separator: ", ") } ?? value.compactText
      return text.isEmpty ? nil : "\(key): \(text)"
    }
    let rest = attributes.isEmpty ? "" : " (\(attributes.joined(separator: "; ")))"
    return "\(record.message)\(rest)".split(whereSeparator: \.isNewline).joined(separator: " ")
  }

  /// One record is one line.
  private static func sentence(_ record: LogRecord) -> String {
    let attributes = record.attributes.map { " \($0.key)=\($0.value.string.map(quoted) ?? $0.value.compactText)" }
      .joined()
    return "\(record.message)\(attributes)".split(whereSeparator: \.isNewline).joined(separator: " ")
  }

  private static func quoted(_ text: String) -> String {
    text.contains(where: { $0 == " " || $0 == "\"" }) || text.isEmpty ? JSONValue.string(text).compactText : text
  }
}
