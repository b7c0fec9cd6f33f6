package import Base

/// How the forwarding is doing: what the sidecar leaves in its state directory, and what `status` and Prometheus are told.
package struct ForwardingReport: Sendable {
  /// What is said of one stream.
  package struct Stream: Sendable, Equatable {
    package enum Condition: String, Sendable {
      /// Everything that was read has been accepted, or is on its way.
      case ok
      /// The service throttles, fails or cannot be reached; tried again.
      case retrying
      /// An error that no repetition mends: somebody has to.
      case parked
      /// Something has waited for longer than `ForwardingReport.patience`.
      case stalled
    }

    package var status: LogStreamStatus
    package var condition: Condition
    /// The age of the oldest line that is not accepted yet.
    package var lag: Duration
  }

  package let time: Timestamp
  package let pid: Int32
  package let streams: [Stream]
  /// The external agent's, if there is one.
  package let agent: LogAgentReport?

  /// A service that is away for a moment is no news; a line that has waited for so long is.
  package static let patience = Duration.seconds(300)
  /// A report that is older was left by a sidecar that is not there any more, or that hangs.
  package static let freshness = Duration.seconds(60)
  /// An unchanged report is written anew so often.
  package static let renewal = Duration.seconds(15)

  package init(time: Timestamp, pid: Int32, streams: [LogStreamStatus], agent: LogAgentReport?) {
    self.time = time
    self.pid = pid
    self.agent = agent
    self.streams = streams.map { status in
      let waiting = status.waitingSince.map { time - $0 } ?? .zero
      let condition: Stream.Condition =
        status.isParked ? .parked : waiting >= Self.patience ? .stalled : status.lastError != nil ? .retrying : .ok
      return Stream(
        status: status, condition: condition, lag: max(.zero, status.oldestUnsent.map { time - $0 } ?? .zero))
    }
  }

  /// What somebody has to look at, a line each.
  package func problems(at now: Timestamp) -> [String] {
    if now - time > Self.freshness { return ["the sidecar has not reported since \(time.iso8601)"] }
    let list = streams.compactMap { stream -> String? in
      guard stream.condition == .parked || stream.condition == .stalled else { return nil }
      return
        "\(stream.status.source) is \(stream.condition.rawValue): \(stream.status.lastError ?? "nothing has been accepted")"
    }
    return list + (agent?.problems ?? [])
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

  /// Nil for what is no report.
  package init?(json: JSONValue) {
    guard let time = json["time"]?.string.flatMap({ Timestamp(iso8601: $0) }), let pid = json["pid"]?.integer,
      let streams = json["streams"]?.array
    else { return nil }
    self.time = time
    self.pid = Int32(truncatingIfNeeded: pid)
    self.streams = streams.compactMap { Stream(json: $0) }
    agent = json["agent"].flatMap { LogAgentReport(json: $0) }
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
      "last_acceptance": status.lastAcceptance.map { .string($0.iso8601) } ?? .null,
      "last_error": status.lastError.map(JSONValue.string) ?? .null,
      "behind_bytes": status.behindBytes.map(JSONValue.integer) ?? .null,
      "lag_seconds": .integer(lag.components.seconds),
      "waiting_since": status.waitingSince.map { .string($0.iso8601) } ?? .null,
    ])
  }

  fileprivate init?(json: JSONValue) {
    guard let source = json["source"]?.string, let group = json["group"]?.string, let stream = json["stream"]?.string,
      let condition = json["condition"]?.string.flatMap({ Condition(rawValue: $0) })
    else { return nil }
    let number = { (key: String) in json[key]?.integer ?? 0 },
      time = { (key: String) in json[key]?.string.flatMap { Timestamp(iso8601: $0) } }
    status = LogStreamStatus(source: source, group: group, stream: stream)
    status.sentEvents = number("sent_events")
    status.sentBytes = number("sent_bytes")
    status.retries = number("retries")
    status.rejected = number("rejected_events")
    status.losses.lines = number("lost_lines")
    status.losses.bytes = number("lost_bytes")
    status.losses.files = number("lost_files")
    status.lastAcceptance = time("last_acceptance")
    status.lastError = json["last_error"]?.string
    status.behindBytes = json["behind_bytes"]?.integer
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
    family("sent_events_total", "counter", "Events that CloudWatch Logs has accepted.") { $0.status.sentEvents }
    family("sent_bytes_total", "counter", "Their bytes, as the service counts them.") { $0.status.sentBytes }
    family("retries_total", "counter", "Calls that were throttled or failed.") { $0.status.retries }
    family("rejected_events_total", "counter", "Events that the service refused; kept in the dead-letter file.") {
      $0.status.rejected
    }
    family("lost_lines_total", "counter", "Lines that were given up.") { $0.status.losses.lines }
    family("lost_bytes_total", "counter", "Bytes that were given up.") { $0.status.losses.bytes }
    family("lag_seconds", "gauge", "Age of the oldest line that is not accepted yet.") { $0.lag.components.seconds }
    family("behind_bytes", "gauge", "Bytes that are not read yet.") { $0.status.behindBytes }
    family("last_acceptance_timestamp_seconds", "gauge", "When the service last accepted something.") { stream in
      stream.status.lastAcceptance.map { $0.milliseconds / 1000 }
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
