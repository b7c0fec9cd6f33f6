package import Base

/// The identity of this instance, from its identity document.
package struct InstanceIdentity: Sendable, Equatable {
  package let instanceID: String
  package let region: String
  package let availabilityZone: String
  package let privateIP: IPv4Address
  package let accountID: String?

  package init(
    instanceID: String, region: String, availabilityZone: String, privateIP: IPv4Address, accountID: String?
  ) {
    self.instanceID = instanceID
    self.region = region
    self.availabilityZone = availabilityZone
    self.privateIP = privateIP
    self.accountID = accountID
  }
}

/// A network interface as metadata shows it.
package struct MetadataInterface: Sendable, Equatable {
  /// In lower case.
  package let macAddress: String
  package let deviceNumber: Int
  /// The primary one first; none on an interface for EFA only.
  package let privateIPs: [IPv4Address]
  /// Public addresses, each with the private one that it is translated to.
  package let publicIPs: [IPv4Address: IPv4Address]
}

/// The notice that a spot instance gets, two minutes before (EC2 User Guide, "Spot Instance interruption notices").
package struct SpotInterruption: Sendable, Equatable {
  /// `terminate`, `stop` or `hibernate`.
  package let action: String
  package let time: Timestamp
  /// When the service answered, by its own clock; nil if it does not tell.
  package let readAt: Timestamp?

  package init(action: String, time: Timestamp, readAt: Timestamp? = nil) {
    self.action = action
    self.time = time
    self.readAt = readAt
  }
}

/// What EC2 will do to this instance (EC2 User Guide, "Scheduled events for your instances").
package struct ScheduledEvent: Sendable, Equatable {
  package let id: String
  /// `instance-reboot`, `system-reboot`, `system-maintenance`, `instance-retirement` or `instance-stop`.
  package let code: String
  /// Nil if it cannot be read: EC2 writes, for example, `21 Jan 2026 09:00:43 GMT`.
  package let notBefore: Timestamp?
  /// When the service answered, by its own clock; nil if it does not tell.
  package let readAt: Timestamp?

  package init(id: String, code: String, notBefore: Timestamp?, readAt: Timestamp? = nil) {
    (self.id, self.code, self.notBefore, self.readAt) = (id, code, notBefore, readAt)
  }
}

/// This instance's metadata. Every call throws `MetadataError`.
extension MetadataClient {
  package func identity() async throws -> InstanceIdentity {
    let path = "/latest/dynamic/instance-identity/document", what = "identity document"
    let text = try await required(path, what)
    let document: JSONValue
    do {
      document = try JSONValue(parsing: text)
    } catch {
      throw MetadataError.malformed(what, path: path, reason: "not JSON: \(error.explained)")
    }
    func member(_ name: String) throws -> String {
      guard let value = document[name]?.string, !value.isEmpty else {
        throw MetadataError.malformed(what, path: path, reason: "it has no \(name)")
      }
      return value
    }
    if document["instanceId"] != nil, document["privateIp"] == nil || document["privateIp"] == .null {
      throw MetadataError.noIPv4Address
    }
    guard let address = IPv4Address(try member("privateIp")) else {
      throw MetadataError.malformed(what, path: path, reason: "privateIp is not an IPv4 address")
    }
    return InstanceIdentity(
      instanceID: try member("instanceId"), region: try member("region"),
      availabilityZone: try member("availabilityZone"), privateIP: address, accountID: document["accountId"]?.string)
  }

  /// The VPC of the primary network interface; nil if the service names none.
  package func vpcID() async throws -> String? { try await get(Self.macs + "\(try await primaryMAC())/vpc-id") }

  /// For example `euw1-az1`; nil if the service does not name it.
  package func zoneID() async throws -> String? { try await get("/latest/meta-data/placement/availability-zone-id") }

  /// For example `InService` or `Warmed:Stopped`; nil outside of an Auto Scaling group.
  package func targetLifecycleState() async throws -> String? {
    try await get("/latest/meta-data/autoscaling/target-lifecycle-state")
  }

  /// When EC2 takes this spot instance back, and how; nil unless it does.
  package func spotInterruption() async throws -> SpotInterruption? {
    let path = "/latest/meta-data/spot/instance-action", what = "spot instance action"
    guard let (text, date) = try await dated(path) else { return nil }
    do {
      let document = try JSONValue(parsing: text)
      guard let action = document["action"]?.string, let time = document["time"]?.string else {
        throw MetadataError.malformed(what, path: path, reason: "it has no action or time")
      }
      return SpotInterruption(
        action: action, time: try parsed(Timestamp(iso8601: time), time, what, path), readAt: date)
    } catch let error as JSONSyntaxError {
      throw MetadataError.malformed(what, path: path, reason: "not JSON: \(error.explained)")
    }
  }

