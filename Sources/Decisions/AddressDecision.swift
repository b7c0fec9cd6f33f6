package import Artifacts
internal import Base
package import Model

/// The addresses that the agent binds and advertises. They come from metadata; Consul never guesses them.
package struct AddressDecision: Sendable, Equatable {
  package let addresses: AgentConfiguration.Addresses
  /// Which addresses of other instances correspond to the advertised one.
  package let peers: PeerAddressing

  /// - Throws: `Failure` with status 2 for a choice that matches none or several of this machine's addresses.
  package init(_ identity: Identity, _ settings: Settings) throws(Failure) {
    let chooser = AddressChooser(identity: identity)
    let bound = try chooser.choose(settings.bind, option: "--bind")
    guard bound.isLocal else {
      throw Failure(
        .usage, "--bind: \(bound.address) is on no interface of this machine",
        details: ["AWS translates it to \(bound.translatesTo.map(\.description) ?? "?")"],
        hint: "bind a private address, and set --advertise \(bound.address)")
    }
    let choice = settings.advertise ?? settings.bind
    let advertised = settings.advertise == nil ? bound : try chooser.choose(choice, option: "--advertise")
    switch choice {
    case .private: peers = .primary
    case .network(let network): peers = .network(network)
    case .public, .interface, .address: peers = .device(advertised.deviceNumber, isPublic: !advertised.isLocal)
    }
    let needsWAN = settings.layout == .datacenterPerAZ && settings.wanAddress == .public
    addresses = AgentConfiguration.Addresses(
      bind: bound.address, advertise: advertised.address,
      advertiseWAN: needsWAN ? try chooser.choose(.public, option: "--wan-address").address : nil)
  }

  /// Whether the decision depends on this instance's network interfaces.
  package static func needsInterfaces(_ settings: Settings) -> Bool {
    settings.bind != .private || settings.advertise != nil || settings.wanAddress == .public
  }
}

private struct AddressChooser {
  let identity: Identity

  struct Choice: Hashable {
    let address: IPv4Address
    let deviceNumber: Int
    let interfaceName: String?
    /// The private address of a public one; nil for an address that is on the interface itself.
    let translatesTo: IPv4Address?

    var isLocal: Bool { translatesTo == nil }

    var text: String {
      let interface = interfaceName ?? "device \(deviceNumber)"
      guard let translatesTo else { return "\(address) (\(interface))" }
      return "\(address) (public, translated to \(translatesTo) on \(interface))"
    }
  }

  private var all: [Choice] {
    identity.interfaces.filter { !NetworkInterface.skippedKinds.contains($0.kind) }.flatMap { interface in
      interface.privateIPs.map {
        Choice(address: $0, deviceNumber: interface.deviceNumber, interfaceName: interface.name, translatesTo: nil)
      }
        + interface.publicIPs.sorted { $0.key < $1.key }.map {
          Choice(
            address: $0.key, deviceNumber: interface.deviceNumber, interfaceName: interface.name, translatesTo: $0.value
          )
        }
    }
  }

  func choose(_ choice: Settings.AddressChoice, option: String) throws(Failure) -> Choice {
    let wanted: String, matching: [Choice]
    switch choice {
    case .private:
      return Choice(address: identity.privateIP, deviceNumber: 0, interfaceName: nil, translatesTo: nil)
    case .public:
      wanted = "a public address"
      // A VPC may use a public range, whose addresses need no translation.
      matching = all.filter { !$0.isLocal || !$0.address.isPrivate }
    case .interface(let name):
      guard let interface = identity.interfaces.first(where: { $0.name == name }) else {
        throw Failure(
          .usage, "\(option): there is no interface \(name)",
          details: ["the interfaces are: \(identity.interfaces.compactMap(\.name).joined(separator: ", "))"],
          hint: "correct \(option)")
      }
      if NetworkInterface.skippedKinds.contains(interface.kind) {
        throw Failure(
          .usage, "\(option): interface \(name) is of type \(interface.kind), which carries no agent's traffic",
          hint: "set \(option) to another interface")
      }
      wanted = "an address of \(name)"
      matching = all.filter { $0.interfaceName == name && $0.isLocal }
    case .network(let network):
      wanted = "an address in \(network)"
      matching = all.filter { network.contains($0.address) }
    case .address(let address):
      wanted = "\(address)"
      matching = all.filter { $0.address == address }
    }
    guard let first = matching.first else {
      throw Failure(
        .usage, "\(option): this instance does not have \(wanted)",
        details: ["its addresses are: \(all.map(\.text).joined(separator: ", "))"],
        hint: "correct \(option)")
    }
    guard matching.count == 1 else {
      throw Failure(
        .usage, "\(option): this instance has more than one such address", details: matching.map(\.text),
        hint: "set one of them: \(option) \(first.address)")
    }
    return first
  }
}

extension IPv4Address {
  /// In a private range (RFC 1918) or the shared range (RFC 6598), both of which VPCs use.
  fileprivate var isPrivate: Bool {
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"].contains {
      IPv4Network($0)?.contains(self) ?? false
    }
  }
}
