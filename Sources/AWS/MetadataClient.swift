package import Base
internal import Synchronization

/// The EC2 instance metadata service, version 2 (EC2 User Guide, "Use the Instance Metadata Service").
package final class MetadataClient: Sendable {
  private let base: String
  private let allowsVersion1: Bool
  private let isDisabled: Bool
  private let transport: any HTTPTransport
  private let clock: any Clock<Duration>
  private let log: Logger
  private let token = Mutex<Access?>(nil)

  private enum Access: Sendable {
    case token(String)
    /// IMDSv1, allowed by name and found necessary.
    case none

    var isToken: Bool { if case .token = self { true } else { false } }
  }

  /// The longest life that the service gives.
  private static let tokenTTL = 21_600
  /// The service is on the link: a connection takes under a millisecond. A token answer that exceeds the hop limit never
  /// comes, so this is also how long each try hangs from inside a container.
  private static let connectTimeout = Duration.seconds(1)
  private static let timeout = Duration.seconds(2)
  /// A service that is slow or says 5xx while the instance boots gets three tries.
  private static let attempts = 3

  /// - Parameter environment: `AWS_EC2_METADATA_SERVICE_ENDPOINT`, `AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE`
  ///   (`IPv4` or `IPv6`) and `AWS_EC2_METADATA_DISABLED` are looked at.
  package init(
    environment: [String: String], allowsVersion1: Bool, transport: any HTTPTransport, clock: any Clock<Duration>,
    log: Logger
  ) {
    if let endpoint = environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"], !endpoint.isEmpty {
      base = endpoint.hasSuffix("/") ? String(endpoint.dropLast()) : endpoint
    } else if environment["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"]?.lowercased() == "ipv6" {
      base = "http://[fd00:ec2::254]"
    } else {
      base = "http://169.254.169.254"
    }
    isDisabled = environment["AWS_EC2_METADATA_DISABLED"]?.lowercased() == "true"
    self.allowsVersion1 = allowsVersion1
    self.transport = transport
    self.clock = clock
    self.log = log
  }

  /// The service was asked without a token, since it gave none.
  package var usesVersion1: Bool { token.withLock { if case .some(Access.none) = $0 { true } else { false } } }

  /// The text at a path such as `/latest/meta-data/mac`; nil if the service says 404.
  /// - Throws: `Failure` with status 10.
  package func get(_ path: String) async throws -> String? {
    if isDisabled {
      throw Failure(
        .noMetadata, "instance metadata is switched off by AWS_EC2_METADATA_DISABLED",
        hint: "unset AWS_EC2_METADATA_DISABLED")
    }
    var renewed = false
    while true {
      let access = try await access()
      var request = HTTPRequest("GET", base + path)
      if case .token(let token) = access { request.headers.append(("X-aws-ec2-metadata-token", token)) }
      let response = try await send(request, what: path)
      switch response.status {
      case 200: return response.text
      case 404: return nil
      case 401 where !renewed && access.isToken:
        // The token has expired, or the service was restarted: a new one, once.
        renewed = true
        log.debug("metadata token refused; asking for a new one")
        token.withLock { $0 = nil }
      default:
        throw Failure(
          .noMetadata, "the instance metadata service refused \(path)",
          details: ["\(base) answered HTTP \(response.status)"],
          hint: response.status == 401
            ? "it demands IMDSv2 and did not take the token that it gave"
            : "check that the metadata options of this instance enable the HTTP endpoint")
      }
    }
  }

  private func access() async throws -> Access {
    if let known = token.withLock({ $0 }) { return known }
    let found = try await requestToken()
    token.withLock { $0 = found }
    return found
  }

  private func requestToken() async throws -> Access {
    var request = HTTPRequest("PUT", base + "/latest/api/token")
    request.headers.append(("X-aws-ec2-metadata-token-ttl-seconds", String(Self.tokenTTL)))
    var reason = ""
    do {
      let response = try await send(request, what: "/latest/api/token")
      if response.status == 200, !response.body.isEmpty { return .token(response.text) }
      reason = "answered HTTP \(response.status)"
      guard allowsVersion1 else {
        throw Failure(
          .noMetadata, "the instance metadata service gave no IMDSv2 token", details: ["\(base) \(reason)"],
          hint: response.status == 403
            ? "the metadata options of this instance disable the HTTP endpoint; enable it"
            : "if this service knows IMDSv1 only, allow it with --imdsv1")
      }
    } catch let failure as Failure {
      guard allowsVersion1 else { throw failure }
      reason = failure.details.joined(separator: "; ")
    }
    log.warning("falling back to IMDSv1, as --imdsv1 allows", ["reason": .string(reason)])
    return .none
  }

  private func send(_ template: HTTPRequest, what: String) async throws -> HTTPResponse {
    var request = template
    request.connectTimeout = Self.connectTimeout
    request.timeout = Self.timeout
    request.maximumBodyBytes = 1 << 18
    let backoff = Backoff(base: .milliseconds(100), cap: .seconds(1))
    var generator = SystemRandomNumberGenerator()
    for attempt in 0... {
      let isLast = attempt == Self.attempts - 1
      do {
        let response = try await transport.send(request)
        guard response.status >= 500, !isLast else { return response }
        log.debug("metadata request failed", ["path": .string(what), "status": .integer(Int64(response.status))])
      } catch let error as TransportError {
        log.debug("metadata request failed", ["path": .string(what), "reason": .string(error.explanation)])
        if isLast { throw failure(error, what: what) }
      }
      try await clock.sleep(for: backoff.fullJitter(attempt, using: &generator))
    }
    preconditionFailure("the loop above ends by return or throw")
  }

  private func failure(_ error: TransportError, what: String) -> Failure {
    let details = ["\(base)\(what): \(error.explanation), tried \(Self.attempts) times"]
    if what == "/latest/api/token", case .timedOut(whileConnecting: false) = error {
      return Failure(
        .noMetadata, "the instance metadata service takes the request for a token but does not answer it",
        details: details,
        hint: "inside a container without host networking the answer exceeds the hop limit; set the instance's "
          + "HttpPutResponseHopLimit to 2 (aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2)")
    }
    return Failure(
      .noMetadata, "no instance metadata service answers", details: details,
      hint:
        "run this on an EC2 instance, check that no firewall drops 169.254.169.254, and that the metadata options of "
        + "the instance enable the HTTP endpoint; inside a container the hop limit must be 2")
  }
}

