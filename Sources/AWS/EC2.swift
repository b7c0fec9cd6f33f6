package import Base

/// An EC2 instance as DescribeInstances shows it, as far as it matters here.
package struct EC2Instance: Sendable, Equatable {
  package let instanceID: String
  /// As AWS spells it: `pending`, `running`, …
  package let state: String
  package let availabilityZone: String
  package let privateIP: IPv4Address?
  package let publicIP: IPv4Address?
  package let vpcID: String?
  /// In the order of their device numbers; empty unless requested.
  package let interfaces: [Interface]

  package struct Interface: Sendable, Equatable {
    package let deviceNumber: Int
    /// `interface`, `efa`, `trunk`, …; `interface` where EC2 names none.
    package let kind: String
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

extension AWSAction {
  package static let describeInstances = AWSAction(.ec2, "DescribeInstances", on: .any)
}

/// The EC2 API (2016-11-15). Throws `AWSError`, `CredentialError` or `MetadataError`.
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
      let page = try await client.query(.describeInstances, parameters + (token.map { [("NextToken", $0)] } ?? [])) {
        root in
        var found: [EC2Instance] = []
        for reservation in try root.requiredList("reservationSet", of: root.name) {
          for instance in try reservation.requiredList("instancesSet", of: "a reservation") {
            found.append(try EC2Instance(instance, withInterfaces: withInterfaces))
          }
        }
        return (instances: found, nextToken: root["nextToken"])
      }
      instances += page.instances
      // A page may be empty and yet have a successor.
      token = page.nextToken
      if token == nil { return instances }
    }
    throw AWSError.malformed(
      .describeInstances, "more than \(Self.maximumPages) pages", requestID: nil, role: nil, attempts: 1)
  }
}

extension EC2Instance {
  /// An instance that is terminated has no addresses and no VPC any more; everything else is there in every state.
  fileprivate init(_ element: XMLElement, withInterfaces: Bool) throws(MalformedAnswer) {
    instanceID = try element.required("instanceId", of: "an instance")
    let owner = "instance \(instanceID)"
    state = try element.requiredChild("instanceState", of: owner).required("name", of: "instanceState of \(owner)")
    availabilityZone = try element.requiredChild("placement", of: owner)
      .required("availabilityZone", of: "placement of \(owner)")
    privateIP = try element.address("privateIpAddress", of: owner)
    publicIP = try element.address("ipAddress", of: owner)
    vpcID = element["vpcId"]
    var interfaces: [Interface] = []
    if withInterfaces {
      for interface in element.list("networkInterfaceSet") { interfaces.append(try Interface(interface, of: owner)) }
    }
    self.interfaces = interfaces.sorted { $0.deviceNumber < $1.deviceNumber }
  }
}

extension EC2Instance.Interface {
  fileprivate init(_ element: XMLElement, of instance: String) throws(MalformedAnswer) {
    let owner = "an interface of \(instance)"
    deviceNumber = try element.requiredChild("attachment", of: owner).requiredCount("deviceIndex", of: owner)
    kind = element["interfaceType"] ?? "interface"
    var privateIPs: [IPv4Address] = [], publicIPs: [IPv4Address: IPv4Address] = [:]
    // EFA-only interfaces have no addresses.
    for address in element.list("privateIpAddressesSet") {
      guard let privateIP = try address.address("privateIpAddress", of: owner) else {
        throw MalformedAnswer("the answer has no privateIpAddress of \(owner)")
      }
      if address["primary"] == "true" { privateIPs.insert(privateIP, at: 0) } else { privateIPs.append(privateIP) }
      if let publicIP = try address.child("association")?.address("publicIp", of: owner) {
        publicIPs[publicIP] = privateIP
      }
    }
    self.privateIPs = privateIPs
    self.publicIPs = publicIPs
  }
}
