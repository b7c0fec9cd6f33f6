package import Base

/// The agent's configuration file on disk: the only source of peers and secrets when AWS cannot be reached.
package struct CurrentConfiguration: Sendable, Equatable {
  package enum Content: Sendable, Equatable {
    case absent
    case present(Secret)
    case unreadable(reason: String)
  }

  package let content: Content
  /// Nil if there is no file, or if it is not JSON: then a run replaces it.
  package let document: SecretDocument?

  package init(_ content: Content) {
    self.content = content
    guard case .present(let text) = content else {
      document = nil
      return
    }
    do {
      document = SecretDocument(try JSONValue(parsing: text.value))
    } catch {
      document = nil
    }
  }

  package static let absent = CurrentConfiguration(.absent)

  /// Addresses in `retry_join`.
  package var peers: [IPv4Address] { addresses("retry_join") }
  /// Addresses in `retry_join_wan`.
  package var wanPeers: [IPv4Address] { addresses("retry_join_wan") }
  package var gossipKey: Secret? { document?["encrypt"]?.string.map { Secret($0) } }
  /// The agent's own ACL token, under the key of either ACL system.
  package var agentToken: Secret? {
    (document?["acl"]?["tokens"]?["agent"]?.string ?? document?["acl_agent_token"]?.string).map { Secret($0) }
  }
  package var bindAddress: IPv4Address? { document?["bind_addr"]?.string.flatMap { IPv4Address($0) } }
  package var advertiseAddress: IPv4Address? { document?["advertise_addr"]?.string.flatMap { IPv4Address($0) } }

  /// Whether the agent was configured with another gossip key than the one that is stored now.
  package func hasOtherGossipKey(than secrets: Secrets) -> Bool {
    guard let old = gossipKey, let new = secrets.gossipKey, !secrets.gossipKeyIsMissing else { return false }
    return old != new
  }

  /// What to do then (Consul documentation, "Gossip Encryption").
  package static let gossipKeyHint =
    "install the new key everywhere with consul keyring -install, then -use: an agent keeps the keys of its keyring"

  /// `address:port` at which this machine reaches the agent's HTTP API.
  package func agentAddress(_ settings: Settings) -> String {
    let host = AgentInterface.host(in: document, otherwise: bindAddress ?? AgentInterface.loopback)
    return "\(host):\(settings.httpPort)"
  }

  private func addresses(_ key: String) -> [IPv4Address] {
    document?[key]?.array?.compactMap { $0.string.flatMap { IPv4Address($0) } } ?? []
  }
}

/// Where the agent's HTTP and DNS interfaces listen.
package enum AgentInterface {
  package static let loopback = IPv4Address("127.0.0.1")!

  /// Address at which this machine reaches both: loopback if `client_addr` includes it.
  package static func host(in configuration: SecretDocument?, otherwise address: IPv4Address) -> IPv4Address {
    guard let text = configuration?["client_addr"]?.string else { return loopback }
    let listed = text.split(separator: " ").compactMap { IPv4Address($0) }
    return listed.contains { $0.isLoopback || $0.isUnspecified } ? loopback : listed.first ?? address
  }
}
