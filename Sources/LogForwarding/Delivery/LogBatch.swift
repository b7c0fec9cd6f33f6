internal import Base

/// Events for one call of PutLogEvents, within all of its limits; their texts are escaped for JSON already.
package struct LogBatch: Sendable {
  /// The limits of PutLogEvents (API reference): bytes of UTF-8 plus 26 for each event, events, and the time they span.
  package struct Limits: Sendable {
    package var bytes = 1_048_576
    package var events = 10_000
    package var span: Int64 = 24 * 3600 * 1000

    package init() {}
  }

  /// One event.
  package struct Event: Sendable, Equatable {
    /// Milliseconds since 1970.
    package let timestamp: Int64
    /// Range of its text in `escaped`, without the quotes.
    let text: Range<Int>
    /// As the limit counts it.
    let size: Int
  }

  /// In the order in which they were read.
  package private(set) var events: [Event] = []
  package private(set) var size = 0
  private var escaped: [UInt8] = []
  private let limits: Limits
  private var earliest = Int64.max
  private var latest = Int64.min
  private var isChronological = true

  package init(limits: Limits = Limits()) { self.limits = limits }

  package var isEmpty: Bool { events.isEmpty }

  /// - Parameter text: valid UTF-8. An empty text becomes a blank: the service rejects empty messages.
  /// - Returns: false if the event does not fit: the batch has to be sent first.
  package mutating func append(_ text: ArraySlice<UInt8>, at timestamp: Int64) -> Bool {
    let eventSize = max(1, text.count) + 26
    if !events.isEmpty {
      guard size + eventSize <= limits.bytes, events.count < limits.events,
        case let (span, overflows) = max(latest, timestamp).subtractingReportingOverflow(min(earliest, timestamp)),
        !overflows, span < limits.span
      else { return false }
    }
    let start = escaped.count
    // Doubling would allocate up to twice as much.
    if start + text.count > escaped.capacity, escaped.capacity >= 1 << 17 {
      escaped.reserveCapacity(limits.bytes + limits.bytes / 32)
    }
    if text.isEmpty { escaped.append(32) } else { JSONValue.escape(text, into: &escaped) }
    events.append(Event(timestamp: timestamp, text: start..<escaped.count, size: eventSize))
    size += eventSize
    if timestamp < latest { isChronological = false }
    earliest = min(earliest, timestamp)
    latest = max(latest, timestamp)
    return true
  }

  /// Keeps the memory.
  package mutating func removeAll() {
    events.removeAll(keepingCapacity: true)
    escaped.removeAll(keepingCapacity: true)
    size = 0
    earliest = .max
    latest = .min
    isChronological = true
  }

  /// Sorted by time, as the service requires; events of the same time keep their order.
  package var chronological: [Event] {
    if isChronological { return events }
    return events.enumerated().sorted { ($0.element.timestamp, $0.offset) < ($1.element.timestamp, $1.offset) }.map(
      \.element)
  }

  /// Maximum size of the events as a JSON array, in bytes.
  package var jsonSize: Int { escaped.count + events.count * (Self.opening.count + Self.middle.count + 22) + 2 }

  /// Appends the events as a JSON array.
  package func append(_ events: [Event], to json: inout [UInt8]) {
    json.append(UInt8(ascii: "["))
    let opening = Self.opening, middle = Self.middle
    // Many lines share a time: its digits are formatted once.
    var digits: [UInt8] = [], last: Int64?
    escaped.withUnsafeBufferPointer { escaped in
      for (index, event) in events.enumerated() {
        if index > 0 { json.append(UInt8(ascii: ",")) }
        if event.timestamp != last {
          digits.removeAll(keepingCapacity: true)
          JSONValue.write(event.timestamp, into: &digits)
          digits.append(UInt8(ascii: "}"))
          last = event.timestamp
        }
        json.append(contentsOf: opening)
        json.append(contentsOf: UnsafeBufferPointer(rebasing: escaped[event.text]))
        json.append(contentsOf: middle)
        json.append(contentsOf: digits)
      }
    }
    json.append(UInt8(ascii: "]"))
  }

  private static let opening = Array(#"{"message":""#.utf8)
  private static let middle = Array(#"","timestamp":"#.utf8)

  /// For tests: the text of an event.
  func message(_ event: Event) -> String {
    (try? JSONValue(parsing: "\"\(String(decoding: escaped[event.text], as: UTF8.self))\""))?.string ?? ""
  }
}
