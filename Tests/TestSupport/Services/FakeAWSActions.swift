internal import AWS
internal import Base

/// What each action answers and changes.
extension FakeAWS.State {
  /// The Query protocol: the body of the answer.
  mutating func query(_ action: String, _ parameters: [String: String]) throws -> String {
    switch action {
    case "DescribeInstances": return try describeInstances(parameters)
    case "DescribeAutoScalingGroups": return describeGroups(parameters)
    case "DescribeAutoScalingInstances":
      let ids = list(parameters, "InstanceIds.member.")
      let members = instances.filter { ids.contains($0.id) && $0.group != nil }.map { instance in
        "<member>\(QueryXML.element("InstanceId", instance.id))"
          + "\(QueryXML.element("AutoScalingGroupName", instance.group))"
          + "\(QueryXML.element("LifecycleState", instance.lifecycle))</member>"
      }
      return result(action, "<AutoScalingInstances>\(members.joined())</AutoScalingInstances>")
    case "DescribeLifecycleHooks":
      let group = groups.first { $0.name == parameters["AutoScalingGroupName"] ?? "" }
      let hook = parameters["LifecycleHookNames.member.1"] ?? ""
      let found = group?.hooks.contains(hook) == true ? group?.heartbeatTimeout : nil
      let member =
        found.map {
          "<member>\(QueryXML.element("HeartbeatTimeout", String($0)))"
            + "\(QueryXML.element("GlobalTimeout", group?.globalTimeout.map { String($0) }))</member>"
        } ?? ""
      return result(action, "<LifecycleHooks>\(member)</LifecycleHooks>")
    case "RecordLifecycleActionHeartbeat":
      try checkHook(parameters)
      heartbeats += 1
      return result(action, "")
    case "CompleteLifecycleAction":
      try checkHook(parameters)
      let group = parameters["AutoScalingGroupName"] ?? "", hook = parameters["LifecycleHookName"] ?? ""
      completed.append(
        "\(hook) \(group) \(parameters["InstanceId"] ?? "") \(parameters["LifecycleActionResult"] ?? "")")
      return result(action, "")
    default: forgotten("an answer of AWS to \(action)")
    }
  }

  /// Only a hook that holds the instance takes an action.
  private func checkHook(_ parameters: [String: String]) throws {
    let group = groups.first { $0.name == parameters["AutoScalingGroupName"] ?? "" }
    let instance = instances.first { $0.id == parameters["InstanceId"] && $0.group == group?.name }
    guard group?.hooks.contains(parameters["LifecycleHookName"] ?? "") == true,
      instance.map({ $0.lifecycle.hasSuffix("Pending:Wait") || $0.lifecycle == "Terminating:Wait" }) == true
    else { throw RefusalError(400, "ValidationError", "No active Lifecycle Action found") }
  }

  private func describeInstances(_ parameters: [String: String]) throws -> String {
    var filters: [(name: String, values: [String])] = []
    while let name = parameters["Filter.\(filters.count + 1).Name"] {
      filters.append((name, list(parameters, "Filter.\(filters.count + 1).Value.")))
    }
    let found = instances.filter { instance in
      instance.isInEC2 && filters.allSatisfy { matches(instance, $0.name, $0.values) }
    }
    let (page, next) = page(found, parameters)
    return "<DescribeInstancesResponse><requestId>request-1</requestId><reservationSet>"
      + page.map { "<item><instancesSet>\(QueryXML.instance($0))</instancesSet></item>" }.joined()
      + "</reservationSet>\(QueryXML.element("nextToken", next))</DescribeInstancesResponse>"
  }

  private func matches(_ instance: FakeInstance, _ filter: String, _ values: [String]) -> Bool {
    let value: String?
    switch filter {
    case "instance-id": value = instance.id
    case "instance-state-name": value = instance.state
    case "vpc-id": value = instance.vpcID
    case "availability-zone": value = instance.zone
    case "private-ip-address": value = instance.ip
    case _ where filter.hasPrefix("tag:"): value = instance.allTags[String(filter.dropFirst(4))]
    default: forgotten("EC2's filter \(filter)")
    }
    return value.map { values.contains($0) } ?? false
  }

  private func describeGroups(_ parameters: [String: String]) -> String {
    let names = list(parameters, "AutoScalingGroupNames.member.")
    let (page, next) = page(groups.filter { names.isEmpty || names.contains($0.name) }, parameters)
    let members = page.map { group in QueryXML.group(group, instances.filter { $0.group == group.name && $0.isListed })
    }
    return result(
      "DescribeAutoScalingGroups",
      "<AutoScalingGroups>\(members.joined())</AutoScalingGroups>\(QueryXML.element("NextToken", next))")
  }

