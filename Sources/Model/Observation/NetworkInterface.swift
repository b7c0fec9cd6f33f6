package import Base

/// A network interface of an instance, as metadata and EC2 describe it.
package struct NetworkInterface: Sendable, Equatable {
  /// 0 is the primary interface.
  package let deviceNumber: Int
  /// Its name on this machine, for example `eth1`; nil for an interface of another machine.
  package let name: String?
  /// EC2's `interfaceType`: `interface`, `efa`, `efa-only`, `trunk`, …
  package let kind: String
  /// The primary address first.
  package let privateIPs: [IPv4Address]
  /// Public addresses, each with the private address that AWS translates it to.
  package let publicIPs: [IPv4Address: IPv4Address]

  package init(
    deviceNumber: Int, name: String?, kind: String, privateIPs: [IPv4Address], publicIPs: [IPv4Address: IPv4Address]
  ) {
    self.deviceNumber = deviceNumber
    self.name = name
    self.kind = kind
    self.privateIPs = privateIPs
    self.publicIPs = publicIPs
  }

  /// Kinds of interfaces that carry no agent's traffic: EFA is for message passing, trunks and branches are for
  /// containers.
  package static let skippedKinds: Set = ["efa", "efa-only", "trunk", "branch"]
}

/// Which of another instance's addresses is its agent's: the one that corresponds to this machine's advertised address.
package enum PeerAddressing: Sendable, Equatable {
  /// The primary private address of the primary interface.
  case primary
  /// The primary address of the interface with this device number.
  case device(Int, isPublic: Bool)
  /// The first address in this network.
  case network(IPv4Network)

  /// The address among an instance's interfaces; nil if none corresponds.
  package func address(in interfaces: [NetworkInterface]) -> IPv4Address? {
    switch self {
    case .primary: return interfaces.first { $0.deviceNumber == 0 }?.privateIPs.first
    case .device(let number, let isPublic):
      guard let interface = interfaces.first(where: { $0.deviceNumber == number }) else { return nil }
      return isPublic ? interface.primaryPublicIP : interface.privateIPs.first
    case .network(let network):
      let addresses = interfaces.filter { !NetworkInterface.skippedKinds.contains($0.kind) }
        .flatMap { $0.privateIPs + $0.publicIPs.keys.sorted() }
      return addresses.first(where: network.contains)
    }
  }
}

extension NetworkInterface {
  fileprivate var primaryPublicIP: IPv4Address? {
    publicIPs.sorted { $0.key < $1.key }.first { $0.value == privateIPs.first }?.key
  }
}
