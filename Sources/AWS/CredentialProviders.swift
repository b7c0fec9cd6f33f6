package import Base

/// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, with them, `AWS_SESSION_TOKEN`. An empty variable counts as unset.
package struct EnvironmentCredentials: CredentialProvider {
  private let accessKeyID: String?
  private let secretAccessKey: Secret?
  private let sessionToken: Secret?

  package init(environment: [String: String]) {
    accessKeyID = environment.nonempty("AWS_ACCESS_KEY_ID")
    secretAccessKey = environment.nonempty("AWS_SECRET_ACCESS_KEY").map { Secret($0) }
    sessionToken = environment.nonempty("AWS_SESSION_TOKEN").map { Secret($0) }
  }

  package func credentials() throws -> Credentials? {
    switch (accessKeyID, secretAccessKey) {
    case (nil, nil): return nil
    case (let id?, let secret?):
      return Credentials(
        accessKeyID: id, secretAccessKey: secret, sessionToken: sessionToken, source: "the environment")
    default: throw CredentialError.incompleteEnvironment
    }
  }
}

/// Static keys of a profile in `~/.aws/credentials` or `~/.aws/config`.
package struct ProfileCredentials: CredentialProvider {
  private let profiles: SharedConfiguration

  package init(profiles: SharedConfiguration) { self.profiles = profiles }

  package func credentials() throws -> Credentials? {
    guard let profile = try profiles.profile() else { return nil }
    let name = profiles.profileName
    guard let id = profile["aws_access_key_id"], let secret = profile["aws_secret_access_key"] else {
      let unsupported = ["role_arn", "credential_process", "sso_session", "sso_start_url", "web_identity_token_file"]
      if let key = unsupported.first(where: { profile[$0] != nil }) {
        throw CredentialError.unsupportedProfile(name: name, key: key)
      }
      return nil
    }
    return Credentials(
      accessKeyID: id, secretAccessKey: Secret(secret),
      sessionToken: profile["aws_session_token"].map { Secret($0) }, source: "profile \(name)")
  }
}

/// The endpoint that ECS, EKS Pod Identity and others name in the environment.
package struct ContainerCredentials: CredentialProvider {
  private let relativeURI: String?
  private let fullURI: String?
  private let tokenFile: String?
  private let token: Secret?
  private let transport: any HTTPTransport
  private let files: any FileReader

  package init(environment: [String: String], transport: any HTTPTransport, files: any FileReader) {
    relativeURI = environment.nonempty("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    fullURI = environment.nonempty("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    tokenFile = environment.nonempty("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    token = environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"].map { Secret($0) }
    self.transport = transport
    self.files = files
  }

  package func credentials() async throws -> Credentials? {
    let url: String
    if let relativeURI {
      url = "http://169.254.170.2" + relativeURI
    } else if let fullURI {
      guard Self.isTrusted(fullURI) else { throw CredentialError.untrustedContainerEndpoint(url: fullURI) }
      url = fullURI
    } else {
      return nil
    }
    var request = HTTPRequest("GET", url)
    request.timeout = .seconds(5)
    if let token = try authorizationToken() { request.headers.append(("Authorization", token.value)) }
    do {
      let response = try await transport.send(request)
      guard response.status == 200 else {
        throw CredentialError.containerEndpoint(url: url, reason: "answered HTTP \(response.status)")
      }
      return try Credentials(document: response.body, source: "the container endpoint", roleName: nil)
    } catch let error as TransportError {
      throw CredentialError.containerEndpoint(url: url, reason: error.explanation)
    } catch let error as CredentialDocumentError {
      throw CredentialError.containerDocument(url: url, error)
    }
  }

  /// Read every time: the file's token rotates.
  private func authorizationToken() throws -> Secret? {
    guard let tokenFile else { return token }
    do {
      let text = String(decoding: try files.read(tokenFile, limit: 1 << 16), as: UTF8.self)
      return text.split(whereSeparator: \.isNewline).first.map { Secret(String($0)) }
    } catch {
      throw CredentialError.unreadableContainerToken(error)
    }
  }

  /// AWS SDKs and Tools Reference Guide, "Container credential provider".
  private static func isTrusted(_ url: String) -> Bool {
    if url.hasPrefix("https://") { return true }
    guard url.hasPrefix("http://") else { return false }
    let authority = url.dropFirst("http://".count).prefix { $0 != "/" }
    guard !authority.contains("@") else { return false }
    if authority.hasPrefix("[") {
      return ["[::1]", "[fd00:ec2::23]"].contains(authority.prefix { $0 != "]" } + "]")
    }
    let host = authority.prefix { $0 != ":" }
    if host == "localhost" || host == "169.254.170.2" || host == "169.254.170.23" { return true }
    return IPv4Address(host)?.isLoopback ?? false
  }
}

/// The role in the instance profile, through the metadata service.
package struct InstanceRoleCredentials: CredentialProvider {
  private let metadata: MetadataClient

  package init(metadata: MetadataClient) { self.metadata = metadata }

  package func credentials() async throws -> Credentials? {
    let list = try await metadata.get("/latest/meta-data/iam/security-credentials/")
    guard let role = list?.split(whereSeparator: \.isNewline).first.map(String.init) else {
      throw CredentialError.noRole
    }
    do {
      let path = "/latest/meta-data/iam/security-credentials/\(role)"
      guard let text = try await metadata.get(path) else { throw CredentialDocumentError.notFound }
      return try Credentials(document: Array(text.utf8), source: "instance role \(role)", roleName: role)
    } catch let error as CredentialDocumentError {
      throw CredentialError.roleDocument(role: role, error)
    }
  }
}

extension [String: String] {
  /// An empty environment variable counts as unset, as in the AWS SDKs.
  fileprivate func nonempty(_ name: String) -> String? { self[name].flatMap { $0.isEmpty ? nil : $0 } }
}
