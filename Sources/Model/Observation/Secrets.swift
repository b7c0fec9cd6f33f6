package import Base

/// The values of the secrets that the options name; nil for those that no option names.
package struct Secrets: Sendable, Equatable {
  package var gossipKey: Secret?
  /// The gossip key of `--gossip-key-create` does not exist yet: a run creates it. `gossipKey` is empty then.
  package var gossipKeyIsMissing = false
  package var agentToken: Secret?
  package var ca: TLSMaterial?
  package var cert: TLSMaterial?
  package var key: TLSMaterial?

  package init() {}

  package enum TLSMaterial: Sendable, Equatable {
    /// An existing file, which the agent reads where it is.
    case file(path: String)
    /// PEM text, which a run writes to the TLS directory.
    case pem(Secret)
  }
}
