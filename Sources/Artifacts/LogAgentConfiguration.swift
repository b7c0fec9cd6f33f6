internal import Base
package import Model

extension LogAgentConfiguration {
  /// - Parameters:
  ///   - groupName: name of this instance's Auto Scaling group, if it is known.
  ///   - syslogFile: the machine's log file; nil if only the journal has the log.
  /// - Returns: nil if the settings name no log agent, a source has no file, or a name has a field that is not known.
  package init?(_ settings: Settings, _ identity: Identity, hostName: String, groupName: String?, syslogFile: String?) {
    guard let kind = settings.logAgent else { return nil }
    var values = settings.logValues(identity, hostName: hostName)
    if let groupName { values["group"] = groupName }
    var files: [File] = []
    for log in settings.logs {
      values["source"] = log.source.nameInStream
      guard let pattern = log.source.files(syslogFile: syslogFile),
        let group = NameTemplate.expand(log.group ?? settings.logGroup, { values[$0] }),
        let stream = NameTemplate.expand(log.stream ?? settings.logStream, { values[$0] })
      else { return nil }
      files.append(
        File(
          source: log.source.description, pattern: pattern, group: group, stream: stream,
          retention: log.retention ?? settings.logRetention,
          multilineStart: log.multilineStart ?? settings.multilineStart))
    }
    let agent: Agent, text: String
    switch kind {
    case .awslogs:
      // The unit is awslogsd in Amazon Linux 2's package and awslogs in AWS's installer; both read this directory.
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
    self.init(agent: agent, files: files, text: text)
  }

  /// One section for each file (CloudWatch Logs Agent Reference).
  private static func awslogs(_ files: [File]) -> String {
    SystemdUnit.header + ", which overwrites it.\n"
      + files.map { file in
        """

        [\(file.pattern.path)]
        file = \(file.pattern.path)
        log_group_name = \(file.group)
        log_stream_name = \(file.stream)
        initial_position = start_of_file

        """ + (file.multilineStart.map { "multi_line_start_pattern = \($0)\n" } ?? "")
      }.joined()
  }

  /// `logs.logs_collected.files.collect_list` of the CloudWatch agent's configuration file.
  private static func cloudWatchAgent(_ files: [File]) -> String {
    let list = files.map { file in
      var entry: [String: JSONValue] = [
        "file_path": .string(file.pattern.path), "log_group_name": .string(file.group),
        "log_stream_name": .string(file.stream),
      ]
      if let days = file.retention { entry["retention_in_days"] = .integer(Int64(days)) }
      if let pattern = file.multilineStart { entry["multi_line_start_pattern"] = .string(pattern) }
      return JSONValue.object(entry)
    }
    return JSONValue.object(["logs": ["logs_collected": ["files": ["collect_list": .array(list)]]]]).prettyText
  }
}
