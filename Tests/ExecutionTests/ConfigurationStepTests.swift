import Base
import Execution
import Model
import TestSupport
import Testing

/// The agent's configuration: staged, validated, and only then in place.
@Suite(.timeLimit(.minutes(5))) struct ConfigurationStepTests {
  private let test = TestContext()
  private var files: FakeFiles { test.files }
  private static let path = "/etc/consul.d/00-consul-bootstrap.json"
  private static let staged = "/var/lib/consul-bootstrap/staged.json"
  private static let validation = Command(
    "/usr/bin/consul", ["validate", "-quiet", staged, "/etc/consul.d/service.json"])
  private let step = Step.writeConfiguration(
    ConfigurationFile(
      path: path, text: Secret(#"{"encrypt": "gossip-key"}"#), owner: .consul, validation: validation,
      stagedPath: staged))
  private static let purpose = "cannot write \(path) (mode 640, owner consul) once Consul has validated it"

  init() {
    files.makeDirectory("/etc/consul.d")
    files.makeDirectory("/var/lib/consul-bootstrap")
  }

  @Test func `the file is validated beside the others before it is in place`() async throws {
    test.launcher.onRun("/usr/bin/consul", ["validate"]) { [files] _, _ in
      #expect(files.text(Self.staged) == #"{"encrypt": "gossip-key"}"# && !files.exists(Self.path))
      return CommandResult(end: .exited(0), output: "")
    }
    #expect(try await test.perform(step) == .done)
    #expect(test.launcher.launches == [.init(kind: .run, command: Self.validation, timeout: .seconds(30))])
    #expect(
      files.changes == [
        .write(Self.staged, mode: 0o600, owner: nil), .removeFile(Self.staged),
        .write(Self.path, mode: 0o640, owner: "consul"),
      ])
    #expect(files.text(Self.path) == #"{"encrypt": "gossip-key"}"#)
    #expect(!test.sink.lines.joined().contains("gossip-key"))
  }

  @Test func `the same text is neither validated nor written again`() async throws {
    files.put(Self.path, #"{"encrypt": "gossip-key"}"#, mode: 0o640, user: 100, group: 101)
    #expect(try await test.perform(step) == .alreadyDone)
    #expect(files.changes.isEmpty && test.launcher.launches.isEmpty)
  }

  @Test func `the same text with wrong rights is written again without validation`() async throws {
    files.put(Self.path, #"{"encrypt": "gossip-key"}"#, mode: 0o644)
    #expect(try await test.perform(step) == .done)
    #expect(files.changes == [.write(Self.path, mode: 0o640, owner: "consul")])
  }

  @Test func `what Consul rejects changes nothing and leaves no staged secret`() async throws {
    files.put(Self.path, "{}", mode: 0o640, user: 100, group: 101)
    test.launcher.run(
      "/usr/bin/consul", end: .exited(1),
      output: (1...9).map { "line \($0)\n" }.joined() + "\n2 errors occurred:\n  * invalid config key no_such_key\n")
    #expect(
      try await test.failure(of: step)
        == Failure(
          .configurationRejected, "Consul rejects the configuration",
          details: [
            "`/usr/bin/consul validate -quiet /var/lib/consul-bootstrap/staged.json /etc/consul.d/service.json`: "
              + "exit status 1", "line 2", "line 3", "line 4", "line 5", "line 6", "line 7", "line 8", "line 9",
            "2 errors occurred:", "  * invalid config key no_such_key",
          ], hint: "check --set, --merge and the other files in /etc/consul.d; nothing was changed"))
    #expect(files.text(Self.path) == "{}" && !files.exists(Self.staged))
  }

  @Test func `a validation that hangs is a rejection after 30 seconds`() async throws {
    test.launcher.run("/usr/bin/consul", after: .seconds(600))
    let failure = try #require(try await test.failure(of: step))
    #expect(failure.status == .configurationRejected && failure.details.last == "killed after 30 s")
    #expect(test.clock.uptime() == .seconds(30) && !files.exists(Self.staged))
  }

  @Test func `a Consul that cannot be run changes nothing`() async throws {
    test.launcher.fail("/usr/bin/consul")
    #expect(
      try await test.failure(of: step)
        == Failure(
          .agentNotStarted, Self.purpose, details: ["execute /usr/bin/consul: No such file or directory"],
          hint: "check that /usr/bin/consul is a program for this machine, and its permissions"))
    #expect(!files.exists(Self.path) && !files.exists(Self.staged))
  }

  @Test func `a disk that fills between validation and write leaves no staged secret`() async throws {
    test.launcher.run("/usr/bin/consul")
    files.fail(.write, Self.path, errno: 28, times: 1)
    #expect(
      try await test.failure(of: step)
        == Failure(
          .configurationRejected, Self.purpose, details: ["write \(Self.path): No space left on device"],
          hint: "free space on the file system of \(Self.path)"))
    #expect(!files.exists(Self.staged))
    #expect(try await test.perform(step) == .done)
  }

  @Test func `an unreadable file is not overwritten`() async throws {
    files.put(Self.path, "{}")
    files.fail(.read, Self.path, errno: 5)
    #expect(
      try await test.failure(of: step)
        == Failure(.configurationRejected, Self.purpose, details: ["read \(Self.path): Input/output error"]))
    #expect(files.changes.isEmpty)
  }

  /// A run that is killed during validation leaves a file with the gossip key.
  @Test func `a staged file that a killed run left behind is removed by the next`() async throws {
    files.put(Self.path, #"{"encrypt": "gossip-key"}"#, mode: 0o640, user: 100, group: 101)
    files.put(Self.staged, #"{"encrypt": "gossip-key"}"#, mode: 0o600)
    #expect(try await test.perform(step) == .alreadyDone)
    #expect(!files.exists(Self.staged))
  }

  @Test func `a staged file that cannot be removed is reported`() async throws {
    test.launcher.run("/usr/bin/consul")
    files.fail(.removeFile, Self.staged, errno: 30)
    #expect(try await test.perform(step) == .done)
    #expect(
      test.sink.records(.warning).map(\.description) == [
        #"warning cannot remove the staged configuration, which may hold secrets "#
          + #"reason="remove /var/lib/consul-bootstrap/staged.json: Read-only file system""#
      ])
  }

  @Test func `a cancelled validation changes nothing and leaves no staged secret`() async throws {
    test.launcher.run("/usr/bin/consul", after: .seconds(20))
    let task = Task { try await test.perform(step) }
    try await test.launcher.launch("/usr/bin/consul validate")
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(!files.exists(Self.path) && !files.exists(Self.staged))
  }
}