  /// Whether EC2 recommends to replace this spot instance (EC2 User Guide, "EC2 instance rebalance recommendations").
  package func recommendsRebalance() async throws -> Bool {
    let path = "/latest/meta-data/events/recommendations/rebalance", what = "rebalance recommendation"
    guard let text = try await get(path) else { return false }
    do {
      guard try JSONValue(parsing: text)["noticeTime"] != nil else {
        throw MetadataError.malformed(what, path: path, reason: "it has no noticeTime")
      }
      return true
    } catch let error as JSONSyntaxError {
      throw MetadataError.malformed(what, path: path, reason: "not JSON: \(error.explained)")
    }
  }

  /// More than an instance has.
  private static let maximumEvents = 20
  private static let longestName = 64

  /// Those that are still to come.
  package func scheduledEvents() async throws -> [ScheduledEvent] {
    let path = "/latest/meta-data/events/maintenance/scheduled", what = "scheduled events"
    guard let (text, date) = try await dated(path) else { return [] }
    let list: [JSONValue]?
    do {
      list = try JSONValue(parsing: text).array
    } catch {
      throw MetadataError.malformed(what, path: path, reason: "not JSON: \(error.explained)")
    }
    guard let list else { throw MetadataError.malformed(what, path: path, reason: "not a list") }
    return try list.filter { $0["State"]?.string == "active" }.prefix(Self.maximumEvents).map { event in
      guard let id = event["EventId"]?.string, let code = event["Code"]?.string,
        let time = event["NotBefore"]?.string, max(id.utf8.count, code.utf8.count) <= Self.longestName
      else { throw MetadataError.malformed(what, path: path, reason: "an event has no EventId, Code or NotBefore") }
      return ScheduledEvent(id: id, code: code, notBefore: Timestamp(eventDate: time), readAt: date)
    }
  }

  /// The networks of the primary interface's VPC; empty if the service lists none.
  package func vpcNetworks() async throws -> [IPv4Network] {
    let path = Self.macs + "\(try await primaryMAC())/vpc-ipv4-cidr-blocks"
    return try await lines(path).map { try parsed(IPv4Network($0), $0, "VPC networks", path) }
  }

  /// In the order of their device numbers.
  package func interfaces() async throws -> [MetadataInterface] {
    let what = "network interfaces"
    var interfaces: [MetadataInterface] = []
    for line in try await lines(Self.macs) {
      let mac = line.hasSuffix("/") ? String(line.dropLast()) : line
      let base = Self.macs + mac
      var publicIPs: [IPv4Address: IPv4Address] = [:]
      let associations = base + "/ipv4-associations/"
      for line in try await lines(associations) {
        let publicIP = try parsed(IPv4Address(line), line, what, associations)
        // None where the address has been disassociated since the list was read.
        if let line = try await lines(associations + "\(publicIP)").first {
          publicIPs[publicIP] = try parsed(IPv4Address(line), line, what, associations + "\(publicIP)")
        }
      }
      let number = try await required(base + "/device-number", "device number of \(mac)")
      let addresses = base + "/local-ipv4s"
      interfaces.append(
        MetadataInterface(
          macAddress: mac.lowercased(),
          deviceNumber: try parsed(UInt16(number).map { Int($0) }, number, what, base + "/device-number"),
          privateIPs: try await lines(addresses).map { try parsed(IPv4Address($0), $0, what, addresses) },
          publicIPs: publicIPs))
    }
    return interfaces.sorted { $0.deviceNumber < $1.deviceNumber }
  }

  private static let macs = "/latest/meta-data/network/interfaces/macs/"

  private func primaryMAC() async throws -> String { try await required("/latest/meta-data/mac", "MAC address") }

  private func required(_ path: String, _ what: String) async throws -> String {
    guard let text = try await get(path)?.split(whereSeparator: \.isNewline).joined(separator: "\n"), !text.isEmpty
    else { throw MetadataError.missing(what, path: path) }
    return text
  }

  private func parsed<Value>(_ value: Value?, _ text: String, _ what: String, _ path: String) throws -> Value {
    guard let value else {
      throw MetadataError.malformed(what, path: path, reason: "unexpected \(text.prefix(40))")
    }
    return value
  }

  /// None where the service answers 404.
  private func lines(_ path: String) async throws -> [String] {
    try await get(path)?.split(whereSeparator: \.isNewline).map(String.init) ?? []
  }
}