/// Who this instance is, from its identity document.
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

extension MetadataClient {
  /// - Throws: `Failure` with status 10.
  package func identity() async throws -> InstanceIdentity {
    let path = "/latest/dynamic/instance-identity/document"
    guard let text = try await get(path) else {
      throw Failure(
        .noMetadata, "the instance metadata service has no identity document", details: ["\(path): HTTP 404"])
    }
    guard let document = try? JSONValue(parsing: text), let id = document["instanceId"]?.string,
      let region = document["region"]?.string, let zone = document["availabilityZone"]?.string,
      let address = document["privateIp"]?.string.flatMap({ IPv4Address($0) })
    else {
      throw Failure(
        .noMetadata, "the instance identity document cannot be read",
        details: ["\(path) lacks instanceId, region, availabilityZone or an IPv4 privateIp, or is not JSON"])
    }
    return InstanceIdentity(
      instanceID: id, region: region, availabilityZone: zone, privateIP: address,
      accountID: document["accountId"]?.string)
  }

  /// The VPC of the primary network interface.
  /// - Throws: `Failure` with status 10.
  package func vpcID() async throws -> String? {
    guard let mac = try await get("/latest/meta-data/mac") else { return nil }
    return try await get("/latest/meta-data/network/interfaces/macs/\(mac)/vpc-id")
  }
}

/// A network interface as metadata shows it.
package struct MetadataInterface: Sendable, Equatable {
  /// In lower case.
  package let macAddress: String
  package let deviceNumber: Int
  /// The primary one first.
  package let privateIPs: [IPv4Address]
  /// Public addresses, each with the private one that it is translated to.
  package let publicIPs: [IPv4Address: IPv4Address]
}

extension MetadataClient {
  /// For example `euw1-az1`; nil if the service does not name it.
  /// - Throws: `Failure` with status 10.
  package func zoneID() async throws -> String? { try await get("/latest/meta-data/placement/availability-zone-id") }

  /// Of the primary interface's VPC.
  /// - Throws: `Failure` with status 10.
  package func vpcNetworks() async throws -> [IPv4Network] {
    guard let mac = try await get("/latest/meta-data/mac") else { return [] }
    return try await lines(Self.macs + "\(mac)/vpc-ipv4-cidr-blocks").compactMap { IPv4Network($0) }
  }

  /// In the order of their device numbers.
  /// - Throws: `Failure` with status 10.
  package func interfaces() async throws -> [MetadataInterface] {
    var interfaces: [MetadataInterface] = []
    for line in try await lines(Self.macs) {
      let mac = line.hasSuffix("/") ? String(line.dropLast()) : line
      let base = Self.macs + mac
      var publicIPs: [IPv4Address: IPv4Address] = [:]
      for publicIP in try await lines(base + "/ipv4-associations/").compactMap({ IPv4Address($0) }) {
        let privateIP = try await lines(base + "/ipv4-associations/\(publicIP)").first.flatMap { IPv4Address($0) }
        if let privateIP { publicIPs[publicIP] = privateIP }
      }
      interfaces.append(
        MetadataInterface(
          macAddress: mac.lowercased(),
          deviceNumber: try await lines(base + "/device-number").first.flatMap { Int($0) } ?? 0,
          privateIPs: try await lines(base + "/local-ipv4s").compactMap { IPv4Address($0) }, publicIPs: publicIPs))
    }
    return interfaces.sorted { $0.deviceNumber < $1.deviceNumber }
  }

  private static let macs = "/latest/meta-data/network/interfaces/macs/"

  private func lines(_ path: String) async throws -> [String] {
    try await get(path)?.split(whereSeparator: \.isNewline).map(String.init) ?? []
  }
}
