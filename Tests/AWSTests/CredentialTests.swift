import Synchronization
import Testing

@testable import AWS
@testable import Base

@Suite struct CredentialTests {
  @Test func `the environment needs both halves`() throws {
    #expect(try EnvironmentCredentials(environment: [:]).credentials() == nil)
    let both = ["AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"]
    #expect(try EnvironmentCredentials(environment: both).credentials()?.sessionToken == "token")
    #expect(throws: Failure.self) { try EnvironmentCredentials(environment: ["AWS_ACCESS_KEY_ID": "id"]).credentials() }
  }

  static let files = MemoryFiles(files: [
    "/h/.aws/config":
      "# mine\n[default]\nregion = eu-west-1\n[profile web]\naws_access_key_id = from-config ; old\nregion=us-east-1\n[profile sso]\nsso_session = x\n",
    "/h/.aws/credentials":
      "[web]\naws_access_key_id=web-id\naws_secret_access_key = web=secret # note\n\n[default]\naws_access_key_id=d\naws_secret_access_key=s\n",
  ])

  @Test func `profiles are read from both files, the credentials file wins`() throws {
    let web = SharedConfiguration(environment: ["HOME": "/h", "AWS_PROFILE": "web"], files: Self.files)
    #expect(try web.profile()?["region"] == "us-east-1")
    let credentials = try ProfileCredentials(profiles: web).credentials()
    #expect(credentials?.accessKeyID == "web-id")
    #expect(credentials?.secretAccessKey == "web=secret")
    #expect(
      try ProfileCredentials(profiles: SharedConfiguration(environment: ["HOME": "/h"], files: Self.files))
        .credentials()?.accessKeyID == "d")
    #expect(
      try ProfileCredentials(profiles: SharedConfiguration(environment: [:], files: Self.files)).credentials() == nil)
  }

  @Test(arguments: ["missing", "sso"])
  func `a profile that was named but cannot be used is an error`(_ name: String) {
    let profiles = SharedConfiguration(environment: ["HOME": "/h", "AWS_PROFILE": name], files: Self.files)
    #expect(throws: Failure.self) { try ProfileCredentials(profiles: profiles).credentials() }
  }

  static let document =
    #"{"AccessKeyId":"id","SecretAccessKey":"secret","Token":"t","Expiration":"2026-01-02T03:04:05Z"}"#

  @Test func `the container endpoint is asked with the token of the file`() async throws {
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
    "http://example.com/", "http://169.254.170.2.evil.com/", "http://localhost@evil.com/", "http://[::2]/",
    "ftp://localhost/", "http://127.evil/",
  ])
  func `a container endpoint elsewhere without TLS is refused`(_ url: String) async {
    let provider = ContainerCredentials(
      environment: ["AWS_CONTAINER_CREDENTIALS_FULL_URI": url], transport: ScriptedTransport([]), files: MemoryFiles())
    await #expect(throws: Failure.self) { try await provider.credentials() }
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
      if number == 3 { throw Failure(.noMetadata, "away") }
      return Credentials(
        accessKeyID: "id\(number)", secretAccessKey: "s", expiration: now() + .seconds(3600), source: "test")
    }
  }

  @Test func `credentials are renewed before they expire, and after AWS says so`() async throws {
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

  @Test func `no credentials anywhere is an error with status 11`() async {
    let cache = CredentialCache(providers: [], now: { Timestamp(seconds: 0) })
    await #expect { try await cache.credentials() } throws: { ($0 as? Failure)?.status == .noCredentials }
  }
}
