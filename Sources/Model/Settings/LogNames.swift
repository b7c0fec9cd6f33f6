internal import Base

extension Settings {
  /// Stands for `{group}` on an instance that is in no Auto Scaling group.
  package static let noLogGroupName = "no-group"

  package var logTemplates: [String] {
    [logGroup, logStream] + logs.flatMap { [$0.group, $0.stream].compactMap { $0 } }
  }

  /// The names of log groups or streams contain the name of this instance's Auto Scaling group.
  package var logNamesNeedGroup: Bool { logTemplates.contains { $0.contains("{group}") } }

  /// Values of the fields in the names of log groups and streams, except `group`, which AWS knows, and `source`.
  package func logValues(_ identity: Identity, hostName: String) -> [String: String] {
    [
      "az": identity.availabilityZone, "datacenter": (try? datacenterName(for: identity)) ?? datacenter,
      "hostname": hostName, "instance_id": identity.instanceID,
    ]
  }

  /// Where the sources go, a log group each. A source that is a pattern has as many streams as files match: its stream
  /// here is that of the pattern itself.
  /// - Parameter groupName: of this instance's Auto Scaling group, if `logNamesNeedGroup`.
  package func logDestinations(_ identity: Identity, hostName: String, groupName: String?) -> [LogDestination] {
    var values = logValues(identity, hostName: hostName)
    values["group"] = groupName ?? Self.noLogGroupName
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
  /// Days; nil: for ever.
  package let retention: Int?
}
