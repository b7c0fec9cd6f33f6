package import Base

/// State of the log forwarding: the sidecar writes it to its state directory, `status` and Prometheus show it.
package struct ForwardingReport: Sendable {
  /// State of one stream.
  package struct Stream: Sendable, Equatable {
    package enum Condition: String, Sendable {
      /// CloudWatch Logs has acknowledged everything that was read, or will do so in a moment.
      case ok
      /// The service throttles, fails or is unreachable; the stream retries.
      case retrying
      /// The error is not retryable: its cause has to be fixed.
      case parked
      /// An event is unacknowledged for longer than `ForwardingReport.stallTimeout`.
      case stalled
      /// The source does not exist yet.
      case waiting

      /// For people.
      package var humanReadable: String { self == .waiting ? "waiting for the file" : rawValue }
    }

    package var status: LogStreamStatus
    package var condition: Condition
    /// Age of the oldest unacknowledged event, by the time stamps of events: it needs the wall clock.
    package var lag: Duration
  }

  package let time: Timestamp
  package let pid: Int32
  package let streams: [Stream]
  /// Of the external agent, if there is one.
  package let agent: LogAgentReport?

  /// A short outage is not a problem; an event that is unacknowledged for this long is.
  package static let stallTimeout = Duration.seconds(300)
  /// An unchanged report is written again at this interval.
  package static let renewal = Duration.seconds(15)
  /// The sidecar that wrote a report older than three intervals has ended, or hangs. Another process reads the report,
  /// so its age is measured by the wall clock.
  package static let freshness = renewal * 3

  package init(time: Timestamp, pid: Int32, streams: [LogStreamStatus], agent: LogAgentReport?) {
    self.time = time
    self.pid = pid
    self.agent = agent
    self.streams = streams.map { status in
      Stream(
        status: status, condition: Stream.Condition(of: status),
        lag: max(.zero, status.oldestUnsent.map { time - $0 } ?? .zero))
    }
  }

  package func problems(at now: Timestamp) -> [Problem] {
    if now - time > Self.freshness {
      return [Self.stale("the sidecar has not reported since \(time.iso8601)")]
    }
    if time - now > Self.freshness {
      // A running sidecar would have replaced it within the renewal interval.
      return [Self.stale("the sidecar has not reported since the clock was set back: its report is of \(time.iso8601)")]
    }
    let list = streams.compactMap { stream -> Problem? in
      let source = stream.status.source, reason = stream.status.lastError ?? "no event has been acknowledged"
      switch stream.condition {
      case .parked:
        return Problem("\(source) is parked: \(reason)", hint: "fix this cause; forwarding then resumes by itself")
      case .stalled:
        return Problem(
          "\(source) is stalled: \(reason)",
          hint: "find out why CloudWatch Logs cannot be reached: consul-bootstrap doctor")
      case .ok, .retrying, .waiting: return nil
      }
    }
    return list + (agent?.problems ?? [])
  }

  private static func stale(_ message: String) -> Problem {
    Problem(
      message, hint: "restart the sidecar: systemctl restart consul-bootstrap, or the process that supervises the agent"
    )
  }
}

extension ForwardingReport.Stream.Condition {
  init(of status: LogStreamStatus) {
    if status.isParked {
      self = .parked
    } else if let waited = status.waited, waited >= ForwardingReport.stallTimeout {
      self = .stalled
    } else if status.lastError != nil {
      self = .retrying
    } else {
      self = status.isWaiting ? .waiting : .ok
    }
  }
}

// MARK: As JSON

extension ForwardingReport {
  package var json: JSONValue {
    .object([
      "time": .string(time.iso8601), "pid": .integer(Int64(pid)), "streams": .array(streams.map(\.json)),
      "agent": agent?.json ?? .null,
    ])
  }

  /// Nil if the value, or a part of it, is not a report: a stream that is left out would count as healthy.
  package init?(json: JSONValue) {
    guard let time = json["time"]?.string.flatMap({ Timestamp(iso8601: $0) }), let pid = json["pid"]?.integer,
      let streams = json["streams"]?.array
    else { return nil }
    self.time = time
    self.pid = Int32(truncatingIfNeeded: pid)
    self.streams = streams.compactMap { Stream(json: $0) }
    switch json["agent"] {
    case nil, .null: agent = nil
    case let json?:
      agent = LogAgentReport(json: json)
      if agent == nil { return nil }
    }
    guard self.streams.count == streams.count else { return nil }
  }
}

