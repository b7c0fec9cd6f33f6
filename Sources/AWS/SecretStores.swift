package import Base

/// Systems Manager's Parameter Store (JSON 1.1, `AmazonSSM`). Throws `AWSError` or `Failure`.
package struct ParameterStore: Sendable {
  private let client: AWSClient

  package init(client: AWSClient) { self.client = client }

  /// The value of a parameter, decrypted; nil if there is no such parameter.
  package func parameter(_ name: String) async throws -> Secret? {
    do {
      let answer = try await client.json(
        .ssm, target: "AmazonSSM", "GetParameter", ["Name": .string(name), "WithDecryption": true])
      guard let value = answer["Parameter"]?["Value"]?.string else {
        throw AWSError.unexpected(.ssm, "GetParameter", "JSON")
      }
      return Secret(value)
    } catch let error as AWSError where error.code == "ParameterNotFound" || error.code == "ParameterVersionNotFound" {
      return nil
    }
  }

  /// Makes a SecureString parameter, encrypted with the account's default key, unless there is one of that name.
  /// - Returns: whether it was made.
  package func create(_ name: String, _ value: Secret) async throws -> Bool {
    do {
      _ = try await client.json(
        .ssm, target: "AmazonSSM", "PutParameter",
        ["Name": .string(name), "Value": .string(value.value), "Type": "SecureString", "Overwrite": false])
      return true
    } catch let error as AWSError where error.code == "ParameterAlreadyExists" {
      return false
    }
  }
}

/// Secrets Manager (JSON 1.1, `secretsmanager`). Throws `AWSError` or `Failure`.
package struct SecretsManager: Sendable {
  private let client: AWSClient

  package init(client: AWSClient) { self.client = client }

  /// The current value of a secret, a binary one as the text that its bytes are; nil if there is no such secret.
  package func secret(_ id: String) async throws -> Secret? {
    do {
      let answer = try await client.json(
        .secretsManager, target: "secretsmanager", "GetSecretValue", ["SecretId": .string(id)])
      if let text = answer["SecretString"]?.string { return Secret(text) }
      guard let bytes = answer["SecretBinary"]?.string.flatMap(Base64.decode) else {
        throw AWSError.unexpected(.secretsManager, "GetSecretValue", "JSON")
      }
      return Secret(String(decoding: bytes, as: UTF8.self))
    } catch let error as AWSError where error.code == "ResourceNotFoundException" {
      return nil
    }
  }
}
