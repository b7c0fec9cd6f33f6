package import Base
package import Consul

/// The agent's configuration on disk: our own file, which is the only source of peers and secrets when AWS cannot be
/// reached, and what it makes with the other files of its directory.
package struct CurrentConfiguration: Sendable, Equatable {
  package enum Content: Sendable, Equatable {
    case absent
    case present(Secret)
    case unreadable(reason: String)
  }

  package let content: Content
  /// Our own file. Nil if there is none, or if it is not JSON: then a run replaces it.
  package let document: SecretDocument?
  /// What the agent uses.
  package let merged: MergedConfiguration
  /// Why the agent may use something else, a line for each file that is not read.
  package let problems: [String]
  /// The other files by which an agent without data would form a cluster, or may: those that are not understood count.
  package let mayBootstrap: [String]

  /// - Parameters:
  ///   - path: of our own file.
  ///   - others: the other files of its directory.
  package init(_ content: Content, at path: String = "", beside others: [OtherConfigurationFile] = []) {
    self.content = content
    var document: SecretDocument?
    if case .present(let text) = content {
      do { document = SecretDocument(try JSONValue(parsing: text.value)) } catch { document = nil }
    }
    self.document = document
    merged = MergedConfiguration(document, at: path, beside: others)
    mayBootstrap = others.bootstrapping + others.filter { $0.document == nil }.map(\.path)
    problems = others.compactMap { file in
      switch file.content {
      case .document: nil
      case .notUnderstood(let reason), .unreadable(let reason): reason
      }
    }
  }

  package static let absent = CurrentConfiguration(.absent)

  /// Addresses in `retry_join`.
  package var peers: [IPv4Address] { addresses("retry_join") }
  /// Addresses in `retry_join_wan`.
  package var wanPeers: [IPv4Address] { addresses("retry_join_wan") }
  package var gossipKey: Secret? { document?["encrypt"]?.string.map { Secret($0) } }
  /// The agent's own ACL token.
  package var agentToken: Secret? { merged.agentToken }
  package var bindAddress: IPv4Address? { document?["bind_addr"]?.string.flatMap { IPv4Address($0) } }
  /// That of all files: an agent has this address in raft, whichever file sets it.
  package var advertiseAddress: IPv4Address? { merged["advertise_addr"]?.string.flatMap { IPv4Address($0) } }

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
    merged.agentAddress(settings, bind: bindAddress ?? AgentInterface.loopback)
  }

  private func addresses(_ key: String) -> [IPv4Address] {
    document?[key]?.array?.compactMap { $0.string.flatMap { IPv4Address($0) } } ?? []
  }
}
