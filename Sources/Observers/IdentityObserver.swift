package import AWS
package import Base
internal import Decisions
package import Model

/// Finds out who this instance is, and as much about its network as the settings need.
package struct IdentityObserver: Sendable {
  private let settings: Settings
  private let context: RuntimeContext
  private let metadata: MetadataClient

  package init(settings: Settings, context: RuntimeContext, metadata: MetadataClient) {
    self.settings = settings
    self.context = context
    self.metadata = metadata
  }

  /// Metadata only; `Identity.interfaces` have no kinds yet.
  /// - Throws: `MetadataError`.
  package func observe() async throws -> Identity {
    let own = try await metadata.identity()
    async let vpcID = metadata.vpcID()
    async let zoneID =
      settings.layout == .datacenterPerAZ && settings.datacenterSource == .zoneID ? metadata.zoneID() : nil
    async let networks = settings.resolvesReverse ? metadata.vpcNetworks() : []
    async let interfaces = AddressDecision.needsInterfaces(settings) ? metadata.interfaces() : []
    var identity = Identity(
      instanceID: own.instanceID, region: own.region, availabilityZone: own.availabilityZone, privateIP: own.privateIP,
      vpcID: try await vpcID)
    identity.zoneID = try await zoneID
    identity.vpcNetworks = try await networks
    let names = interfaceNames()
    identity.interfaces = try await interfaces.map { interface in
      NetworkInterface(
        deviceNumber: interface.deviceNumber, name: names[interface.macAddress], kind: "interface",
        privateIPs: interface.privateIPs,
        publicIPs: interface.publicIPs)
    }
    return identity
  }

  /// What metadata does not tell, EC2 does: which interfaces are EFA's or trunks. One call, and only where there is a choice.
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

  /// This machine's names by hardware address.
  private func interfaceNames() -> [String: String] {
    var names: [String: String] = [:]
    for name in (try? context.files.list("/sys/class/net")) ?? [] {
      guard let bytes = try? context.files.read("/sys/class/net/\(name)/address", limit: 4096) else { continue }
      let address =
        String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
      if names[address] == nil { names[address] = name }
    }
    return names
  }
}
