/// How much a log record matters; `--log-level` names the least that is written.
package enum LogLevel: Int, Sendable, Comparable, CaseIterable {
  case debug, info, warning, error

  package var name: String {
    switch self {
    case .debug: "debug"
    case .info: "info"
    case .warning: "warning"
    case .error: "error"
    }
  }

  package init?(name: String) {
    guard let level = Self.allCases.first(where: { $0.name == name }) else { return nil }
    self = level
  }

  package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// One thing that happened: a sentence for people, and the same as data.
package struct LogRecord: Sendable {
  package let level: LogLevel
  package let message: String
  /// In the order in which a person should read them.
  package let attributes: [(key: String, value: JSONValue)]
}

/// Where records go. The real one (`Console` in Host) writes to standard error.
package protocol LogSink: Sendable {
  func write(_ record: LogRecord)
  /// The state of something that takes a while. On a terminal it overwrites the line before; elsewhere it becomes a
  /// record, thinned out so that a long wait does not fill a log.
  func progress(_ record: LogRecord)
}

/// Passed as a value to everything that logs.
package struct Logger: Sendable {
  private let level: LogLevel
  private let sink: any LogSink

  package init(level: LogLevel, sink: any LogSink) {
    self.level = level
    self.sink = sink
  }

  package func debug(_ message: @autoclosure () -> String, _ attributes: KeyValuePairs<String, JSONValue> = [:]) {
    guard level <= .debug else { return }
    sink.write(LogRecord(level: .debug, message: message(), attributes: attributes.map { ($0.key, $0.value) }))
  }

  package func info(_ message: String, _ attributes: KeyValuePairs<String, JSONValue> = [:]) {
    write(.info, message, attributes)
  }

  package func info(_ message: String, attributes: [(key: String, value: JSONValue)]) {
    guard level <= .info else { return }
    sink.write(LogRecord(level: .info, message: message, attributes: attributes))
  }

  package func warning(_ message: String, _ attributes: KeyValuePairs<String, JSONValue> = [:]) {
    write(.warning, message, attributes)
  }

  package func error(_ message: String, _ attributes: KeyValuePairs<String, JSONValue> = [:]) {
    write(.error, message, attributes)
  }

  package func progress(_ message: String, _ attributes: KeyValuePairs<String, JSONValue> = [:]) {
    guard level <= .info else { return }
    sink.progress(LogRecord(level: .info, message: message, attributes: attributes.map { ($0.key, $0.value) }))
  }

  private func write(_ level: LogLevel, _ message: String, _ attributes: KeyValuePairs<String, JSONValue>) {
    guard self.level <= level else { return }
    sink.write(LogRecord(level: level, message: message, attributes: attributes.map { ($0.key, $0.value) }))
  }
}