  private func result(_ action: String, _ text: String) -> String {
    "<\(action)Response><\(action)Result>\(text)</\(action)Result></\(action)Response>"
  }

  private func list(_ parameters: [String: String], _ prefix: String) -> [String] {
    var values: [String] = []
    while let value = parameters["\(prefix)\(values.count + 1)"] { values.append(value) }
    return values
  }

  private func page<Item>(_ items: [Item], _ parameters: [String: String]) -> (items: ArraySlice<Item>, next: String?) {
    let start = parameters["NextToken"].flatMap { Int($0) } ?? 0
    let page = items.dropFirst(start).prefix(pageSize)
    let end = start + page.count
    return (page, end < items.count ? String(end) : nil)
  }

  /// The JSON protocol: the body of the answer.
  mutating func json(_ action: String, _ body: JSONValue) throws -> String {
    switch action {
    case "GetParameter":
      let name = body["Name"]?.string ?? ""
      guard let value = parameters[name] else { throw RefusalError(400, "ParameterNotFound") }
      let parameter: JSONValue = ["Name": .string(name), "Value": .string(value), "Type": "SecureString"]
      return JSONValue.object(["Parameter": parameter]).compactText
    case "PutParameter":
      let name = body["Name"]?.string ?? ""
      guard parameters[name] == nil || body["Overwrite"]?.bool == true else {
        throw RefusalError(400, "ParameterAlreadyExists")
      }
      parameters[name] = body["Value"]?.string
      return #"{"Version":1}"#
    case "GetParametersByPath":
      // Pages hold ten parameters, in no particular order.
      let path = body["Path"]?.string ?? "", start = body["NextToken"]?.string.flatMap { Int($0) } ?? 0
      let found = parameters.filter { $0.key.hasPrefix(path) && !$0.key.dropFirst(path.count).contains("/") }
        .sorted { $0.key > $1.key }
      let list = found.dropFirst(start).prefix(10).map { name, value -> JSONValue in
        ["Name": .string(name), "Value": .string(value), "Type": "String"]
      }
      var answer: [String: JSONValue] = ["Parameters": .array(list)]
      if start + 10 < found.count { answer["NextToken"] = .string(String(start + 10)) }
      return JSONValue.object(answer).compactText
    case "GetSecretValue":
      guard let value = secrets[body["SecretId"]?.string ?? ""] else {
        throw RefusalError(400, "ResourceNotFoundException")
      }
      return JSONValue.object(["SecretString": .string(value)]).compactText
    case "CreateLogGroup":
      let group = body["logGroupName"]?.string ?? ""
      guard logs[group] == nil else { throw RefusalError(400, "ResourceAlreadyExistsException") }
      logs[group] = [:]
      return ""
    case "CreateLogStream":
      let (group, stream) = try logGroup(body)
      guard logs[group]?[stream] == nil else { throw RefusalError(400, "ResourceAlreadyExistsException") }
      logs[group]?[stream] = FakeAWS.LogStreamState()
      return ""
    case "PutRetentionPolicy":
      retention[try logGroup(body).group] = body["retentionInDays"]?.integer
      return ""
    case "PutLogEvents":
      let (group, stream) = try logGroup(body)
      guard logs[group]?[stream] != nil else {
        throw RefusalError(400, "ResourceNotFoundException", "The specified log stream does not exist.")
      }
      let events = body["logEvents"]?.array ?? []
      logs[group]?[stream]?.events += events.map { ($0["timestamp"]?.integer ?? 0, $0["message"]?.string ?? "") }
      return "{}"
    case "DescribeLogStreams":
      let group = try logGroup(body).group
      let prefix = body["logStreamNamePrefix"]?.string ?? ""
      let streams = (logs[group] ?? [:]).filter { $0.key.hasPrefix(prefix) }.sorted { $0.key < $1.key }
      let list = streams.map { name, stream -> JSONValue in
        var members: [String: JSONValue] = ["logStreamName": .string(name)]
        members["lastEventTimestamp"] = stream.events.map(\.time).max().map(JSONValue.integer)
        return .object(members)
      }
      return JSONValue.object(["logStreams": .array(list)]).compactText
    default: forgotten("an answer of AWS to \(action)")
    }
  }

  private func logGroup(_ body: JSONValue) throws -> (group: String, stream: String) {
    let group = body["logGroupName"]?.string ?? ""
    guard logs[group] != nil else {
      throw RefusalError(400, "ResourceNotFoundException", "The specified log group does not exist.")
    }
    return (group, body["logStreamName"]?.string ?? "")
  }
}
