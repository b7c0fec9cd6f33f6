package import Base

/// An EC2 instance as DescribeInstances shows it, as far as it matters here.
package struct EC2Instance: Sendable, Equatable {
  package let instanceID: String
  /// AWS's own words: `pending`, `running`, …
  package let state: String
  package let availabilityZone: String
  package let privateIP: IPv4Address?
  package let publicIP: IPv4Address?
  package let vpcID: String?
  /// In the order of their device numbers; empty unless asked for.
  package let interfaces: [Interface]

  package struct Interface: Sendable, Equatable {
    package let deviceNumber: Int
    /// `interface`, `efa`, `trunk`, …
    package let kind: String
    package let macAddress: String
    /// The primary one first.
    package let privateIPs: [IPv4Address]
    /// Public addresses, each with the private one that it is translated to.
    package let publicIPs: [IPv4Address: IPv4Address]
  }

  package init(
    instanceID: String, state: String, availabilityZone: String, privateIP: IPv4Address?, publicIP: IPv4Address? = nil,
    vpcID: String?,
    interfaces: [Interface] = []
  ) {
    self.publicIP = publicIP
    self.interfaces = interfaces
    self.instanceID = instanceID
    self.state = state
    self.availabilityZone = availabilityZone
    self.privateIP = privateIP
    self.vpcID = vpcID
  }
}

/// The EC2 API (2016-11-15). Throws `AWSError` or `Failure`.
package struct EC2: Sendable {
  private let client: AWSClient

  package init(client: AWSClient) { self.client = client }

  /// The most that a page holds.
  private static let pageSize = "1000"
  private static let maximumPages = 1000

  /// A filter of DescribeInstances; all filters must match, of a filter's values any.
  package struct Filter: Sendable, Equatable {
    package let name: String
    package let values: [String]

    package init(_ name: String, _ values: [String]) {
      self.name = name
      self.values = values
    }
  }

  /// Every instance that matches, all pages.
  ///
  /// By filter and not by id: an id list of instances that EC2 does not know yet fails as a whole
  /// (`InvalidInstanceID.NotFound`), cannot be paged, and when empty describes everything.
  /// - Parameters:
  ///   - filters: at least one.
  ///   - withInterfaces: whether their network interfaces are wanted.
  package func describeInstances(_ filters: [Filter], withInterfaces: Bool = false) async throws -> [EC2Instance] {
    precondition(!filters.isEmpty && filters.allSatisfy { !$0.values.isEmpty }, "no filter describes every instance")
    var parameters = filters.enumerated().flatMap { index, filter in
      [("Filter.\(index + 1).Name", filter.name)]
        + filter.values.enumerated().map { ("Filter.\(index + 1).Value.\($0.offset + 1)", $0.element) }
    }
    parameters.append(("MaxResults", Self.pageSize))
    var instances: [EC2Instance] = []
    var token: String?
    for _ in 0..<Self.maximumPages {
      let page = try await client.query(
        .ec2, "DescribeInstances", parameters + (token.map { [("NextToken", $0)] } ?? []))
      guard page.root.name == "DescribeInstancesResponse" else {
        throw AWSError.unexpected(.ec2, "DescribeInstances", page.root.name)
      }
      for reservation in page.root.list("reservationSet") {
        instances += reservation.list("instancesSet").compactMap { EC2Instance($0, withInterfaces: withInterfaces) }
      }
      // A page may be empty and yet have a successor.
      token = page.root["nextToken"]
      if token == nil { break }
    }
    return instances
  }
}

extension EC2Instance {
  fileprivate init?(_ element: XMLElement, withInterfaces: Bool) {
    guard let id = element["instanceId"] else { return nil }
    instanceID = id
    state = element.child("instanceState")?["name"] ?? ""
    availabilityZone = element.child("placement")?["availabilityZone"] ?? ""
    privateIP = element["privateIpAddress"].flatMap { IPv4Address($0) }
    publicIP = element["ipAddress"].flatMap { IPv4Address($0) }
    vpcID = element["vpcId"]
    interfaces =
      withInterfaces
      ? element.list("networkInterfaceSet").map(Interface.init).sorted { $0.deviceNumber < $1.deviceNumber } : []
  }
}

extension EC2Instance.Interface {
  fileprivate init(_ element: XMLElement) {
    deviceNumber = element.child("attachment")?["deviceIndex"].flatMap { Int($0) } ?? 0
    kind = element["interfaceType"] ?? "interface"
    macAddress = element["macAddress"]?.lowercased() ?? ""
    var privateIPs: [IPv4Address] = [], publicIPs: [IPv4Address: IPv4Address] = [:]
    for address in element.list("privateIpAddressesSet") {
      guard let privateIP = address["privateIpAddress"].flatMap({ IPv4Address($0) }) else { continue }
      if address["primary"] == "true" { privateIPs.insert(privateIP, at: 0) } else { privateIPs.append(privateIP) }
      if let publicIP = address.child("association")?["publicIp"].flatMap({ IPv4Address($0) }) {
        publicIPs[publicIP] = privateIP
      }
    }
    self.privateIPs = privateIPs
    self.publicIPs = publicIPs
  }
}
