package import AWS
package import Base
internal import Decisions
package import Model

/// Reads and checks the secrets that the options name, before a run writes anything.
package struct SecretReader: Sendable {
  private let settings: Settings
  private let context: RuntimeContext
  private let client: AWSClient

  package init(settings: Settings, context: RuntimeContext, client: AWSClient) {
    self.settings = settings
    self.context = context
    self.client = client
  }

  /// Parameter Store is eventually consistent: a new parameter may be unknown for a moment.
  private static let readBackAttempts = 10
  private static let readBackPause = Duration.milliseconds(500)
  /// The size of the keys that `consul keygen` prints since 1.8.
  private static let gossipKeyBytes = 32
  /// The sizes that gossip encryption accepts: AES-128, -192 and -256.
  private static let gossipKeySizes: Set = [16, 24, 32]
  private static let fileLimit = 1 << 20

  /// What to do about a gossip key of `--gossip-key-create` that does not exist.
  package enum MissingKey: Sendable {
    case create
    /// Sets `Secrets.gossipKeyIsMissing`.
    case tolerate
    case refuse
  }

  /// - Throws: `Failure` with status 12 or 14; `CredentialError`, `MetadataError`, or an `AWSError` that is retryable.
  package func read(missingKey: MissingKey) async throws -> Secrets {
    do { return try await attempt(missingKey) } catch let error as SecretError { throw error.failure }
  }

  /// As `read`.
  /// - Throws: also `SecretError`.
  func attempt(_ missingKey: MissingKey) async throws -> Secrets {
    var secrets = Secrets()
    if let reference = settings.gossipKey {
      if let key = try await gossipKey(reference, missingKey) {
        secrets.gossipKey = key
      } else {
        // The configuration of a dry run shows where the key will be.
        secrets.gossipKey = Secret("")
        secrets.gossipKeyIsMissing = true
      }
    }
    if let reference = settings.agentToken {
      secrets.agentToken = try await value(reference, purpose: "the agent's token")
    }
    secrets.ca = try await material(settings.tls.ca, purpose: "the CA certificate", mark: "CERTIFICATE-----")
    secrets.cert = try await material(settings.tls.cert, purpose: "the certificate", mark: "CERTIFICATE-----")
    secrets.key = try await material(settings.tls.key, purpose: "the private key", mark: "PRIVATE KEY-----")
    return secrets
  }

  // MARK: The gossip key

  /// - Returns: nil if the key does not exist and that is tolerated.
  private func gossipKey(_ reference: SecretReference, _ missingKey: MissingKey) async throws -> Secret? {
    let purpose = "the gossip key"
    guard settings.createsGossipKey, case .ssm(let name) = reference else {
      return try checked(await value(reference, purpose: purpose), reference)
    }
    let store = ParameterStore(client: client)
    var found = try await call("read", reference, purpose) { try await store.parameter(name) }
    if found == nil {
      switch missingKey {
      case .tolerate: return nil
      case .refuse: throw absence(of: reference, purpose)
      case .create: found = try await createGossipKey(reference, name, store, purpose)
      }
    }
    guard let found else { throw absence(of: reference, purpose) }
    return try checked(found, reference)
  }

  /// Creates the key unless another server does so first, then reads it back: all servers use the key that is stored.
  private func createGossipKey(
    _ reference: SecretReference, _ name: String, _ store: ParameterStore, _ purpose: String
  ) async throws -> Secret? {
    var generator = SystemRandomNumberGenerator()
    let bytes = (0..<Self.gossipKeyBytes).map { _ in UInt8.random(in: 0...255, using: &generator) }
    let isCreated = try await call("create", reference, purpose) {
      try await store.create(name, Secret(Base64.encode(bytes)))
    }
    context.log.info(
      isCreated ? "created the gossip key" : "another server created the gossip key first",
      ["parameter": .string(name)])
    for _ in 0..<Self.readBackAttempts {
      if let found = try await call("read", reference, purpose, { try await store.parameter(name) }) { return found }
      try await context.clock.sleep(for: Self.readBackPause)
    }
    return nil
  }

  private func checked(_ key: Secret, _ reference: SecretReference) throws -> Secret {
    let text = key.value.trimmed
    guard let bytes = Base64.decode(text), Self.gossipKeySizes.contains(bytes.count) else {
      throw Failure(
        .configurationRejected, "\(reference) is not a gossip key",
        details: ["a gossip key is 16, 24 or 32 bytes in base64, as consul keygen prints it"],
        hint: "store the output of consul keygen there")
    }
    return Secret(text)
  }

  // MARK: Any secret

  private func material(
    _ reference: SecretReference?, purpose: String, mark: String
  ) async throws -> Secrets.TLSMaterial? {
    guard let reference else { return nil }
    let text = try await value(reference, purpose: purpose)
    guard text.value.contains(mark) else {
      throw Failure(
        .configurationRejected, "\(reference) is not \(purpose) in PEM form", details: ["it has no line with \(mark)"],
        hint: "store the whole text of the PEM file there")
    }
    if case .file(let path) = reference { return .file(path: path) }
    return .pem(Secret(text.value.trimmed + "\n"))
  }

  /// - Throws: also for a secret that does not exist or is empty.
  private func value(_ reference: SecretReference, purpose: String) async throws -> Secret {
    let found: Secret?
    switch reference {
    case .ssm(let name):
      found = try await call("read", reference, purpose) { try await ParameterStore(client: client).parameter(name) }
    case .secretsManager(let id, let key):
      let whole = try await call("read", reference, purpose) { try await SecretsManager(client: client).secret(id) }
      found = if let whole, let key { try member(key, of: whole, reference) } else { whole }
    case .file(let path):
      do {
        found = try context.files.readIfPresent(path, limit: Self.fileLimit).map {
          Secret(String(decoding: $0, as: UTF8.self))
        }
      } catch {
        throw Failure(
          .configurationRejected, "cannot read \(purpose)", details: [error.explained],
          hint: "check the permissions of \(path)")
      }
    }
    guard let found else { throw absence(of: reference, purpose) }
    guard !found.value.trimmed.isEmpty else {
      throw Failure(.configurationRejected, "\(reference), \(purpose), is empty", hint: "store \(purpose) there")
    }
    return found
  }

  private func member(_ key: String, of secret: Secret, _ reference: SecretReference) throws -> Secret {
    let detail: String
    do {
      let object = try JSONValue(parsing: secret.value).object
      if let text = object?[key]?.string { return Secret(text) }
      detail = object == nil ? "the secret is not a JSON object" : "the secret has no text member \(key)"
    } catch {
      // The parser's message may quote the secret.
      detail = "the secret is not a JSON object"
    }
    throw Failure(
      .configurationRejected, "\(reference): there is no text under the key \(key)", details: [detail],
      hint: "correct the key after #, or remove it to use the whole secret")
  }

  // MARK: Failures

  /// A client may boot before the first server, which makes what all of them need.
  private func absence(of reference: SecretReference, _ purpose: String) -> any Error {
    let failure = missing(reference, purpose)
    return settings.role == .client ? SecretError(failure: failure, patience: .wholeWait) : failure
  }

  private func missing(_ reference: SecretReference, _ purpose: String) -> Failure {
    switch reference {
    case .ssm(let name):
      Failure(
        .awsFailed, "there is no parameter \(name), which should contain \(purpose)",
        details: ["ssm:GetParameter in \(client.region) finds no such parameter"],
        hint: "create it (aws ssm put-parameter --type SecureString --name \(name)), "
          + "or correct its name or the region")
    case .secretsManager(let id, _):
      Failure(
        .awsFailed, "there is no secret \(id), which should contain \(purpose)",
        details: ["secretsmanager:GetSecretValue in \(client.region) finds no such secret"],
        hint: "create it, or correct its name or the region")
    case .file(let path):
      Failure(
        .configurationRejected, "there is no file \(path), which should contain \(purpose)", hint: "correct the path")
    }
  }

  /// Turns a failure that is not retryable into a `Failure`.
  private func call<Answer: Sendable>(
    _ verb: String, _ reference: SecretReference, _ purpose: String, _ body: () async throws -> Answer
  ) async throws -> Answer {
    do {
      return try await body()
    } catch let error as AWSError where !error.isRetryable {
      var failure = error.failure("\(verb) \(purpose), \(reference)")
      // Where KMS refuses, AWS's message names KMS.
      if error.message?.lowercased().contains("kms") == true {
        failure.hint = "allow kms:Decrypt on the key that encrypts \(reference)"
      }
      if let patience = Patience(error) { throw SecretError(failure: failure, patience: patience) }
      throw failure
    }
  }
}

/// A secret that cannot be read now.
struct SecretError: ExplainedError {
  let failure: Failure
  let patience: Patience

  var explanation: String { failure.explanation }
  var stableExplanation: String { failure.stableExplanation }
}

extension String {
  /// Without white space at both ends.
  fileprivate var trimmed: String {
    guard let start = firstIndex(where: { !$0.isWhitespace }), let end = lastIndex(where: { !$0.isWhitespace }) else {
      return ""
    }
    return String(self[start...end])
  }
}
