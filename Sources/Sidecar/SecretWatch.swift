internal import Base
internal import Model
internal import Observers

/// Reports secrets that have changed since the agent was configured.
extension Sidecar {
  /// Reports each change once, and again if the secret changed back in between.
  func watchSecrets(_ instance: LocatedInstance, _ pollState: inout PollState) async {
    for (reference, only) in settings.separateSecrets {
      await attempt("check \(reference) for a change", &pollState) { pollState in
        let secrets: Secrets
        do {
          secrets = try await SecretReader(settings: only, context: context, client: instance.client).read(
            missingKey: .tolerate)
        } catch {
          throw error.asFailure("read \(reference)")
        }
        guard let hint = try changeHint(secrets) else {
          pollState.changedSecrets.remove(reference.description)
          return
        }
        guard pollState.changedSecrets.insert(reference.description).inserted else { return }
        context.log.warning("\(reference) has changed since this agent was configured", ["hint": .string(hint)])
      }
    }
  }

  private static let restart = "run consul-bootstrap again, and restart the agent"

  /// What to do about a secret that is not what the agent was configured with; nil if it is.
  /// - Parameter secrets: one of them.
  /// - Throws: `FileError`.
  private func changeHint(_ secrets: Secrets) throws -> String? {
    let current = current
    if current.hasOtherGossipKey(than: secrets) { return CurrentConfiguration.gossipKeyHint }
    if let token = secrets.agentToken, let old = current.agentToken, token != old { return Self.restart }
    for case (.pem(let pem)?, let name) in [(secrets.ca, "ca"), (secrets.cert, "cert"), (secrets.key, "key")] {
      let old = try context.files.readIfPresent("\(settings.tlsDirectory)/\(name).pem")
      if let old, old != Array(pem.value.utf8) { return Self.restart }
    }
    return nil
  }
}
