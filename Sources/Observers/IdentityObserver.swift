package import AWS
package import Base
internal import Decisions
package import Model

/// Identifies this instance, and as much of its network as the settings need.
package struct IdentityObserver: Sendable {
  private let settings: Settings
  private let context: RuntimeContext
  private let metadata: MetadataClient

  package init(settings: Settings, context: RuntimeContext, metadata: MetadataClient) {
    self.settings = settings
    self.context = context
    self.metadata = metadata
  }

  /// Reads instance metadata only, so the kinds of the interfaces are not known yet.
  /// - Throws: `MetadataError`.
  package func observe() async throws -> Identity {
    let needsZoneID = settings.layout == .datacenterPerAZ && settings.datacenterSource == .zoneID
    let needsInterfaces = AddressDecision.needsInterfaces(settings)
    // The service answers each in a millisecond, and a boot waits for all of them.
    try await metadata.authenticate()
    async let document = metadata.identity()
    async let vpcID = metadata.vpcID()
    async let targetState = metadata.targetLifecycleState()
    async let zoneID = needsZoneID ? metadata.zoneID() : nil
    async let networks = settings.resolvesReverse ? metadata.vpcNetworks() : []
    async let interfaces = needsInterfaces ? metadata.interfaces() : []
    let own = try await document
    var identity = Identity(
      instanceID: own.instanceID, region: own.region, availabilityZone: own.availabilityZone, privateIP: own.privateIP,
      vpcID: try await vpcID)
    identity.targetLifecycleState = try await targetState
    identity.zoneID = try await zoneID
    identity.vpcNetworks = try await networks
    let names = needsInterfaces ? interfaceNames() : [:]
    identity.interfaces = try await interfaces.map { interface in
      NetworkInterface(
        deviceNumber: interface.deviceNumber, name: names[interface.macAddress], kind: "interface",
        privateIPs: interface.privateIPs, publicIPs: interface.publicIPs)
    }
    return identity
  }

  /// The interfaces with their kinds, such as EFA or trunk, which only EC2 knows. One call, and none for a single
  /// interface.
  /// - Throws: `AWSError`, `CredentialError` or `MetadataError`.
  func interfaceKinds(of identity: Identity, _ client: AWSClient) async throws -> [NetworkInterface] {
    guard identity.interfaces.count > 1 else { return identity.interfaces }
    let described = try await EC2(client: client).describeInstances(
      [.init("instance-id", [identity.instanceID])], withInterfaces: true)
    let kinds = Dictionary(
      described.first?.interfaces.map { ($0.deviceNumber, $0.kind) } ?? [], uniquingKeysWith: { first, _ in first })
    return identity.interfaces.map {
      NetworkInterface(
        deviceNumber: $0.deviceNumber, name: $0.name, kind: kinds[$0.deviceNumber] ?? $0.kind,
        privateIPs: $0.privateIPs, publicIPs: $0.publicIPs)
    }
  }

  private static let interfaceDirectory = "/sys/class/net"

  /// Names of this machine's interfaces by hardware address. An interface whose name cannot be read has none.
  private func interfaceNames() -> [String: String] {
    let interfaces: [String]
    do { interfaces = try context.files.list(Self.interfaceDirectory) } catch {
      context.log.warning(
        "cannot list the network interfaces of this machine", ["reason": .string(error.explained)])
      return [:]
    }
    var names: [String: String] = [:]
    for name in interfaces {
      do {
        // Besides interfaces, the directory may contain plain files such as bonding_masters.
        let path = "\(Self.interfaceDirectory)/\(name)/address"
        guard let bytes = try context.files.readIfPresent(path, limit: 4096) else { continue }
        let line = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline).first
        if let address = line.map(String.init), names[address] == nil { names[address] = name }
      } catch {
        context.log.warning("cannot read the name of a network interface", ["reason": .string(error.explained)])
      }
    }
    return names
  }
}
