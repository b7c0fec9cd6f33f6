package import Base

/// The secrets that the options name, as read; nil for those that none names.
package struct Secrets: Sendable, Equatable {
  package var gossipKey: Secret?
  /// A dry run found that a run would make it.
  package var gossipKeyIsToBeMade = false
  package var agentToken: Secret?
  package var ca: TLSMaterial?
  package var cert: TLSMaterial?
  package var key: TLSMaterial?

  package init() {}

  package enum TLSMaterial: Sendable, Equatable {
    /// A file that is there: used where it is.
    case file(path: String)
    /// PEM to be written beside the configuration.
    case pem(Secret)
  }
}
