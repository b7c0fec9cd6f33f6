package import Base

/// AWS credentials, with their source for messages.
package struct Credentials: Sendable, Equatable, CustomStringConvertible {
  package let accessKeyID: String
  package let secretAccessKey: Secret
  package let sessionToken: Secret?
  /// Nil if they do not expire.
  package let expiration: Timestamp?
  /// For example `environment`, `profile web`, `instance role web-node`.
  package let source: String
  /// The role that the instance has, where that is known.
  package let roleName: String?

  package init(
    accessKeyID: String, secretAccessKey: Secret, sessionToken: Secret? = nil, expiration: Timestamp? = nil,
    source: String, roleName: String? = nil
  ) {
    self.accessKeyID = accessKeyID
    self.secretAccessKey = secretAccessKey
    self.sessionToken = sessionToken
    self.expiration = expiration
    self.source = source
    self.roleName = roleName
  }

  package var description: String { "\(accessKeyID) from \(source)" }

  /// Reads the document with which the instance metadata service and container endpoints answer.
  ///
  /// `Expiration` may be missing, as in the answers of some container endpoints: such credentials do not expire.
  /// `Token` may be missing: long-term keys have none.
  init(document text: [UInt8], source: String, roleName: String?) throws(CredentialDocumentError) {
    let document: JSONValue
    do { document = try JSONValue(parsing: text) } catch { throw .notJSON(reason: error.explained) }
    if let code = document["Code"]?.string, code != "Success" { throw .refused(code: code) }
    guard let id = document["AccessKeyId"]?.string, let secret = document["SecretAccessKey"]?.string,
      !id.isEmpty, !secret.isEmpty
    else { throw .noKeys }
    var expiration: Timestamp?
    if let value = document["Expiration"] {
      expiration = value.string.flatMap(Timestamp.init(iso8601:))
      // Credentials that seemed never to expire would be used until AWS rejects them.
      if expiration == nil { throw .noExpiration }
    }
    self.init(
      accessKeyID: id, secretAccessKey: Secret(secret), sessionToken: document["Token"]?.string.map { Secret($0) },
      expiration: expiration, source: source, roleName: roleName)
  }

  /// AWS quotes the request that it rejects, session token included.
  func redacting(_ text: String) -> String {
    [secretAccessKey, sessionToken].compactMap { $0?.value }.filter { !$0.isEmpty }
      .reduce(text) { $0.replacing($1, with: Redaction.mark) }
  }
}

/// A source of credentials.
package protocol CredentialProvider: Sendable {
  /// - Returns: nil if this source has none, so that the next one is tried.
  /// - Throws: `CredentialError` or `MetadataError` if this source is configured but does not work.
  func credentials() async throws -> Credentials?
}

/// Holds credentials until shortly before they expire, and loads new ones then, or when AWS reports that they expired.
package actor CredentialCache {
  private let providers: [any CredentialProvider]
  /// The wall clock, though every other deadline is measured on the monotonic clock: the expiry is a date, set by AWS.
  /// A wrong wall clock does no lasting harm: a clock that is ahead loads new credentials too early, and one that is
  /// behind leads to `ExpiredToken`, after which the client discards them.
  private let now: WallClock
  private var current: Credentials?
  private var loading: Task<Void, Never>?
  private var waiters: [Int: CheckedContinuation<Credentials, any Error>] = [:]
  private var lastWaiter = 0, lastLoad = 0

  /// The SDKs' advisory window is 15 minutes; instance roles give new credentials at least 5 minutes before expiry.
  private static let refreshWindow = Duration.seconds(5 * 60)

  package init(providers: [any CredentialProvider], now: @escaping WallClock) {
    self.providers = providers
    self.now = now
  }

  /// - Throws: `CredentialError` or `MetadataError`.
  package func credentials() async throws -> Credentials {
    if let current, current.expiration.map({ $0 - now() > Self.refreshWindow }) ?? true { return current }
    do {
      return try await load()
    } catch {
      // Credentials that have not expired yet still work.
      if let current, let expiration = current.expiration, now() < expiration { return current }
      throw error
    }
  }

  /// Starts to load credentials, if there are none: the next call waits for the rest of the load only, and repeats one
  /// that has failed.
  package func preload() {
    if current == nil, loading == nil { startLoading() }
  }

  /// AWS reported that these have expired: the next call loads new ones.
  package func discard(_ expired: Credentials) {
    if current == expired { current = nil }
  }

  /// Concurrent calls share one load, which ends early only when every one of them is cancelled.
  private func load() async throws -> Credentials {
    lastWaiter += 1
    let number = lastWaiter
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        guard !Task.isCancelled else { return continuation.resume(throwing: CancellationError()) }
        waiters[number] = continuation
        if loading == nil { startLoading() }
      }
    } onCancel: {
      Task { await self.stopWaiting(number) }
    }
  }

  private func startLoading() {
    lastLoad += 1
    let load = lastLoad, providers = providers
    loading = Task {
      do {
        for provider in providers {
          if let found = try await provider.credentials() { return finish(load, .success(found)) }
        }
        finish(load, .failure(CredentialError.noneFound))
      } catch {
        finish(load, .failure(error))
      }
    }
  }

  private func finish(_ load: Int, _ result: Result<Credentials, any Error>) {
    // Every call that waited for it was cancelled, and a later call may have started another.
    guard load == lastLoad, loading != nil else { return }
    loading = nil
    if case .success(let loaded) = result { current = loaded }
    let resumed = waiters.values
    waiters = [:]
    for waiter in resumed { waiter.resume(with: result) }
  }

  private func stopWaiting(_ number: Int) {
    guard let waiter = waiters.removeValue(forKey: number) else { return }
    waiter.resume(throwing: CancellationError())
    guard waiters.isEmpty else { return }
    loading?.cancel()
    loading = nil
  }
}
