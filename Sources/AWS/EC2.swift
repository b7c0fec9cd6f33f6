package import Base

/// An EC2 instance as DescribeInstances shows it, as far as it matters here.
package struct EC2Instance: Sendable, Equatable {
  package let instanceID: String
  /// AWS's own words: `pending`, `running`, …
  package let state: String
  package let availabilityZone: String
  package let privateIP: IPv4Address?
  package let vpcID: String?

  package init(instanceID: String, state: String, availabilityZone: String, privateIP: IPv4Address?, vpcID: String?) {
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
  /// - Parameter filters: at least one.
  package func describeInstances(_ filters: [Filter]) async throws -> [EC2Instance] {
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
        instances += reservation.list("instancesSet").compactMap(EC2Instance.init)
      }
      // A page may be empty and yet have a successor.
      token = page.root["nextToken"]
      if token == nil { break }
    }
    return instances
  }
}

extension EC2Instance {
  fileprivate init?(_ element: XMLElement) {
    guard let id = element["instanceId"] else { return nil }
    instanceID = id
    state = element.child("instanceState")?["name"] ?? ""
    availabilityZone = element.child("placement")?["availabilityZone"] ?? ""
    privateIP = element["privateIpAddress"].flatMap { IPv4Address($0) }
    vpcID = element["vpcId"]
  }
}