extension ForwardingReport.Stream {
  package var json: JSONValue {
    .object([
      "source": .string(status.source), "group": .string(status.group), "stream": .string(status.stream),
      "condition": .string(condition.rawValue),
      "sent_events": .integer(status.sentEvents), "sent_bytes": .integer(status.sentBytes),
      "retries": .integer(status.retries),
      "rejected_events": .integer(status.rejected), "lost_lines": .integer(status.losses.lines),
      "lost_bytes": .integer(status.losses.bytes),
      "lost_files": .integer(status.losses.files),
      "last_acknowledged": status.lastAcknowledged.map { .string($0.iso8601) } ?? .null,
      "last_error": status.lastError.map(JSONValue.string) ?? .null,
      "behind_bytes": status.behindBytes.map(JSONValue.integer) ?? .null,
      "lag_seconds": .integer(lag.components.seconds),
      "waiting_since": status.waitingSince.map { .string($0.iso8601) } ?? .null,
    ])
  }

  /// Larger numbers in the file are not counters of ours; sums of these cannot overflow.
  private static let largestNumber: Int64 = 1 << 53

  fileprivate init?(json: JSONValue) {
    guard let source = json["source"]?.string, let group = json["group"]?.string, let stream = json["stream"]?.string,
      let condition = json["condition"]?.string.flatMap({ Condition(rawValue: $0) })
    else { return nil }
    let number = { (key: String) in min(max(json[key]?.integer ?? 0, 0), Self.largestNumber) },
      time = { (key: String) in json[key]?.string.flatMap { Timestamp(iso8601: $0) } }
    status = LogStreamStatus(source: source, group: group, stream: stream)
    status.sentEvents = number("sent_events")
    status.sentBytes = number("sent_bytes")
    status.retries = number("retries")
    status.rejected = number("rejected_events")
    status.losses.lines = number("lost_lines")
    status.losses.bytes = number("lost_bytes")
    status.losses.files = number("lost_files")
    status.lastAcknowledged = time("last_acknowledged")
    status.lastError = json["last_error"]?.string
    if json["behind_bytes"]?.integer != nil { status.behindBytes = number("behind_bytes") }
    status.waitingSince = time("waiting_since")
    self.condition = condition
    lag = .seconds(number("lag_seconds"))
  }
}

// MARK: For Prometheus

extension ForwardingReport {
  /// The text format, version 0.0.4.
  package var prometheus: String {
    var text = ""
    func family(_ name: String, _ kind: String, _ help: String, _ value: (Stream) -> Int64?) {
      text += "# HELP consul_bootstrap_log_\(name) \(help)\n# TYPE consul_bootstrap_log_\(name) \(kind)\n"
      for stream in streams {
        guard let value = value(stream) else { continue }
        text += "consul_bootstrap_log_\(name){source=\"\(Self.escaped(stream.status.source))\"} \(value)\n"
      }
    }
    family("sent_events_total", "counter", "Events that CloudWatch Logs has acknowledged.") { $0.status.sentEvents }
    family("sent_bytes_total", "counter", "Bytes of these events, 26 for each event included.") { $0.status.sentBytes }
    family("retries_total", "counter", "Calls that were throttled or failed and are retried.") { $0.status.retries }
    family("rejected_events_total", "counter", "Events that CloudWatch Logs rejected; kept in the dead-letter file.") {
      $0.status.rejected
    }
    family("lost_lines_total", "counter", "Lines that were dropped.") { $0.status.losses.lines }
    family("lost_bytes_total", "counter", "Bytes that were dropped.") { $0.status.losses.bytes }
    family("lag_seconds", "gauge", "Age of the oldest unacknowledged event.") { $0.lag.components.seconds }
    family("behind_bytes", "gauge", "Bytes that are written but not read yet.") { $0.status.behindBytes }
    family("last_acknowledged_timestamp_seconds", "gauge", "When CloudWatch Logs last acknowledged events.") { stream in
      stream.status.lastAcknowledged.map { $0.milliseconds / 1000 }
    }
    family("healthy", "gauge", "0 if the stream is parked or stalled.") {
      $0.condition == .parked || $0.condition == .stalled ? 0 : 1
    }
    if let agent { text += agent.prometheus }
    return text
  }

  static func escaped(_ label: String) -> String {
    label.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
  }
}
