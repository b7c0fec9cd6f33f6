package import Base

/// Keeps what was logged.
package final class RecordingSink: LogSink {
  package struct Record: Sendable, Equatable, CustomStringConvertible {
    package let level: LogLevel
    package let message: String
    package let attributes: [String: JSONValue]
    package let isProgress: Bool
    /// `warning cannot read a file path=/etc/x reason="…"`, with the attributes in order.
    package let description: String
  }

  private let records = Watched<[Record]>([])

  package init() {}

  /// Everything, in order.
  package var all: [Record] { records.value }

  /// Those of a level, progress not included.
  package func records(_ level: LogLevel) -> [Record] { all.filter { $0.level == level && !$0.isProgress } }

  /// Level, message and attributes of each, progress not included.
  package var lines: [String] { all.filter { !$0.isProgress }.map(\.description) }

  package var progress: [Record] { all.filter(\.isProgress) }

  /// Waits for a record whose message contains the text, progress included.
  @discardableResult
  package func record(containing text: String, number: Int = 1) async throws -> Record {
    try await records.wait { records in
      let found = records.filter { $0.message.contains(text) }
      return found.count >= number ? found[number - 1] : nil
    }
  }

  package func write(_ record: LogRecord) { keep(record, isProgress: false) }
  package func progress(_ record: LogRecord) { keep(record, isProgress: true) }

  private func keep(_ record: LogRecord, isProgress: Bool) {
    let words = record.attributes.map { "\($0.key)=\($0.value.compactText)" }
    let kept = Record(
      level: record.level, message: record.message,
      attributes: Dictionary(record.attributes.map { ($0.key, $0.value) }, uniquingKeysWith: { $1 }),
      isProgress: isProgress, description: ([record.level.name, record.message] + words).joined(separator: " "))
    records.update { $0.append(kept) }
  }
}

/// A regular expression by Swift's engine: what POSIX extended expressions and Swift's have in common.
package struct FakePattern: TextPattern {
  private let text: String

  /// Nil for what is no expression.
  package init?(_ text: String) {
    guard (try? Regex(text)) != nil else { return nil }
    self.text = text
  }

  package func isFound(in bytes: ArraySlice<UInt8>) -> Bool {
    guard let regex = try? Regex(text) else { return false }
    return String(decoding: bytes, as: UTF8.self).firstMatch(of: regex) != nil
  }
}
