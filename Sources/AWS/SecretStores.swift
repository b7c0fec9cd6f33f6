package import Base

extension AWSAction {
  package static let getParameter = AWSAction(.ssm, "GetParameter", on: .parameter)
  package static let putParameter = AWSAction(.ssm, "PutParameter", on: .parameter)
  package static let getSecretValue = AWSAction(.secretsManager, "GetSecretValue", on: .secret)
}

/// Systems Manager's Parameter Store (JSON 1.1, `AmazonSSM`). Throws `AWSError`, `CredentialError` or `MetadataError`.
package struct ParameterStore: Sendable {
  private let client: AWSClient

  package init(client: AWSClient) { self.client = client }

  /// The value of a parameter, decrypted; nil if there is no such parameter.
  package func parameter(_ name: String) async throws -> Secret? {
    do {
      return try await client.json(.getParameter, ["Name": .string(name), "WithDecryption": true]) { answer in
        guard let value = answer["Parameter"]?["Value"]?.string else {
          throw MalformedAnswer("the answer has no Parameter.Value")
        }
        return Secret(value)
      }
    } catch let error as AWSError where error.code == "ParameterNotFound" || error.code == "ParameterVersionNotFound" {
      return nil
    }
  }

  /// Creates a SecureString parameter, encrypted with the account's default key, unless there is one of that name.
  /// - Returns: whether it was created.
  package func create(_ name: String, _ value: Secret) async throws -> Bool {
    do {
      try await client.json(
        .putParameter,
        ["Name": .string(name), "Value": .string(value.value), "Type": "SecureString", "Overwrite": false]
      ) { _ in }
      return true
    } catch let error as AWSError where error.code == "ParameterAlreadyExists" {
      return false
    }
  }
}

/// Secrets Manager (JSON 1.1, `secretsmanager`). Throws `AWSError`, `CredentialError` or `MetadataError`.
package struct SecretsManager: Sendable {
  private let client: AWSClient

  package init(client: AWSClient) { self.client = client }

  /// The current value of a secret, a binary one as UTF-8 text; nil if there is no such secret.
  package func secret(_ id: String) async throws -> Secret? {
    do {
      return try await client.json(.getSecretValue, ["SecretId": .string(id)]) { answer in
        if let text = answer["SecretString"]?.string { return Secret(text) }
        guard let bytes = answer["SecretBinary"]?.string.flatMap(Base64.decode) else {
          throw MalformedAnswer("the answer has neither SecretString nor SecretBinary in base64")
        }
        return Secret(String(decoding: bytes, as: UTF8.self))
      }
    } catch let error as AWSError where error.code == "ResourceNotFoundException" {
      return nil
    }
  }
}
