package import Base

extension AWSAction {
  package static let getParameter = AWSAction(.ssm, "GetParameter", on: .parameter)
  package static let getParametersByPath = AWSAction(.ssm, "GetParametersByPath", on: .parameter)
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
    try await create(name, value.value, type: "SecureString")
  }

  /// Creates a String parameter, whose value is no secret, unless there is one of that name.
  /// - Returns: whether it was created.
  package func create(_ name: String, text: String) async throws -> Bool {
    try await create(name, text, type: "String")
  }

  private func create(_ name: String, _ value: String, type: String) async throws -> Bool {
    do {
      try await client.json(
        .putParameter, ["Name": .string(name), "Value": .string(value), "Type": .string(type), "Overwrite": false]
      ) { _ in }
      return true
    } catch let error as AWSError where error.code == "ParameterAlreadyExists" {
      return false
    }
  }

  /// 10 is the most that a page holds.
  private static let pageSize: Int64 = 10
  /// More pages than an account may have parameters of the standard tier (10,000).
  private static let maximumPages = 1000

  /// The String parameters directly below a path, in no particular order.
  /// - Parameter path: with a slash at its end, so that a policy for `PATH/*` covers the call: AWS compares it with the
  ///   path as it is given.
  package func parameters(below path: String) async throws -> [(name: String, value: String)] {
    var found: [(name: String, value: String)] = []
    var token: String?
    for _ in 0..<Self.maximumPages {
      var body: [String: JSONValue] = ["Path": .string(path), "MaxResults": .integer(Self.pageSize)]
      body["NextToken"] = token.map(JSONValue.string)
      let page = try await client.json(.getParametersByPath, .object(body)) { answer in
        guard let list = answer["Parameters"]?.array else { throw MalformedAnswer("the answer has no Parameters") }
        let parameters = try list.map { parameter in
          guard let name = parameter["Name"]?.string, let value = parameter["Value"]?.string else {
            throw MalformedAnswer("the answer has a parameter without Name or Value")
          }
          return (name: name, value: value)
        }
        return (parameters: parameters, nextToken: answer["NextToken"]?.string)
      }
      found += page.parameters
      token = page.nextToken
      if token == nil { return found }
    }
    throw AWSError.malformed(
      .getParametersByPath, "more than \(Self.maximumPages) pages", requestID: nil, role: nil, attempts: 1)
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
