internal import AWS
internal import Base
internal import Model
internal import Observers

/// Reports secrets that have changed since the agent was configured.
extension Sidecar {
  func watchSecrets(_ instance: LocatedInstance, _ memory: inout Memory) async throws {
    let current = current
    let secrets: Secrets
    do {
      secrets = try await SecretReader(settings: settings, context: context, client: instance.client).read(
        missingKey: .tolerate)
    } catch {
      throw error.asFailure("read the secrets")
    }
    var changed: [(SecretReference?, String)] = []
    if let key = secrets.gossipKey, !secrets.gossipKeyIsToBeMade, let old = current.gossipKey, key != old {
      changed.append(
        (
          settings.gossipKey,
          "install it everywhere with consul keyring -install, then -use: an agent keeps the keys of its keyring"
        ))
    }
    if let token = secrets.agentToken, let old = current.agentToken, token != old {
      changed.append((settings.agentToken, "run consul-bootstrap again, and restart the agent"))
    }
    for (reference, material, name) in [
      (settings.tls.ca, secrets.ca, "ca"), (settings.tls.cert, secrets.cert, "cert"),
      (settings.tls.key, secrets.key, "key"),
    ] {
      guard case .pem(let pem)? = material,
        let old = try? context.files.readIfPresent("\(settings.tlsDirectory)/\(name).pem"),
        Array(pem.value.utf8) != old
      else { continue }
      changed.append((reference, "run consul-bootstrap again, and restart the agent"))
    }
    for (reference, advice) in changed {
      guard let name = reference?.description, memory.told.insert(name).inserted else { continue }
      context.log.warning("\(name) has changed since this agent was configured", ["hint": .string(advice)])
    }
    memory.told.formIntersection(changed.compactMap { $0.0?.description })
  }
}
