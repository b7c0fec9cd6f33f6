package import Base

/// Counters and state of a stream, for `status`.
package struct LogStreamStatus: Sendable, Equatable {
  package let source: String
  package let group: String
  package let stream: String
  package var sentEvents: Int64 = 0
  package var sentBytes: Int64 = 0
  package var retries: Int64 = 0
  package var rejected: Int64 = 0
  package var losses = SourceLosses()
  package var lastAcknowledged: Timestamp?
  package var lastError: String?
  /// Parked: the error is not retryable. The stream retries rarely, until the cause is fixed.
  package var isParked = false
  /// The source does not exist yet, for example a file.
  package var isWaiting = false
  package var behindBytes: Int64?
  /// Time of the oldest unacknowledged event.
  package var oldestUnsent: Timestamp?
  /// When the oldest unacknowledged event was read: a time stamp to show.
  package var waitingSince: Timestamp?
  /// How long ago that was by the monotonic clock; nil if every event is acknowledged.
  package var waited: Duration?

  package init(source: String, group: String, stream: String) {
    self.source = source
    self.group = group
    self.stream = stream
  }
}

/// Destination of a stream, and how its lines are read.
struct LogStreamPlan: Sendable {
  let source: String
  let group: String
  let stream: String
  /// Of a group that is created here: days; nil: unlimited.
  let retention: Int?
  let tags: [String: String]
  let times: LogTimestamp
  /// Joins the lines of a record; nil: each line is an event.
  let recordStart: (any TextPattern)?
}
