/// One event of CloudWatch Logs, and how far its source has been read with it.
package struct LogEvent: Sendable, Equatable {
  /// Milliseconds since 1970.
  package let timestamp: Int64
  /// Never empty: the service takes no empty message.
  package let message: String

  package init(timestamp: Int64, message: String) {
    self.timestamp = timestamp
    self.message = message.isEmpty ? " " : message
  }

  /// As the service counts it: UTF-8 and 26 bytes (API reference, PutLogEvents).
  package var size: Int { message.utf8.count + 26 }
}

/// Events for one call of PutLogEvents, inside all of its limits.
package struct LogBatch: Sendable {
  /// The limits of PutLogEvents (API reference): bytes as `LogEvent.size` counts them, events, and the time that they span.
  package struct Limits: Sendable {
    package var bytes = 1_048_576
    package var events = 10_000
    package var span: Int64 = 24 * 3600 * 1000

    package init() {}
  }

  /// In the order in which they were read, which is what counts for a reader; `chronological` is what the service wants.
  package private(set) var events: [LogEvent] = []
  package private(set) var size = 0
  private let limits: Limits
  private var earliest = Int64.max
  private var latest = Int64.min

  package init(limits: Limits = Limits()) { self.limits = limits }

  package var isEmpty: Bool { events.isEmpty }

  /// - Returns: false if the event does not fit any more: this batch is to be sent first.
  package mutating func append(_ event: LogEvent) -> Bool {
    if !events.isEmpty {
      guard size + event.size <= limits.bytes, events.count < limits.events,
        max(latest, event.timestamp) - min(earliest, event.timestamp) < limits.span
      else { return false }
    }
    events.append(event)
    size += event.size
    earliest = min(earliest, event.timestamp)
    latest = max(latest, event.timestamp)
    return true
  }

  /// Sorted by time; events of the same time keep their order.
  package var chronological: [LogEvent] {
    events.enumerated().sorted { ($0.element.timestamp, $0.offset) < ($1.element.timestamp, $1.offset) }.map(\.element)
  }
}
