import Synchronization
import TestSupport
import Testing

@testable import AWS
@testable import Base

@Suite(.timeLimit(.minutes(5))) struct CredentialTests {
  @Test func `the environment needs both halves`() throws {
    #expect(try EnvironmentCredentials(environment: [:]).credentials() == nil)
    #expect(try EnvironmentCredentials(environment: ["AWS_ACCESS_KEY_ID": ""]).credentials() == nil)
    let both = ["AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"]
    #expect(
      try EnvironmentCredentials(environment: both).credentials()
        == Credentials(
          accessKeyID: "id", secretAccessKey: Secret("secret"), sessionToken: Secret("token"),
          source: "the environment"))
    for half in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
      #expect(throws: CredentialError.incompleteEnvironment) {
        try EnvironmentCredentials(environment: [half: "id"]).credentials()
      }
    }
  }

  static let files = MemoryFiles(files: [
    "/h/.aws/config":
      "# mine\n[default]\nregion = eu-west-1\n[profile web]\naws_access_key_id = from-config ; old\n"
      + "region=us-east-1\n[profile sso]\nsso_session = x\n",
    "/h/.aws/credentials":
      "[web]\naws_access_key_id=web-id\naws_secret_access_key = web=secret # note\n\n"
      + "[default]\naws_access_key_id=d\naws_secret_access_key=s\n",
  ])

  @Test func `profiles are read from both files, the credentials file wins`() throws {
    let web = SharedConfiguration(environment: ["HOME": "/h", "AWS_PROFILE": "web"], files: Self.files)
    #expect(try web.profile()?["region"] == "us-east-1")
    let credentials = try ProfileCredentials(profiles: web).credentials()
    #expect(credentials?.accessKeyID == "web-id")
    #expect(credentials?.secretAccessKey == Secret("web=secret"))
    #expect(
      try ProfileCredentials(profiles: SharedConfiguration(environment: ["HOME": "/h"], files: Self.files))
        .credentials()?.accessKeyID == "d")
    #expect(
      try ProfileCredentials(profiles: SharedConfiguration(environment: [:], files: Self.files)).credentials() == nil)
  }

  @Test(arguments: [
    ("missing", CredentialError.noProfile(name: "missing", paths: ["/h/.aws/config", "/h/.aws/credentials"])),
    ("sso", .unsupportedProfile(name: "sso", key: "sso_session")),
  ])
  func `a profile that was named but cannot be used is an error`(_ name: String, _ expected: CredentialError) {
    let profiles = SharedConfiguration(environment: ["HOME": "/h", "AWS_PROFILE": name], files: Self.files)
    #expect(throws: expected) { try ProfileCredentials(profiles: profiles).credentials() }
  }

  @Test func `a configuration that cannot be read is an error where a profile is named`() throws {
    let denied = FileError("open", "/h/.aws/config", errno: 13, reason: "Permission denied")
    let files = MemoryFiles(errors: ["/h/.aws/config": denied])
    let named = SharedConfiguration(environment: ["HOME": "/h", "AWS_PROFILE": "web"], files: files)
    #expect(throws: CredentialError.unreadableConfiguration(denied)) { try named.profile() }
    #expect(try SharedConfiguration(environment: ["HOME": "/h"], files: files).profile() == nil)
  }

  static let document =
    #"{"AccessKeyId":"id","SecretAccessKey":"secret","Token":"t","Expiration":"2026-01-02T03:04:05Z"}"#

  @Test func `a request to the container endpoint carries the token of the file`() async throws {
    let transport = ScriptedTransport([answer(200, Self.document), answer(200, Self.document)])
    let full = ContainerCredentials(
      environment: [
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/token",
      ],
      transport: transport, files: MemoryFiles(files: ["/token": "abc\n"]))
    #expect(try await full.credentials()?.expiration == Timestamp(iso8601: "2026-01-02T03:04:05Z"))
    #expect(transport.requests[0].headers.map(\.value) == ["abc"])
    let relative = ContainerCredentials(
      environment: ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x"], transport: transport, files: MemoryFiles())
    _ = try await relative.credentials()
    #expect(transport.requests[1].url == "http://169.254.170.2/v2/x")
  }

  @Test(arguments: [
    "http://example.com/", "http://169.254.170.2.evil.com/", "http://localhost@evil.com/",
    "http://localhost:80@evil.com/", "http://[::1]@evil.com/", "http://[::2]/",
    "ftp://localhost/", "http://127.evil/",
  ])
  func `a container endpoint elsewhere without TLS is refused`(_ url: String) async {
    let provider = ContainerCredentials(
      environment: ["AWS_CONTAINER_CREDENTIALS_FULL_URI": url], transport: ScriptedTransport([]), files: MemoryFiles())
    await #expect(throws: CredentialError.untrustedContainerEndpoint(url: url)) { try await provider.credentials() }
  }

  static let documents: [(String, CredentialDocumentError)] = [
    (#"{"Code":"AssumeRoleUnauthorizedAccess"}"#, .refused(code: "AssumeRoleUnauthorizedAccess")), ("{}", .noKeys),
    (#"{"AccessKeyId":"","SecretAccessKey":"s"}"#, .noKeys), (#"{"AccessKeyId":"id","SecretAccessKey":""}"#, .noKeys),
    // Read as credentials that never expire before.
    (#"{"AccessKeyId":"id","SecretAccessKey":"s","Expiration":"tomorrow"}"#, .noExpiration),
    (#"{"AccessKeyId":"id","SecretAccessKey":"s","Expiration":1767323045}"#, .noExpiration),
  ]

  @Test(arguments: documents)
  func `a credentials document that lacks something is refused`(
    _ document: String, _ expected: CredentialDocumentError
  ) async {
    let url = "http://169.254.170.2/v2/x"
    let container = ContainerCredentials(
      environment: ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x"],
      transport: ScriptedTransport([answer(200, document)]), files: MemoryFiles())
    await #expect(throws: CredentialError.containerDocument(url: url, expected)) { try await container.credentials() }
    let transport = ScriptedTransport([answer(200, "token"), answer(200, "web-node\n"), answer(200, document)])
    await #expect(throws: CredentialError.roleDocument(role: "web-node", expected)) {
      try await InstanceRoleCredentials(metadata: metadata(transport)).credentials()
    }
  }

  private func metadata(_ transport: ScriptedTransport) -> MetadataClient {
    MetadataClient(
      environment: [:], allowsVersion1: false, transport: transport, clock: RecordingClock(),
      log: Logger(level: .error, sink: SilentSink()))
  }

  @Test func `a container endpoint that gives no document is named with its answer`() async {
    let url = "http://169.254.170.2/v2/x"
    for (answer, reason) in [(answer(404), "answered HTTP 404"), (failure(.refused), "connection refused")] {
      let container = ContainerCredentials(
        environment: ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x"], transport: ScriptedTransport([answer]),
        files: MemoryFiles())
      await #expect(throws: CredentialError.containerEndpoint(url: url, reason: reason)) {
        try await container.credentials()
      }
    }
    let container = ContainerCredentials(
      environment: [
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/token",
      ], transport: ScriptedTransport([]), files: MemoryFiles())
    let error = FileError("read", "/token", errno: 2, reason: "No such file or directory")
    await #expect(throws: CredentialError.unreadableContainerToken(error)) { try await container.credentials() }
  }

  @Test func `an instance without a role, and a role without a document`() async throws {
    for (answers, expected) in [
      ([answer(404)], CredentialError.noRole), ([answer(200, "\n")], .noRole),
      ([answer(200, "web"), answer(404)], .roleDocument(role: "web", .notFound)),
    ] {
      let transport = ScriptedTransport([answer(200, "token")] + answers)
      await #expect(throws: expected) {
        try await InstanceRoleCredentials(metadata: metadata(transport)).credentials()
      }
    }
    let transport = ScriptedTransport([answer(200, "token"), answer(200, "web"), answer(200, Self.document)])
    let found = try await InstanceRoleCredentials(metadata: metadata(transport)).credentials()
    #expect(found?.roleName == "web")
    #expect(found?.sessionToken == Secret("t"))
  }

  /// Whatever prints one of these, by name, for debugging or by its mirror, prints no secret.
  @Test func `nothing that holds a secret prints it`() async throws {
    let secrets = ["the-key", "the-token", "the-endpoint-token", "the-imds-token"]
    let credentials = Credentials(
      accessKeyID: "AKID", secretAccessKey: Secret("the-key"), sessionToken: Secret("the-token"), source: "test")
    let environment = [
      "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "the-key", "AWS_SESSION_TOKEN": "the-token",
      "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "the-endpoint-token",
    ]
    let transport = SecretTransport()
    let metadata = MetadataClient(
      environment: [:], allowsVersion1: false, transport: transport, clock: RecordingClock(),
      log: Logger(level: .error, sink: SilentSink()))
    _ = try await metadata.get("/latest/meta-data/mac")
    let container = ContainerCredentials(environment: environment, transport: transport, files: MemoryFiles())
    await #expect(throws: CredentialError.self) { try await container.credentials() }
    #expect(transport.sent.withLock { $0 } == ["the-imds-token", "the-endpoint-token"])
    let holders: [Any] = [credentials, EnvironmentCredentials(environment: environment), container, metadata]
    for holder in holders {
      var text = "\(holder) \(String(reflecting: holder)) "
      dump(holder, to: &text)
      for secret in secrets { #expect(!text.contains(secret)) }
    }
    #expect("\(credentials)" == "AKID from test")
  }

  /// Holds nothing of what is sent but the secrets that it got.
  private final class SecretTransport: HTTPTransport {
    let sent = Mutex<[String]>([])
    func send(_ request: HTTPRequest) async throws -> HTTPResponse {
      if request.method == "PUT" { return HTTPResponse(status: 200, body: Array("the-imds-token".utf8)) }
      sent.withLock { $0 += request.headers.map(\.value) }
      return HTTPResponse(status: 404, body: [])
    }
  }

  @Test func `credentials that are loaded ahead are loaded once, and a failure ahead is repeated`() async throws {
    let now = Timestamp(seconds: 1_767_225_600)
    let provider = Hourly(now: { now })
    let cache = CredentialCache(providers: [provider], now: { now })
    await cache.preload()
    await cache.preload()
    _ = try await cache.credentials()
    await cache.preload()
    #expect(provider.count.withLock { $0 } == 1)
    let transport = ScriptedTransport([
      answer(200, "token"), answer(404), answer(200, "web"), answer(200, Self.document),
    ])
    let failing = CredentialCache(providers: [InstanceRoleCredentials(metadata: metadata(transport))], now: { now })
    await failing.preload()
    let found: Credentials
    // The next call may find the load that fails still under way.
    do { found = try await failing.credentials() } catch CredentialError.noRole {
      found = try await failing.credentials()
    }
    #expect(found.roleName == "web")
  }

  /// A provider whose credentials live for an hour each.
  final class Hourly: CredentialProvider {
    let count = Mutex(0)
    let now: WallClock
    init(now: @escaping WallClock) { self.now = now }
    func credentials() throws -> Credentials? {
      let number = count.withLock { count in
        count += 1
        return count
      }
      if number == 3 { throw MetadataError.disabled }
      return Credentials(
        accessKeyID: "id\(number)", secretAccessKey: Secret("s"), expiration: now() + .seconds(3600), source: "test")
    }
  }

  @Test func `credentials are renewed before they expire, and after AWS reports that they did`() async throws {
    let time = Mutex(Timestamp(seconds: 1_000_000))
    let now: WallClock = { time.withLock { $0 } }
    let provider = Hourly(now: now)
    let cache = CredentialCache(providers: [EnvironmentCredentials(environment: [:]), provider], now: now)
    #expect(try await cache.credentials().accessKeyID == "id1")
    time.withLock { $0 = $0 + .seconds(3000) }
    #expect(try await cache.credentials().accessKeyID == "id1")
    time.withLock { $0 = $0 + .seconds(400) }  // less than five minutes left
    let second = try await cache.credentials()
    #expect(second.accessKeyID == "id2")
    time.withLock { $0 = $0 + .seconds(3500) }
    // The third load fails: what has not expired goes on being used.
    #expect(try await cache.credentials().accessKeyID == "id2")
    await cache.discard(second)
    #expect(try await cache.credentials().accessKeyID == "id4")
  }

  /// Regression: the first caller's cancellation failed every call that shared its load.
  @Test func `concurrent calls share a load, and the cancellation of one leaves the others`() async throws {
    let provider = Held(), cache = CredentialCache(providers: [provider], now: { Timestamp(seconds: 0) })
    let first = Task { try await cache.credentials() }
    try await provider.loads.wait { $0.started == 1 ? () : nil }
    let second = Task { try await cache.credentials() }, third = Task { try await cache.credentials() }
    first.cancel()
    await #expect(throws: CancellationError.self) { try await first.value }
    provider.loads.update { $0.mayEnd = true }
    #expect(try await second.value.accessKeyID == "1")
    #expect(try await third.value.accessKeyID == "1")
    #expect(provider.loads.value.started == 1 && provider.loads.value.cancelled == 0)
  }

  @Test func `a load that no call waits for is cancelled, and the next call starts another`() async throws {
    let provider = Held(), cache = CredentialCache(providers: [provider], now: { Timestamp(seconds: 0) })
    let first = Task { try await cache.credentials() }
    try await provider.loads.wait { $0.started == 1 ? () : nil }
    first.cancel()
    await #expect(throws: CancellationError.self) { try await first.value }
    try await provider.loads.wait { $0.cancelled == 1 ? () : nil }
    provider.loads.update { $0.mayEnd = true }
    #expect(try await cache.credentials().accessKeyID == "2")
  }

  @Test func `a call that is cancelled already starts no load`() async throws {
    let provider = Held(), cache = CredentialCache(providers: [provider], now: { Timestamp(seconds: 0) })
    let call = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      return try await cache.credentials()
    }
    await #expect(throws: CancellationError.self) { try await call.value }
    #expect(provider.loads.value.started == 0)
  }

  @Test func `the late end of an abandoned load is not that of the next`() async throws {
    let provider = Deaf(), cache = CredentialCache(providers: [provider], now: { Timestamp(seconds: 0) })
    let first = Task { try await cache.credentials() }
    try await provider.loads.wait { $0.started == 1 ? () : nil }
    first.cancel()
    await #expect(throws: CancellationError.self) { try await first.value }
    let second = Task { try await cache.credentials() }
    try await provider.loads.wait { $0.started == 2 ? () : nil }
    provider.loads.update { $0.ended = 1 }
    try await provider.loads.wait { $0.returned == 1 ? () : nil }
    provider.loads.update { $0.ended = 2 }
    #expect(try await second.value.accessKeyID == "2")
  }

  /// Does not hear of its cancellation; each load ends when the test lets it, with its number.
  private final class Deaf: CredentialProvider {
    let loads = Watched((started: 0, ended: 0, returned: 0))

    func credentials() async throws -> Credentials? {
      let number = loads.update { loads in
        loads.started += 1
        return loads.started
      }
      let end = Task { [loads] in try await loads.wait { $0.ended >= number ? () : nil } }
      _ = await end.result
      loads.update { $0.returned = number }
      return Credentials(accessKeyID: "\(number)", secretAccessKey: Secret("s"), source: "test")
    }
  }

  /// Ends when the test lets it, with the number of its load.
  private final class Held: CredentialProvider {
    let loads = Watched((started: 0, cancelled: 0, mayEnd: false))

    func credentials() async throws -> Credentials? {
      let number = loads.update { loads in
        loads.started += 1
        return loads.started
      }
      do { try await loads.wait { $0.mayEnd ? () : nil } } catch {
        loads.update { $0.cancelled += 1 }
        throw error
      }
      return Credentials(accessKeyID: "\(number)", secretAccessKey: Secret("s"), source: "test")
    }
  }

  @Test func `no credentials anywhere is an error`() async {
    let cache = CredentialCache(providers: [], now: { Timestamp(seconds: 0) })
    await #expect(throws: CredentialError.noneFound) { try await cache.credentials() }
  }

  /// The wall clock decides on the expiry of credentials, and a wrong one must not keep expired ones for ever.
  @Test func `an expiry at the end of time neither traps nor forces a renewal`() async throws {
    struct Eternal: CredentialProvider {
      func credentials() throws -> Credentials? {
        Credentials(
          accessKeyID: "id", secretAccessKey: Secret("s"), expiration: Timestamp(milliseconds: .max), source: "test")
      }
    }
    let cache = CredentialCache(providers: [Eternal()], now: { Timestamp(milliseconds: .min) })
    #expect(try await cache.credentials().accessKeyID == "id")
    #expect(try await cache.credentials().accessKeyID == "id")
  }
}
