import AWS
import Base
import TestSupport
import Testing

@testable import Model
@testable import Observers

/// The gossip key of `--gossip-key-create`: created once, by whichever server comes first.
@Suite(.timeLimit(.minutes(5))) struct GossipKeyCreationTests {
  private var flow = Flow()

  init() {
    flow.settings.gossipKey = .ssm(name: "/consul/gossip")
    flow.settings.createsGossipKey = true
  }

  private func read(_ flow: Flow, _ missing: SecretReader.MissingKey) async throws -> Secrets {
    try await SecretReader(settings: flow.settings, context: flow.context.context, client: flow.client)
      .read(missingKey: missing)
  }

  private static let notFound = FakeAWS.Refusal(status: 400, code: "ParameterNotFound")

  @Test func `the first server creates 32 random bytes`() async throws {
    let secrets = try await read(flow, .create)
    let created = try #require(flow.aws.parameter("/consul/gossip"))
    #expect(secrets.gossipKey == Secret(created) && !secrets.gossipKeyIsMissing)
    #expect(Base64.decode(created)?.count == 32)
    #expect(flow.aws.calls.map(\.action) == ["GetParameter", "PutParameter", "GetParameter"])
    #expect(flow.aws.calls("PutParameter").first?.parameters["Overwrite"] == "false")
    #expect(flow.lines == [#"info created the gossip key parameter="/consul/gossip""#])
    flow.aws.setParameter("/consul/gossip", nil)
    #expect(try await read(flow, .create).gossipKey != Secret(created))
  }

  @Test func `an existing key is read, not created`() async throws {
    flow.aws.setParameter("/consul/gossip", gossipKey)
    #expect(try await read(flow, .create).gossipKey == Secret(gossipKey))
    #expect(flow.aws.calls.map(\.action) == ["GetParameter"] && flow.log.all.isEmpty)
  }

  /// Guards against two keys in one cluster.
  @Test func `the key of another server that was first is used`() async throws {
    flow.aws.setParameter("/consul/gossip", gossipKey)
    flow.aws.refuse("GetParameter", Self.notFound, times: 1)
    #expect(try await read(flow, .create).gossipKey == Secret(gossipKey))
    #expect(flow.lines == [#"info another server created the gossip key first parameter="/consul/gossip""#])
  }

  @Test func `a new key that cannot be read at once is read again`() async throws {
    flow.aws.refuse("GetParameter", Self.notFound, times: 4)
    #expect(try await read(flow, .create).gossipKey?.value == flow.aws.parameter("/consul/gossip"))
    #expect(flow.elapsed == .milliseconds(1500))
  }

  @Test func `a new key that never appears is an error after 5 s`() async {
    flow.aws.refuse("GetParameter", Self.notFound)
    let flow = flow
    let failed = await failure { _ = try await read(flow, .create) }
    #expect(failed?.message == "there is no parameter /consul/gossip, which should contain the gossip key")
    #expect(flow.elapsed == .seconds(5))
  }

  @Test func `a dry run creates nothing`() async throws {
    let secrets = try await read(flow, .tolerate)
    #expect(secrets.gossipKey == Secret("") && secrets.gossipKeyIsMissing)
    #expect(flow.aws.calls.map(\.action) == ["GetParameter"] && flow.aws.parameter("/consul/gossip") == nil)
  }

  @Test func `a sidecar neither creates nor tolerates a missing key`() async {
    let flow = flow
    let failed = await failure { _ = try await read(flow, .refuse) }
    #expect(
      failed
        == Failure(
          .awsFailed, "there is no parameter /consul/gossip, which should contain the gossip key",
          details: ["ssm:GetParameter in eu-west-1 finds no such parameter"],
          hint: "create it (aws ssm put-parameter --type SecureString --name /consul/gossip), "
            + "or correct its name or the region"))
    #expect(flow.aws.parameter("/consul/gossip") == nil)
  }

  @Test func `a role that may not create the key is an error`() async {
    flow.aws.refuse("PutParameter", .accessDenied)
    let flow = flow
    let failed = await failure { _ = try await read(flow, .create) }
    #expect(failed?.message == "cannot create the gossip key, ssm:/consul/gossip: access denied")
    #expect(failed?.hint == "allow ssm:PutParameter for role web-node")
  }
}

