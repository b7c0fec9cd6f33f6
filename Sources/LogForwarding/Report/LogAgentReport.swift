package import Base

/// State of an external log agent.
package struct LogAgentReport: Sendable, Equatable {
  package struct Stream: Sendable, Equatable {
    package let source: String
    package let group: String
    package let stream: String
    /// Time of the file's last line.
    package var lastLine: Timestamp?
    /// Time of the stream's last event, as CloudWatch Logs reports it.
    package var lastEvent: Timestamp?
    /// Since when the stream receives nothing although the file grows.
    package var behindSince: Timestamp?
    package var isStalled = false
    package var error: String?

    package init(source: String, group: String, stream: String) {
      self.source = source
      self.group = group
      self.stream = stream
    }
  }

  package let name: String
  package var isRunning: Bool
  /// Why the state of its units is unknown.
  package var error: String?
  package var streams: [Stream]

  package init(name: String, isRunning: Bool, streams: [Stream]) {
    self.name = name
    self.isRunning = isRunning
    self.streams = streams
  }

  package var problems: [Problem] {
    let stopped = Problem(
      "\(name) is not running" + (error.map { " (\($0))" } ?? ""),
      hint: "start the service of \(name), and check its log")
    return (isRunning ? [] : [stopped])
      + streams.filter(\.isStalled).map { stream in
        Problem(
          "\(stream.source) is stalled: \(stream.group) \(stream.stream) has received nothing since "
            + (stream.lastEvent.map(\.iso8601) ?? "it was created") + (stream.error.map { " (\($0))" } ?? ""),
          hint: "check the log of \(name) and the permissions of this instance's role")
      }
  }

  package var json: JSONValue {
    let time = { (time: Timestamp?) in time.map { JSONValue.string($0.iso8601) } ?? .null }
    return .object([
      "name": .string(name), "running": .bool(isRunning), "error": error.map(JSONValue.string) ?? .null,
      "streams": .array(
        streams.map { stream in
          .object([
            "source": .string(stream.source), "group": .string(stream.group), "stream": .string(stream.stream),
            "last_line": time(stream.lastLine), "last_event": time(stream.lastEvent),
            "behind_since": time(stream.behindSince),
            "stalled": .bool(stream.isStalled), "error": stream.error.map(JSONValue.string) ?? .null,
          ])
        }),
    ])
  }

  /// Nil if the value, or a part of it, is not a report.
  package init?(json: JSONValue) {
    guard let name = json["name"]?.string, let isRunning = json["running"]?.bool, let list = json["streams"]?.array
    else { return nil }
    self.name = name
    self.isRunning = isRunning
    error = json["error"]?.string
    streams = list.compactMap { json -> Stream? in
      guard let source = json["source"]?.string, let group = json["group"]?.string, let name = json["stream"]?.string
      else { return nil }
      let time = { (key: String) in json[key]?.string.flatMap { Timestamp(iso8601: $0) } }
      var stream = Stream(source: source, group: group, stream: name)
      stream.lastLine = time("last_line")
      stream.lastEvent = time("last_event")
      stream.behindSince = time("behind_since")
      stream.isStalled = json["stalled"]?.bool ?? false
      stream.error = json["error"]?.string
      return stream
    }
    guard streams.count == list.count else { return nil }
  }

  var prometheus: String {
    let prefix = "consul_bootstrap_log_agent"
    var text = "# HELP \(prefix)_running Whether \(name) is running.\n# TYPE \(prefix)_running gauge\n"
    text += "\(prefix)_running \(isRunning ? 1 : 0)\n"
    text += "# HELP \(prefix)_healthy 0 if a stream receives nothing although its file grows.\n"
    text += "# TYPE \(prefix)_healthy gauge\n"
    for stream in streams {
      text += "\(prefix)_healthy{source=\"\(ForwardingReport.escaped(stream.source))\"} \(stream.isStalled ? 0 : 1)\n"
    }
    return text
  }
}
