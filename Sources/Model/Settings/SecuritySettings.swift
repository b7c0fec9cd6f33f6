internal import Base
package import Consul

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

  /// TLS between servers where no option sets it. This program asks the others as its agent would.
  package struct InheritedTLS: Sendable, Equatable {
    package private(set) var ca: String?
    package private(set) var cert: String?
    package private(set) var key: String?
    package private(set) var verifiesOutgoing: Bool?
    package private(set) var verifiesServerHostname: Bool?
    package private(set) var domain: String?

    package init() {}

    /// Since 1.12.0 the keys are in a block, and the older ones still accepted (`ConfigurationKey`).
    package init(_ configuration: MergedConfiguration) {
      func value(_ key: String) -> JSONValue? {
        let tls = configuration["tls"]
        return [tls?["internal_rpc"], tls?["defaults"], configuration.document.value].compactMap { $0?[key] }.first
      }
      // Others are relative to the agent's working directory.
      func path(_ key: String) -> String? { value(key)?.string.flatMap { $0.hasPrefix("/") ? $0 : nil } }
      (ca, cert, key) = (path("ca_file"), path("cert_file"), path("key_file"))
      verifiesOutgoing = value("verify_outgoing")?.bool
      verifiesServerHostname = value("verify_server_hostname")?.bool
      domain = configuration["domain"]?.string
    }
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