/// The secrets that the options name.
@Suite(.timeLimit(.minutes(5))) struct SecretReaderTests {
  private var flow = Flow()

  private func read(_ flow: Flow) async throws -> Secrets {
    try await SecretReader(settings: flow.settings, context: flow.context.context, client: flow.client)
      .read(missingKey: .create)
  }

  private func failed(_ flow: Flow) async -> Failure? { await failure { _ = try await read(flow) } }

  @Test func `without options nothing is read`() async throws {
    #expect(try await read(flow) == Secrets())
    #expect(flow.aws.calls.isEmpty)
  }

  @Test func `each comes from its place`() async throws {
    var flow = flow
    flow.settings.gossipKey = .secretsManager(id: "consul", key: "gossip")
    flow.settings.agentToken = .secretsManager(id: "token", key: nil)
    flow.settings.tls.ca = .ssm(name: "ca")
    flow.settings.tls.cert = .file(path: "/etc/cert.pem")
    flow.settings.tls.key = .ssm(name: "key")
    flow.aws.setSecret("consul", #"{"gossip": "\#(gossipKey)\n"}"#)
    flow.aws.setSecret("token", "t-1")
    flow.aws.setParameter("ca", "\n-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n\n")
    flow.context.files.put("/etc/cert.pem", "-----BEGIN CERTIFICATE-----\n")
    flow.aws.setParameter("key", "-----BEGIN EC PRIVATE KEY-----\nB\n-----END EC PRIVATE KEY-----")
    var expected = Secrets()
    expected.gossipKey = Secret(gossipKey)
    expected.agentToken = Secret("t-1")
    expected.ca = .pem(Secret("-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n"))
    expected.cert = .file(path: "/etc/cert.pem")
    expected.key = .pem(Secret("-----BEGIN EC PRIVATE KEY-----\nB\n-----END EC PRIVATE KEY-----\n"))
    #expect(try await read(flow) == expected)
  }

  @Test(arguments: ["AAAAAAAAAAAAAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "  \(gossipKey)\n"])
  func `a gossip key has 16, 24 or 32 bytes`(_ value: String) async throws {
    var flow = flow
    flow.settings.gossipKey = .ssm(name: "k")
    flow.aws.setParameter("k", value)
    #expect(try await read(flow).gossipKey == Secret(value.filter { !$0.isWhitespace }))
  }

  /// The message must not repeat the value.
  @Test(arguments: ["AAECAwQFBgc=", "not-a-key-2f8c", "AAAA AAAA", "AAAAAAAAAAAAAAAAAAAAAA"])
  func `anything else is not a gossip key`(_ value: String) async {
    var flow = flow
    flow.settings.gossipKey = .ssm(name: "k")
    flow.aws.setParameter("k", value)
    #expect(
      await failed(flow)
        == Failure(
          .configurationRejected, "ssm:k is not a gossip key",
          details: ["a gossip key is 16, 24 or 32 bytes in base64, as consul keygen prints it"],
          hint: "store the output of consul keygen there"))
  }

  @Test func `secrets that do not exist are errors with their places`() async {
    var flow = flow
    flow.settings.agentToken = .ssm(name: "/t")
    #expect(await failed(flow)?.message == "there is no parameter /t, which should contain the agent's token")
    flow.settings.agentToken = .secretsManager(id: "t", key: nil)
    #expect(
      await failed(flow)
        == Failure(
          .awsFailed, "there is no secret t, which should contain the agent's token",
          details: ["secretsmanager:GetSecretValue in eu-west-1 finds no such secret"],
          hint: "create it, or correct its name or the region"))
    flow.settings.agentToken = .file(path: "/t")
    #expect(
      await failed(flow)
        == Failure(
          .configurationRejected, "there is no file /t, which should contain the agent's token",
          hint: "correct the path"))
  }

  @Test(arguments: ["", " \n\t"])
  func `an empty secret is an error`(_ value: String) async {
    var flow = flow
    flow.settings.agentToken = .file(path: "/t")
    flow.context.files.put("/t", value)
    #expect(
      await failed(flow)
        == Failure(
          .configurationRejected, "file:/t, the agent's token, is empty", hint: "store the agent's token there"))
  }

  @Test func `a file that cannot be read is an error`() async {
    var flow = flow
    flow.settings.tls.key = .file(path: "/k")
    flow.context.files.fail(.read, "/k", errno: 13)
    #expect(
      await failed(flow)
        == Failure(
          .configurationRejected, "cannot read the private key", details: ["read /k: Permission denied"],
          hint: "check the permissions of /k"))
  }

  @Test func `material that is not PEM is an error`() async {
    var flow = flow
    flow.settings.tls.ca = .ssm(name: "ca")
    flow.aws.setParameter("ca", "-----BEGIN PRIVATE KEY-----")
    #expect(
      await failed(flow)
        == Failure(
          .configurationRejected, "ssm:ca is not the CA certificate in PEM form",
          details: ["it has no line with CERTIFICATE-----"], hint: "store the whole text of the PEM file there"))
    flow.settings.tls.ca = nil
    flow.settings.tls.key = .ssm(name: "ca")
    flow.aws.setParameter("ca", "-----BEGIN CERTIFICATE-----")
    #expect(await failed(flow)?.message == "ssm:ca is not the private key in PEM form")
  }

  @Test(arguments: [
    ("plain text", "the secret is not a JSON object"), ("[]", "the secret is not a JSON object"),
    (#"{"other": "x"}"#, "the secret has no text member token"),
    (#"{"token": 5}"#, "the secret has no text member token"),
  ])
  func `a JSON member that is missing is an error`(_ value: String, _ detail: String) async {
    var flow = flow
    flow.settings.agentToken = .secretsManager(id: "s", key: "token")
    flow.aws.setSecret("s", value)
    #expect(
      await failed(flow)
        == Failure(
          .configurationRejected, "secretsmanager:s#token: there is no text under the key token", details: [detail],
          hint: "correct the key after #, or remove it to use the whole secret"))
  }

  // MARK: AWS failures

  @Test func `a refusal is an error with the action and the role`() async {
    var flow = flow
    flow.settings.agentToken = .ssm(name: "/t")
    flow.aws.refuse("GetParameter", .accessDenied)
    #expect(
      await failed(flow)
        == Failure(
          .awsFailed, "cannot read the agent's token, ssm:/t: access denied",
          details: ["SSM GetParameter answered AccessDenied (HTTP 403): not authorized"],
          hint: "allow ssm:GetParameter for role web-node"))
  }

  @Test func `a key of KMS that the role may not use is named`() async {
    var flow = flow
    flow.settings.agentToken = .secretsManager(id: "t", key: nil)
    flow.aws.refuse(
      "GetSecretValue",
      .init(status: 400, code: "AccessDeniedException", message: "Access to KMS is not allowed"))
    #expect(await failed(flow)?.hint == "allow kms:Decrypt on the key that encrypts secretsmanager:t")
  }

  /// The caller decides how long it retries.
  @Test func `a failure that is retryable stays an AWSError`() async {
    var flow = flow
    flow.settings.agentToken = .ssm(name: "/t")
    flow.aws.fail("GetParameter", .unreachable)
    let copy = flow
    let error = await #expect(throws: AWSError.self) { _ = try await read(copy) }
    #expect(error?.isRetryable == true)
  }
}
