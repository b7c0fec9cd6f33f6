package import AWS
package import Base
internal import Decisions
package import Model

/// Reads the secrets that the options name. Whatever is wrong with one is found before anything is written.
package struct SecretReader: Sendable {
  private let settings: Settings
  private let context: RuntimeContext
  private let client: AWSClient

  package init(settings: Settings, context: RuntimeContext, client: AWSClient) {
    self.settings = settings
    self.context = context
    self.client = client
  }

  /// A parameter that was just made may be unknown for a moment.
  private static let readBackAttempts = 10
  /// The size of the keys that `consul keygen` makes since 1.8.
  private static let gossipKeyBytes = 32
  /// What gossip encryption takes: AES-128, -192 and -256.
  private static let gossipKeySizes: Set = [16, 24, 32]
  private static let fileLimit = 1 << 20

  /// What becomes of a gossip key of `--gossip-key-create` that does not exist.
  package enum MissingKey: Sendable {
    case create
    /// `Secrets.gossipKeyIsToBeMade`.
    case tolerate
    case refuse
  }

  /// - Throws: `Failure` with status 12 or 14; `CredentialError`, `MetadataError`, or an `AWSError` that is retryable.
  package func read(missingKey: MissingKey) async throws -> Secrets {
    var secrets = Secrets()
    if let reference = settings.gossipKey {
      if let key = try await gossipKey(reference, missingKey) {
        secrets.gossipKey = key
      } else {
        // A dry run: the place of a key that a run would make.
        secrets.gossipKey = Secret("")
        secrets.gossipKeyIsToBeMade = true
      }
    }
    if let reference = settings.agentToken {
      secrets.agentToken = try await value(reference, what: "the agent's token")
    }
    secrets.ca = try await material(settings.tls.ca, what: "the CA certificate", mark: "CERTIFICATE-----")
    secrets.cert = try await material(settings.tls.cert, what: "the certificate", mark: "CERTIFICATE-----")
    secrets.key = try await material(settings.tls.key, what: "the private key", mark: "PRIVATE KEY-----")
    return secrets
  }

  /// - Returns: nil if it does not exist, and that is tolerated.
  private func gossipKey(_ reference: SecretReference, _ missingKey: MissingKey) async throws -> Secret? {
    let what = "the gossip key"
    guard settings.createsGossipKey, case .ssm(let name) = reference else {
      return try checked(await value(reference, what: what), reference)
    }
    let store = ParameterStore(client: client)
    var present = try await asking(reference, what) { try await store.parameter(name) }
    if present == nil {
      guard missingKey != .tolerate else { return nil }
      guard missingKey == .create else { throw missing(reference, what) }
      var generator = SystemRandomNumberGenerator()
      let bytes = (0..<Self.gossipKeyBytes).map { _ in UInt8.random(in: 0...255, using: &generator) }
      let made = try await asking(reference, what, verb: "make") {
        try await store.create(name, Secret(Base64.encode(bytes)))
      }
      context.log.info(
        made ? "made the gossip key" : "another server made the gossip key first", ["parameter": .string(name)])
      // Whoever was first, all read what is there.
      for _ in 0..<Self.readBackAttempts where present == nil {
        present = try await asking(reference, what) { try await store.parameter(name) }
        if present == nil { try await context.clock.sleep(for: .milliseconds(500)) }
      }
    }
    guard let present else { throw missing(reference, what) }
    return try checked(present, reference)
  }

  private func checked(_ key: Secret, _ reference: SecretReference) throws -> Secret {
    let text = key.value.trimmed
    guard let bytes = Base64.decode(text), Self.gossipKeySizes.contains(bytes.count) else {
      throw Failure(
        .configurationRejected, "\(reference) is not a gossip key",
        details: ["a gossip key is 16, 24 or 32 bytes in base64, as consul keygen makes it"],
        hint: "put the output of consul keygen there")
    }
    return Secret(text)
  }

  private func material(_ reference: SecretReference?, what: String, mark: String) async throws -> Secrets.TLSMaterial?
  {
    guard let reference else { return nil }
    let text = try await value(reference, what: what)
    guard text.value.contains(mark) else {
      throw Failure(
        .configurationRejected, "\(reference) is not \(what) in PEM form", details: ["it has no line with \(mark)"],
        hint: "put the PEM file's whole text there")
    }
    if case .file(let path) = reference { return .file(path: path) }
    return .pem(Secret(text.value.trimmed + "\n"))
  }

  /// - Throws: for one that is not there or empty, too.
  private func value(_ reference: SecretReference, what: String) async throws -> Secret {
    let found: Secret?
    switch reference {
    case .ssm(let name):
      found = try await asking(reference, what) { try await ParameterStore(client: client).parameter(name) }
    case .secretsManager(let id, let key):
      let whole = try await asking(reference, what) { try await SecretsManager(client: client).secret(id) }
      found = try key.map { key in try whole.map { try member(key, of: $0, reference) } } ?? whole
    case .file(let path):
      do {
        found = try context.files.readIfPresent(path, limit: Self.fileLimit).map {
          Secret(String(decoding: $0, as: UTF8.self))
        }
      } catch let error as FileError {
        throw Failure(
          .configurationRejected, "cannot read \(what)", details: [error.explanation],
          hint: "check the permissions of \(path)")
      }
    }
    guard let found else { throw missing(reference, what) }
    guard !found.value.trimmed.isEmpty else {
      throw Failure(.configurationRejected, "\(reference), \(what), is empty", hint: "put \(what) there")
    }
    return found
  }

  private func member(_ key: String, of secret: Secret, _ reference: SecretReference) throws -> Secret {
    guard let value = (try? JSONValue(parsing: secret.value))?[key]?.string else {
      throw Failure(
        .configurationRejected, "\(reference): there is no text under the key \(key)",
        details: ["the secret is no JSON object, or has no such member"],
        hint: "correct the key behind #, or leave it out to use the whole secret")
    }
    return Secret(value)
  }

  private func missing(_ reference: SecretReference, _ what: String) -> Failure {
    switch reference {
    case .ssm(let name):
      Failure(
        .awsFailed, "there is no parameter \(name), which should hold \(what)",
        details: ["asked with ssm:GetParameter in \(client.region)"],
        hint: "make it (aws ssm put-parameter --type SecureString --name \(name)), or correct its name and the region")
    case .secretsManager(let id, _):
      Failure(
        .awsFailed, "there is no secret \(id), which should hold \(what)",
        details: ["asked with secretsmanager:GetSecretValue in \(client.region)"],
        hint: "make it, or correct its name and the region")
    case .file(let path):
      Failure(.configurationRejected, "there is no file \(path), which should hold \(what)", hint: "correct the path")
    }
  }

  private func asking<Answer: Sendable>(
    _ reference: SecretReference, _ what: String, verb: String = "read", _ call: () async throws -> Answer
  ) async throws -> Answer {
    do {
      return try await call()
    } catch let error as AWSError where !error.isRetryable {
      var failure = error.failure("\(verb) \(what), \(reference)")
      // The message names the key where it is KMS that refuses.
      if error.message?.lowercased().contains("kms") == true {
        failure.hint = "allow kms:Decrypt on the key that encrypts \(reference)"
      }
      throw failure
    }
  }
}

extension String {
  /// Without white space at either end.
  fileprivate var trimmed: String {
    guard let start = firstIndex(where: { !$0.isWhitespace }), let end = lastIndex(where: { !$0.isWhitespace }) else {
      return ""
    }
    return String(self[start...end])
  }
}
