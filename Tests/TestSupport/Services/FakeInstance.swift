/// An instance as EC2 and Auto Scaling show it.
package struct FakeInstance: Sendable, Equatable {
  package var id: String
  package var zone: String
  package var ip: String?
  package var publicIP: String?
  package var vpcID: String
  /// EC2's state.
  package var state: String
  /// Auto Scaling's state.
  package var lifecycle: String
  /// Nil: in no group.
  package var group: String?
  package var tags: [String: String]
  /// Whether DescribeInstances knows it; false right after the launch, and some time after its end.
  package var isInEC2 = true
  /// Whether its group lists it; a detached instance, and one of a warm pool, is not listed.
  package var isListed = true
  /// Units of the desired capacity; nil: the group counts instances.
  package var weight: Int?
  /// The primary interface is derived from `ip` and `publicIP` where there are none.
  package var interfaces: [FakeInterface] = []

  package init(
    _ id: String, ip: String?, zone: String = "eu-west-1a", group: String? = "web", state: String = "running",
    lifecycle: String = "InService", publicIP: String? = nil, vpcID: String = "vpc-1", tags: [String: String] = [:]
  ) {
    (self.id, self.ip, self.zone, self.group, self.state) = (id, ip, zone, group, state)
    (self.lifecycle, self.publicIP, self.vpcID, self.tags) = (lifecycle, publicIP, vpcID, tags)
  }

  /// Tags as EC2 shows them: Auto Scaling adds the group's name.
  var allTags: [String: String] {
    guard let group else { return tags }
    return tags.merging(["aws:autoscaling:groupName": group]) { own, _ in own }
  }
}

/// A network interface as DescribeInstances shows it.
package struct FakeInterface: Sendable, Equatable {
  package var deviceNumber: Int
  package var kind: String
  package var macAddress: String
  /// The primary one first, each with its public address if it has one.
  package var addresses: [(privateIP: String, publicIP: String?)]

  package init(
    _ deviceNumber: Int, _ addresses: [(privateIP: String, publicIP: String?)], kind: String = "interface",
    macAddress: String = "02:00:00:00:00:01"
  ) {
    (self.deviceNumber, self.addresses) = (deviceNumber, addresses)
    (self.kind, self.macAddress) = (kind, macAddress)
  }

  package static func == (left: Self, right: Self) -> Bool { left.xml == right.xml }

  var xml: String {
    let list = addresses.enumerated().map { index, address in
      let association = address.publicIP.map { "<association><publicIp>\($0)</publicIp></association>" } ?? ""
      return "<item><privateIpAddress>\(address.privateIP)</privateIpAddress>"
        + "<primary>\(index == 0)</primary>\(association)</item>"
    }
    return "<item><macAddress>\(macAddress)</macAddress><interfaceType>\(kind)</interfaceType>"
      + "<attachment><deviceIndex>\(deviceNumber)</deviceIndex></attachment>"
      + "<privateIpAddressesSet>\(list.joined())</privateIpAddressesSet></item>"
  }
}

/// A group as Auto Scaling shows it; its instances are those that name it.
package struct FakeGroup: Sendable, Equatable {
  package var name: String
  /// Nil omits the element.
  package var desiredCapacity: Int?
  package var zones: [String]
  /// Hooks that wait for CompleteLifecycleAction.
  package var hooks: Set<String> = []
  /// Of the hooks, in seconds.
  package var heartbeatTimeout = 3600
  /// In seconds; nil omits the element.
  package var globalTimeout: Int?
  package var suspendedProcesses: [String] = []
  /// Nil omits the element.
  package var maxSize: Int?
  package var healthCheckType: String?

  package init(_ name: String = "web", desired: Int?, zones: [String] = ["eu-west-1a"], hooks: Set<String> = []) {
    (self.name, desiredCapacity, self.zones, self.hooks) = (name, desired, zones, hooks)
  }
}

/// XML of AWS's Query protocol.
enum QueryXML {
  static func escaped(_ text: String) -> String {
    text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
  }

  static func element(_ name: String, _ text: String?) -> String {
    text.map { "<\(name)>\(escaped($0))</\(name)>" } ?? ""
  }

  static func instance(_ instance: FakeInstance) -> String {
    let tags = instance.allTags.sorted { $0.key < $1.key }
      .map { "<item>\(element("key", $0.key))\(element("value", $0.value))</item>" }
    let interfaces =
      instance.interfaces.isEmpty && instance.ip != nil
      ? [FakeInterface(0, [(instance.ip ?? "", instance.publicIP)])] : instance.interfaces
    return "<item>\(element("instanceId", instance.id))"
      + "<instanceState><code>16</code>\(element("name", instance.state))</instanceState>"
      + "<placement>\(element("availabilityZone", instance.zone))</placement>"
      + element("privateIpAddress", instance.ip) + element("ipAddress", instance.publicIP)
      + element("vpcId", instance.vpcID)
      + "<tagSet>\(tags.joined())</tagSet>"
      + "<networkInterfaceSet>\(interfaces.map(\.xml).joined())</networkInterfaceSet></item>"
  }

  static func group(_ group: FakeGroup, _ instances: [FakeInstance]) -> String {
    let members = instances.map { instance in
      "<member>\(element("InstanceId", instance.id))\(element("AvailabilityZone", instance.zone))"
        + "\(element("LifecycleState", instance.lifecycle))<HealthStatus>Healthy</HealthStatus>"
        + "\(element("WeightedCapacity", instance.weight.map(String.init)))</member>"
    }
    return "<member>\(element("AutoScalingGroupName", group.name))"
      + element("DesiredCapacity", group.desiredCapacity.map(String.init))
      + element("MaxSize", group.maxSize.map(String.init)) + element("HealthCheckType", group.healthCheckType)
      + "<AvailabilityZones>\(group.zones.map { element("member", $0) }.joined())</AvailabilityZones>"
      + "<Instances>\(members.joined())</Instances>"
      + "<SuspendedProcesses>"
      + group.suspendedProcesses.map { "<member>\(element("ProcessName", $0))</member>" }.joined()
      + "</SuspendedProcesses></member>"
  }
}
