package import Base

/// What AWS's own log agents are told, and where they live: the same sources, groups and streams as our own forwarding.
package struct LogAgentConfiguration: Sendable, Equatable {
  /// One agent, wherever its distribution keeps it.
  package struct Agent: Sendable, Equatable {
    package let name: String
    /// What is written for it.
    package let path: String
    /// Its units; the first that is there is meant.
    package let units: [String]
    /// Reads what was written, and starts; nil where a restart of the unit does.
    package let command: Command?
  }

  /// A file to be forwarded, or a pattern, with names filled in.
  package struct File: Sendable, Equatable {
    package let source: String
    package let path: String
    package let group: String
    package let stream: String
    package let retention: Int?
    package let multilineStart: String?
  }

  package let agent: Agent
  package let files: [File]
  package let text: String

  /// - Parameters:
  ///   - groupName: of this instance's Auto Scaling group.
  ///   - syslogFile: of this machine; nil if it has none, as where only the journal has it.
  /// - Returns: nil if no agent is asked for, or a name has a field that is not known now.
  package init?(_ settings: Settings, _ identity: Identity, hostName: String, groupName: String?, syslogFile: String?) {
    guard let kind = settings.logAgent else { return nil }
    var values = settings.logValues(identity, hostName: hostName)
    if let groupName { values["group"] = groupName }
    var files: [File] = []
    for log in settings.logs {
      let path =
        log.source == "bootstrap"
        ? Settings.ownLogPath : log.source == "syslog" ? syslogFile : String(log.source.dropFirst(5))
      values["source"] = LogStreamName.part(of: log.source)
      guard let path, let group = NameTemplate.expand(log.group ?? settings.logGroup, { values[$0] }),
        let stream = NameTemplate.expand(log.stream ?? settings.logStream, { values[$0] })
      else { return nil }
      files.append(
        File(
          source: log.source, path: path, group: group, stream: stream,
          retention: log.retention ?? settings.logRetention,
          multilineStart: log.multilineStart ?? settings.multilineStart))
    }
    self.files = files
    switch kind {
    case .awslogs:
      // Amazon Linux 2's package names its unit awslogsd, the installer of the articles awslogs; both read this directory.
      agent = Agent(
        name: kind.rawValue, path: "/etc/awslogs/config/consul-bootstrap.conf",
        units: ["awslogsd.service", "awslogs.service"], command: nil)
      text = Self.awslogs(files)
    case .cloudWatchAgent:
      let path = settings.stateDirectory + "/amazon-cloudwatch-agent.json"
      agent = Agent(
        name: kind.rawValue, path: path, units: ["amazon-cloudwatch-agent.service"],
        command: Command(
          "/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl",
          ["-a", "append-config", "-m", "ec2", "-s", "-c", "file:\(path)"]))
      text = Self.cloudWatchAgent(files)
    }
  }

  /// CloudWatch Logs Agent Reference: a section for each file.
  private static func awslogs(_ files: [File]) -> String {
    SystemdUnit.mark + ", which overwrites it.\n"
      + files.map { file in
        """

        [\(file.path)]
        file = \(file.path)
        log_group_name = \(file.group)
        log_stream_name = \(file.stream)
        initial_position = start_of_file

        """ + (file.multilineStart.map { "multi_line_start_pattern = \($0)\n" } ?? "")
      }.joined()
  }

  /// CloudWatch agent configuration file: `logs.logs_collected.files.collect_list`.
  private static func cloudWatchAgent(_ files: [File]) -> String {
    let list = files.map { file in
      var entry: [String: JSONValue] = [
        "file_path": .string(file.path), "log_group_name": .string(file.group), "log_stream_name": .string(file.stream),
      ]
      if let days = file.retention { entry["retention_in_days"] = .integer(Int64(days)) }
      if let pattern = file.multilineStart { entry["multi_line_start_pattern"] = .string(pattern) }
      return JSONValue.object(entry)
    }
    return JSONValue.object(["logs": ["logs_collected": ["files": ["collect_list": .array(list)]]]]).prettyText
  }
}

extension Settings {
  /// What stands for the fields of log groups and streams; `group` is asked of AWS, `source` differs.
  package func logValues(_ identity: Identity, hostName: String) -> [String: String] {
    [
      "az": identity.availabilityZone, "datacenter": (try? datacenterName(for: identity)) ?? datacenter,
      "hostname": hostName,
      "instance_id": identity.instanceID,
    ]
  }
}
