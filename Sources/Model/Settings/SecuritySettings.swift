extension Settings {
  /// TLS between agents.
  package struct TLS: Sendable, Equatable {
    /// Where the CA certificate is stored; nil: no TLS.
    package var ca: SecretReference?
    /// Where the agent's certificate is stored.
    package var cert: SecretReference?
    /// Where the agent's private key is stored.
    package var key: SecretReference?
    /// Consul's `verify_incoming`; nil: true if there is a certificate.
    package var verifyIncoming: Bool?
    /// Consul's `verify_outgoing`; nil: true.
    package var verifyOutgoing: Bool?
    /// Consul's `verify_server_hostname`; nil: true with `--production`.
    package var verifyServerHostname: Bool?
    /// Servers give clients their certificates.
    package var autoEncrypt = false

    package init() {}
  }

  /// Every secret that the options name.
  package var secretReferences: [SecretReference] {
    [gossipKey, agentToken, tls.ca, tls.cert, tls.key].compactMap { $0 }
  }

  /// Settings with each of the secrets alone: one that cannot be read keeps no other from being read.
  package var separateSecrets: [(reference: SecretReference, settings: Settings)] {
    let paths: [WritableKeyPath<Settings, SecretReference?>] = [
      \.gossipKey, \.agentToken, \.tls.ca, \.tls.cert, \.tls.key,
    ]
    return paths.compactMap { path in
      guard let reference = self[keyPath: path] else { return nil }
      var only = Settings()
      only[keyPath: path] = reference
      only.createsGossipKey = createsGossipKey && path == \.gossipKey
      return (reference, only)
    }
  }
}
