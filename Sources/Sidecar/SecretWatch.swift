internal import AWS
internal import Base
internal import Model
internal import Observers

/// Reports secrets that have changed since the agent was configured.
extension Sidecar {
  private struct Change {
    let reference: SecretReference
    let hint: String
  }

  /// Reports each change once, and again if the secret changed back in between.
  /// - Throws: `Failure`.
  func watchSecrets(_ instance: LocatedInstance, _ pollState: inout PollState) async throws {
    let secrets: Secrets
    do {
      secrets = try await SecretReader(settings: settings, context: context, client: instance.client).read(
        missingKey: .tolerate)
    } catch {
      throw error.asFailure("read the secrets")
    }
    let materials = [
      (settings.tls.ca, secrets.ca, "ca"), (settings.tls.cert, secrets.cert, "cert"),
      (settings.tls.key, secrets.key, "key"),
    ]
    var changes = configurationChanges(secrets), unreadable: Set<String> = []
    for case (let reference?, .pem(let pem)?, let name) in materials {
      do {
        let path = "\(settings.tlsDirectory)/\(name).pem"
        guard let old = try context.files.readIfPresent(path), old != Array(pem.value.utf8) else { continue }
        changes.append(Change(reference: reference, hint: Self.restart))
      } catch {
        unreadable.insert(error.explained)
        guard pollState.reported.insert(error.explained).inserted else { continue }
        context.log.warning("cannot compare \(reference) with its file", ["reason": .string(error.explained)])
      }
    }
    for change in changes where pollState.reported.insert(change.reference.description).inserted {
      context.log.warning(
        "\(change.reference) has changed since this agent was configured", ["hint": .string(change.hint)])
    }
    pollState.reported.formIntersection(unreadable.union(changes.map(\.reference.description)))
  }

  private static let restart = "run consul-bootstrap again, and restart the agent"

  private func configurationChanges(_ secrets: Secrets) -> [Change] {
    let current = current
    var changes: [Change] = []
    if let reference = settings.gossipKey, let key = secrets.gossipKey, !secrets.gossipKeyIsMissing,
      let old = current.gossipKey, key != old
    {
      let hint = "install it everywhere with consul keyring -install, then -use: an agent keeps the keys of its keyring"
      changes.append(Change(reference: reference, hint: hint))
    }
    if let reference = settings.agentToken, let token = secrets.agentToken, let old = current.agentToken, token != old {
      changes.append(Change(reference: reference, hint: Self.restart))
    }
    return changes
  }
}
