package import Base

/// AWS credentials, with where they came from for messages.
/// - Important: never printed; `description` shows the key's id only.
package struct Credentials: Sendable, Equatable, CustomStringConvertible {
  package let accessKeyID: String
  package let secretAccessKey: String
  package let sessionToken: String?
  /// Nil if they do not expire.
  package let expiration: Timestamp?
  /// For example `environment`, `profile web`, `instance role web-node`.
  package let source: String
  /// The role that the instance has, where that is known.
  package let roleName: String?

  package init(
    accessKeyID: String, secretAccessKey: String, sessionToken: String? = nil, expiration: Timestamp? = nil,
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

  /// Reads the document that the instance metadata service and container endpoints answer with.
  /// - Throws: a text that says what is missing.
  init(document: JSONValue, source: String, roleName: String?) throws(CredentialDocumentError) {
    if let code = document["Code"]?.string, code != "Success" {
      throw CredentialDocumentError(reason: "answered \(code)")
    }
    guard let id = document["AccessKeyId"]?.string, let secret = document["SecretAccessKey"]?.string else {
      throw CredentialDocumentError(reason: "has no AccessKeyId or SecretAccessKey")
    }
    self.init(
      accessKeyID: id, secretAccessKey: secret, sessionToken: document["Token"]?.string,
      expiration: document["Expiration"]?.string.flatMap(Timestamp.init(iso8601:)), source: source, roleName: roleName)
  }
}

/// Why a credentials document cannot be used.
struct CredentialDocumentError: Error {
  let reason: String
}

/// Where credentials come from.
package protocol CredentialProvider: Sendable {
  /// - Returns: nil if this place has none, so that the next is asked.
  /// - Throws: `Failure` if this place was meant but does not work.
  func credentials() async throws -> Credentials?
}

/// Holds credentials until shortly before they expire, and asks the chain again then, or when AWS says that they expired.
package actor CredentialCache {
  private let providers: [any CredentialProvider]
  private let now: WallClock
  private var current: Credentials?
  private var loading: Task<Credentials, any Error>?

  /// The SDKs' advisory window is 15 minutes; instance roles give new credentials at least 5 minutes before expiry.
  private static let refreshWindow = Duration.seconds(5 * 60)

  package init(providers: [any CredentialProvider], now: @escaping WallClock) {
    self.providers = providers
    self.now = now
  }

  /// - Throws: `Failure` with status 11.
  package func credentials() async throws -> Credentials {
    if let current, current.expiration.map({ $0 - now() > Self.refreshWindow }) ?? true { return current }
    do {
      let loaded = try await load()
      current = loaded
      return loaded
    } catch {
      // What has not expired yet is better than nothing.
      if let current, let expiration = current.expiration, now() < expiration { return current }
      throw error
    }
  }

  /// AWS said that these have expired: the next call loads new ones.
  package func discard(_ expired: Credentials) {
    if current == expired { current = nil }
  }

  /// Calls that come together load once.
  private func load() async throws -> Credentials {
    if let loading { return try await loading.value }
    let providers = providers
    let task = Task { () throws -> Credentials in
      for provider in providers {
        if let found = try await provider.credentials() { return found }
      }
      throw Failure(
        .noCredentials, "no AWS credentials found",
        details: [
          "looked in the environment, the shared config and credentials files, the container endpoint and the instance role"
        ],
        hint:
          "attach an instance profile to this instance, or set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
      )
    }
    loading = task
    defer { loading = nil }
    return try await withTaskCancellationHandler {
      try await task.value
    } onCancel: {
      task.cancel()
    }
  }
}
