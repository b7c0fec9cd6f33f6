import Base
import Execution
import Model
import TestSupport
import Testing

/// Regression: `consul validate` took a fourth of the time before the agent's start, while nothing else was done. A
/// configuration that Consul has not accepted must never be in place all the same.
@Suite(.timeLimit(.minutes(5))) struct EarlyValidationTests {
  private let test = TestContext()
  private let executor: StepExecutor
  private static let path = "/etc/consul.d/00-consul-bootstrap.json"
  private static let staged = "/var/lib/consul-bootstrap/staged.json"
  private static let program = "/usr/bin/consul"

  init() {
    test.files.makeDirectory("/etc/consul.d")
    test.files.makeDirectory("/var/lib/consul-bootstrap")
    executor = StepExecutor(context: test.context)
  }

  private func file(_ text: String, beside: [String] = []) -> ConfigurationFile {
    ConfigurationFile(
      path: Self.path, text: Secret(text), owner: nil,
      validation: Command(Self.program, ["validate", "-quiet", Self.staged] + beside), stagedPath: Self.staged)
  }

  private static let draft = #"{"bootstrap_expect": 1, "retry_join": [], "server": true}"#
  private static let final = #"{"bootstrap_expect": 5, "retry_join": ["10.0.1.9", "10.0.2.10"], "server": true}"#

  private func validations() -> Int { test.launcher.launches.count }

  @Test func `a draft that Consul accepts spares the file its validation`() async throws {
    test.launcher.run(Self.program, ["validate"])
    test.launcher.onRun(Self.program, ["validate"], times: 1) { [files = test.files] _, _ in
      #expect(files.text(Self.staged) == Self.draft && !files.exists(Self.path))
      return CommandResult(end: .exited(0), output: "")
    }
    executor.earlyValidation.start(file(Self.draft))
    #expect(try await executor.perform(.writeConfiguration(file(Self.final))) == .done)
    #expect(test.files.text(Self.path) == Self.final && validations() == 1 && !test.files.exists(Self.staged))
    // It counts once.
    #expect(try await executor.perform(.writeConfiguration(file(Self.draft))) == .done)
    #expect(validations() == 2)
  }

  @Test(arguments: [
    #"{"bootstrap_expect": 5, "retry_join": ["10.0.1.9"], "server": true, "no_such_key": 1}"#,
    #"{"bootstrap_expect": 5, "retry_join": ["10.0.1.9"]}"#,
    // A join.
    #"{"retry_join": ["10.0.1.9"], "server": true}"#,
    // Only addresses are known to be accepted, only numbers of servers.
    #"{"bootstrap_expect": 5, "retry_join": ["{{ GetPrivateIP }}"], "server": true}"#,
    #"{"bootstrap_expect": 5, "retry_join": ["10.0.1.9", 1], "server": true}"#,
    #"{"bootstrap_expect": 0, "retry_join": ["10.0.1.9"], "server": true}"#,
    #"{"bootstrap_expect": "5", "retry_join": ["10.0.1.9"], "server": true}"#,
    #"{"bootstrap_expect": 5, "retry_join": "10.0.1.9", "server": true}"#, "[]", "no JSON",
  ])
  func `another configuration than the draft is validated by itself`(_ text: String) async throws {
    test.launcher.onRun(Self.program, ["validate"]) { [files = test.files] _, _ in
      let isDraft = files.text(Self.staged) == Self.draft
      return CommandResult(end: .exited(isDraft ? 0 : 1), output: "invalid\n")
    }
    executor.earlyValidation.start(file(Self.draft))
    let failed = await failure { try await executor.perform(.writeConfiguration(file(text))) }
    #expect(failed?.status == .configurationRejected)
    #expect(!test.files.exists(Self.path) && !test.files.exists(Self.staged))
  }

  @Test func `beside other files than the draft's it is validated again`() async throws {
    test.launcher.run(Self.program, ["validate"])
    executor.earlyValidation.start(file(Self.draft))
    try await executor.perform(.writeConfiguration(file(Self.final, beside: ["/etc/consul.d/service.json"])))
    #expect(test.launcher.commands.last?.hasSuffix("staged.json /etc/consul.d/service.json") == true)
  }

  @Test func `a draft that Consul rejects proves nothing`() async throws {
    test.launcher.run(Self.program, ["validate"])
    test.launcher.run(Self.program, ["validate"], end: .exited(1), times: 1)
    executor.earlyValidation.start(file(Self.draft))
    #expect(try await executor.perform(.writeConfiguration(file(Self.final))) == .done)
    #expect(validations() == 2)
  }

  @Test func `a Consul that cannot be run for the draft is run again`() async throws {
    test.launcher.run(Self.program, ["validate"])
    test.launcher.fail(Self.program, ["validate"], times: 1)
    executor.earlyValidation.start(file(Self.draft))
    #expect(try await executor.perform(.writeConfiguration(file(Self.final))) == .done)
    #expect(validations() == 2)
  }

  /// While a run waits for its group, other programs may still write files of the directory.
  @Test func `after a wait for the group the file is validated again`() async throws {
    test.launcher.run(Self.program, ["validate"])
    executor.earlyValidation.start(file(Self.draft))
    try await test.clock.sleep(for: .seconds(2))
    #expect(try await executor.perform(.writeConfiguration(file(Self.final))) == .done)
    #expect(validations() == 2)
  }

  @Test func `a run that ends early leaves no staged secret and no validation`() async throws {
    let gate = Gate()
    test.launcher.onRun(Self.program, ["validate"]) { _, _ in
      try await gate.pass()
      return CommandResult(end: .exited(0), output: "")
    }
    executor.earlyValidation.start(file(Self.draft))
    try await gate.arrivals()
    #expect(test.files.exists(Self.staged))
    await executor.earlyValidation.end()
    #expect(!test.files.exists(Self.staged) && test.files.changes.contains(.removeFile(Self.staged)))
  }

  private func failure(_ body: () async throws -> Void) async -> Failure? {
    do {
      try await body()
      return nil
    } catch {
      return error as? Failure
    }
  }
}
