internal import Base

extension Settings {
  /// A source to forward, with the settings that apply to it alone; nil: those of all sources.
  package struct LogRequest: Sendable, Equatable {
    package var source: LogSource
    /// Template of the log group's name.
    package var group: String?
    /// Template of the log stream's name.
    package var stream: String?
    /// Retention in days.
    package var retention: Int?
    /// POSIX extended regular expression for the first line of each record.
    package var multilineStart: String?
    /// Member of JSON lines that holds the time.
    package var timestampKey: String?

    package init(source: LogSource) { self.source = source }
  }

  /// One of AWS's log agents.
  package enum LogAgent: String, Sendable, CaseIterable {
    case awslogs
    case cloudWatchAgent = "amazon-cloudwatch-agent"
  }

  /// Fields of `logGroup` and `logStream`. Each source fills in `source`.
  package static let logFields = ["az", "datacenter", "group", "hostname", "instance_id", "source"]

  /// Stands for `{group}` on an instance that is in no Auto Scaling group.
  package static let groupNameOutsideGroups = "no-group"

  /// `logTags` by key; of a repeated key the last.
  package var tagsOfLogGroups: [String: String] {
    Dictionary(logTags.map { ($0.key, $0.value) }, uniquingKeysWith: { _, last in last })
  }

  package func forwards(_ source: LogSource) -> Bool { logs.contains { $0.source == source } }

  /// Every template of a log group or stream.
  package var logTemplates: [String] {
    [logGroup, logStream] + logs.flatMap { [$0.group, $0.stream].compactMap { $0 } }
  }

  /// Whether a log group or stream is named after this instance's Auto Scaling group.
  package var logNamesNeedGroup: Bool { logTemplates.contains { $0.contains("{group}") } }

  /// Values of the fields of log group and stream names, except `group`, which AWS knows, and `source`.
  package func logValues(_ identity: Identity, hostName: String) -> [String: String] {
    let datacenter: String
    do {
      datacenter = try datacenterName(for: identity)
    } catch {
      // A run with such a zone ends with this error; until then its log goes to the group of the single layout.
      datacenter = self.datacenter
    }
    return [
      "az": identity.availabilityZone, "datacenter": datacenter, "hostname": hostName,
      "instance_id": identity.instanceID,
    ]
  }

  /// The log groups that the sources go to, one stream of each. A source that is a pattern has a stream for each file
  /// that matches: its stream here is named after the pattern.
  /// - Parameter groupName: of this instance's Auto Scaling group, if `logNamesNeedGroup`.
  package func logDestinations(_ identity: Identity, hostName: String, groupName: String?) -> [LogDestination] {
    var values = logValues(identity, hostName: hostName)
    values["group"] = groupName ?? Self.groupNameOutsideGroups
    var list: [LogDestination] = []
    for log in logs {
      values["source"] = log.source.nameInStream
      let expanded = { (text: String) in NameTemplate.expand(text) { values[$0] } ?? text }
      let group = expanded(log.group ?? logGroup)
      guard !list.contains(where: { $0.group == group }) else { continue }
      list.append(
        LogDestination(
          group: group, stream: expanded(log.stream ?? logStream), retention: log.retention ?? logRetention))
    }
    return list
  }
}

/// A log group with one of its streams.
package struct LogDestination: Sendable, Equatable {
  package let group: String
  package let stream: String
  /// Retention in days; nil: events never expire.
  package let retention: Int?
}
