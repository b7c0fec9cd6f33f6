package import Base
package import Consul

extension MergedConfiguration {
  /// Our own file together with the others of its directory that are understood.
  package init(_ own: SecretDocument?, at path: String, beside others: [OtherConfigurationFile]) {
    var sources = others.compactMap { file in file.document.map { Source(path: file.path, $0) } }
    if let own { sources.append(Source(path: path, own)) }
    self.init(sources.sorted { OtherConfigurationFile.isBefore($0.path, $1.path) })
  }

  /// `address:port` at which this machine reaches the agent's HTTP API.
  /// - Parameter bind: where the interface listens if the configuration only computes it.
  package func agentAddress(_ settings: Settings, bind: IPv4Address) -> String {
    "\(AgentInterface.host(in: self, otherwise: bind)):\(port("http", otherwise: settings.httpPort))"
  }

  /// The agent's own ACL token, under the key of either ACL system.
  package var agentToken: Secret? {
    (self["acl"]?["tokens"]?["agent"]?.string ?? self["acl_agent_token"]?.string).map { Secret($0) }
  }

  /// `address:port` of this server in raft.
  /// - Parameter advertise: where the configuration only computes it.
  package func raftAddress(advertise: IPv4Address) -> String {
    let named = ["advertise_addr", "bind_addr"].compactMap { self[$0]?.string.flatMap { IPv4Address($0) } }
    let address = named.first { !$0.isUnspecified } ?? advertise
    return "\(address):\(port("server", otherwise: 8300))"
  }

  /// Whether other machines can reach the agent's HTTP API, as far as this machine decides.
  package var opensHTTPAPI: Bool { port("http", otherwise: 8500) > 0 && isOpen("http") }

  /// Whether other machines can reach it over TLS, without a certificate of their own. Consul opens no such port by
  /// itself.
  package var opensHTTPSAPI: Bool {
    guard port("https", otherwise: -1) > 0, isOpen("https") else { return false }
    // Since 1.12 the block of the interface overrides the defaults; before, either key was enough.
    let block = (self["tls"]?["https"]?["verify_incoming"] ?? self["tls"]?["defaults"]?["verify_incoming"])?.bool
    let keys = [self["verify_incoming_https"], self["verify_incoming"]].contains { $0?.bool == true }
    return !(block ?? keys)
  }

  private func isOpen(_ interface: String) -> Bool {
    // An empty address counts as none.
    let chosen = [self["addresses"]?[interface], self["client_addr"]].compactMap { $0?.string }.first { !$0.isEmpty }
    // What is no address is a template, of a private address for example, or the path of a socket.
    return chosen?.split(separator: " ").contains {
      IPv4Address($0)?.isLoopback != true && $0 != "::1" && !$0.hasPrefix("unix:")
    } ?? false
  }

  /// Whether ACLs refuse a request without a token. The ACL system before 1.4.0 is on where it has a datacenter.
  package var aclsDenyByDefault: Bool {
    if let acl = self["acl"], acl["enabled"]?.bool == true { return acl["default_policy"]?.string == "deny" }
    guard self["acl_datacenter"]?.string?.isEmpty == false else { return false }
    return (self["acl_default_policy"] ?? self["acl"]?["default_policy"])?.string == "deny"
  }

  /// The same with other content of one file.
  package func replacing(_ path: String, with document: SecretDocument) -> MergedConfiguration {
    MergedConfiguration(
      (sources.filter { $0.path != path } + [Source(path: path, document)]).sorted {
        OtherConfigurationFile.isBefore($0.path, $1.path)
      })
  }

  /// Whether the agent binds a port below 1024.
  package var bindsLowPorts: Bool {
    self["ports"]?.object?.values.contains { (1...1023).contains($0.wholeNumber ?? 0) } ?? false
  }
}

/// Where the agent's HTTP and DNS interfaces listen.
package enum AgentInterface {
  package static let loopback = IPv4Address("127.0.0.1")!

  /// Address at which this machine reaches the HTTP interface: loopback if it listens there, too.
  package static func host(in configuration: MergedConfiguration, otherwise address: IPv4Address) -> IPv4Address {
    guard let text = (configuration["addresses"]?["http"] ?? configuration["client_addr"])?.string else {
      return loopback
    }
    let listed = text.split(separator: " ").compactMap { IPv4Address($0) }
    return listed.contains { $0.isLoopback || $0.isUnspecified } ? loopback : listed.first ?? address
  }
}
