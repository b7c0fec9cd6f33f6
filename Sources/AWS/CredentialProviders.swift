package import Base

/// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, with them, `AWS_SESSION_TOKEN`.
package struct EnvironmentCredentials: CredentialProvider {
  private let environment: [String: String]

  package init(environment: [String: String]) { self.environment = environment }

  package func credentials() throws -> Credentials? {
    let id = environment["AWS_ACCESS_KEY_ID"] ?? "", secret = environment["AWS_SECRET_ACCESS_KEY"] ?? ""
    switch (id.isEmpty, secret.isEmpty) {
    case (true, true): return nil
    case (false, false): break
    default:
      throw Failure(
        .noCredentials, "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set",
        hint: "set both, or neither to use the instance role")
    }
    let token = environment["AWS_SESSION_TOKEN"].flatMap { $0.isEmpty ? nil : $0 }
    return Credentials(accessKeyID: id, secretAccessKey: secret, sessionToken: token, source: "the environment")
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
        throw Failure(
          .noCredentials, "profile \(name) uses \(key), which consul-bootstrap does not support",
          hint: "use static keys in the profile, AWS_ACCESS_KEY_ID and the like, or the instance role")
      }
      return nil
    }
    return Credentials(
      accessKeyID: id, secretAccessKey: secret, sessionToken: profile["aws_session_token"], source: "profile \(name)")
  }
}

/// The endpoint that ECS, EKS Pod Identity and others name in the environment.
package struct ContainerCredentials: CredentialProvider {
  private let environment: [String: String]
  private let transport: any HTTPTransport
  private let files: any FileReader

  package init(environment: [String: String], transport: any HTTPTransport, files: any FileReader) {
    self.environment = environment
    self.transport = transport
    self.files = files
  }

  package func credentials() async throws -> Credentials? {
    let url: String
    if let relative = environment["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"], !relative.isEmpty {
      url = "http://169.254.170.2" + relative
    } else if let full = environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"], !full.isEmpty {
      guard Self.isTrusted(full) else {
        throw Failure(
          .noCredentials, "AWS_CONTAINER_CREDENTIALS_FULL_URI names \(full), which is neither HTTPS nor local",
          hint: "the SDKs accept http:// only for loopback, 169.254.170.2, 169.254.170.23 and fd00:ec2::23")
      }
      url = full
    } else {
      return nil
    }
    var request = HTTPRequest("GET", url)
    request.timeout = .seconds(5)
    if let token = try authorizationToken() { request.headers.append(("Authorization", token)) }
    do {
      let response = try await transport.send(request)
      guard response.status == 200 else { throw CredentialDocumentError(reason: "answered HTTP \(response.status)") }
      return try Credentials(
        document: JSONValue(parsing: response.body), source: "the container endpoint", roleName: nil)
    } catch let error as TransportError {
      throw failure(url, error.explanation)
    } catch let error as CredentialDocumentError {
      throw failure(url, error.reason)
    } catch is JSONSyntaxError {
      throw failure(url, "answered something that is not JSON")
    }
  }

  private func failure(_ url: String, _ what: String) -> Failure {
    Failure(.noCredentials, "the container credentials endpoint gave no credentials", details: ["\(url): \(what)"])
  }

  /// Read every time: the file's token rotates.
  private func authorizationToken() throws -> String? {
    guard let path = environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"], !path.isEmpty else {
      return environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    }
    do {
      let text = String(decoding: try files.read(path, limit: 1 << 16), as: UTF8.self)
      return text.split(whereSeparator: \.isNewline).first.map(String.init)
    } catch let error as FileError {
      throw Failure(
        .noCredentials, "cannot read the container authorization token", details: [error.explanation],
        hint: "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names this file")
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
      throw Failure(
        .noCredentials, "this instance has no role",
        details: ["the metadata service lists no role under iam/security-credentials/"],
        hint: "attach an instance profile to the instance or its launch template")
    }
    do {
      let path = "/latest/meta-data/iam/security-credentials/\(role)"
      guard let text = try await metadata.get(path) else { throw CredentialDocumentError(reason: "is not there") }
      return try Credentials(document: JSONValue(parsing: text), source: "instance role \(role)", roleName: role)
    } catch let error as CredentialDocumentError {
      throw Failure(
        .noCredentials, "the metadata service gave no credentials for role \(role)",
        details: ["the credentials document \(error.reason)"],
        hint: "check that the role's trust policy lets ec2.amazonaws.com assume it")
    } catch is JSONSyntaxError {
      throw Failure(
        .noCredentials, "the metadata service gave no credentials for role \(role)",
        details: ["the credentials document is not JSON"])
    }
  }
}
