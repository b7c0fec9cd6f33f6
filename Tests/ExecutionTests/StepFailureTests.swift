import Base
import Execution
import Model
import TestSupport
import Testing

/// Every step that changes the machine, failing at its first effect: the failure names the step, the cause and what to
/// do, nothing is lost, and a second run does what the first could not.
@Suite(.timeLimit(.minutes(5))) struct StepFailureTests {
  private let test = TestContext()

  private static let configuration = ConfigurationFile(
    path: "/etc/consul.json", text: Secret("{}"), owner: nil, validation: Command("/usr/bin/consul", ["validate"]),
    stagedPath: "/var/lib/staged.json")
  private static let container = DockerContainer(
    name: "consul", image: "consul:1.20", docker: "/usr/bin/docker", run: Command("/usr/bin/docker", ["run"]),
    fingerprint: "run")
  private static let sidecar = SidecarUnit(
    text: "\(SystemdUnit.header)\n", optionsPath: "/var/lib/o.json", options: "{}")
  private static let logAgent = LogAgentConfiguration(
    agent: .init(name: "awslogs", path: "/etc/awslogs.conf", units: ["awslogs.service"], command: nil), files: [],
    text: "[consul]\n")

  init() {
    for path in ["/etc/systemd/system", "/usr/local/bin", "/var/lib"] { test.files.makeDirectory(path) }
    test.files.put("/var/old", "data")
    test.files.put("/tmp/program", "program")
    for program in ["/bin/systemctl", "/usr/bin/consul"] { test.launcher.run(program) }
    test.launcher.run("/usr/bin/docker")
    test.launcher.run("/usr/bin/docker", ["container", "inspect"], end: .exited(1))
  }

  struct FileCase: Sendable, CustomTestStringConvertible {
    let step: Step
    let operation: FakeFiles.Operation
    let path: String
    let purpose: String

    init(_ step: Step, _ operation: FakeFiles.Operation, _ path: String, _ purpose: String) {
      (self.step, self.operation, self.path, self.purpose) = (step, operation, path, purpose)
    }

    var testDescription: String { purpose }
  }

  private static let fileCases: [FileCase] = [
    .init(
      .rename("/var/old", to: "/var/new", reason: "another's"), .rename, "/var/old",
      "rename /var/old to /var/new (another's)"),
    .init(
      .createDirectory("/opt", mode: 0o755, owner: nil), .createDirectory, "/opt", "create directory /opt (mode 755)"),
    .init(
      .recordInstance(path: "/var/lib/i.json", text: "{}"), .write, "/var/lib/i.json",
      "record the instance ID in /var/lib/i.json"),
    .init(.setHostName("consul-0aaa"), .write, "/etc/hostname", "set the host name to consul-0aaa"),
    .init(
      .writeConfiguration(configuration), .write, "/var/lib/staged.json",
      "write /etc/consul.json (mode 640) once Consul has validated it"),
    .init(
      .writeConfiguration(configuration), .write, "/etc/consul.json",
      "write /etc/consul.json (mode 640) once Consul has validated it"),
    .init(
      .writeSecretFile(path: "/etc/key.pem", Secret("PEM"), owner: nil), .write, "/etc/key.pem",
      "write /etc/key.pem (mode 640)"),
    .init(
      .writeUnit(path: SystemdUnit.path, text: SystemdUnit.header), .write, SystemdUnit.path,
      "write /etc/systemd/system/consul.service"),
    .init(.writeFile(path: "/etc/a", text: "a"), .write, "/etc/a", "write /etc/a"),
    .init(
      .copyProgram(from: "/tmp/program", to: "/usr/local/bin/p"), .write, "/usr/local/bin/p",
      "copy /tmp/program to /usr/local/bin/p"),
    .init(.removeFile("/var/old"), .removeFile, "/var/old", "remove /var/old"),
    .init(
      .runSidecar(sidecar), .write, "/var/lib/o.json",
      "write /var/lib/o.json and /etc/systemd/system/consul-bootstrap.service, and start consul-bootstrap.service"),
    .init(
      .runSidecar(sidecar), .write, SidecarUnit.path,
      "write /var/lib/o.json and /etc/systemd/system/consul-bootstrap.service, and start consul-bootstrap.service"),
    .init(
      .setUpLogAgent(logAgent), .write, "/etc/awslogs.conf",
      "write /etc/awslogs.conf and let awslogs forward the logs"),
  ]

  @Test(arguments: fileCases, [Int32(13), 28, 30])
  private func `a file that cannot be changed fails its step, which a second run completes`(
    _ file: FileCase, _ errno: Int32
  ) async throws {
    let (reason, hint): (String, String?) =
      switch errno {
      case 28: ("No space left on device", "free space on the file system of \(file.path)")
      case 30:
        (
          "Read-only file system",
          "remount the file system of \(file.path) read-write, or choose another directory"
        )
      default: ("Permission denied", "run as root")
      }
    test.system.setRoot(false)
    test.files.fail(file.operation, file.path, errno: errno, times: 1)
    #expect(
      try await test.failure(of: file.step)
        == Failure(
          .configurationRejected, "cannot \(file.purpose)",
          details: ["\(file.operation.rawValue) \(file.path): \(reason)"], hint: hint))
    #expect(try await test.perform(file.step) == .done)
  }

  struct CommandCase: Sendable, CustomTestStringConvertible {
    let step: Step
    let program: String
    let purpose: String

    init(_ step: Step, _ program: String, _ purpose: String) {
      (self.step, self.program, self.purpose) = (step, program, purpose)
    }

    var testDescription: String { purpose }
  }

  private static let systemctlStop = Command("/bin/systemctl", ["stop", "consul.service"])
  private static let commandCases: [CommandCase] = [
    .init(.stopAgent(systemctlStop), "/bin/systemctl", "stop the agent, whose data is renamed"),
    .init(.run(systemctlStop), "/bin/systemctl", "run `/bin/systemctl stop consul.service`"),
    .init(.reloadAgent(.command(systemctlStop), restartKeys: []), "/bin/systemctl", "reload the running agent"),
    .init(
      .writeConfiguration(configuration), "/usr/bin/consul",
      "write /etc/consul.json (mode 640) once Consul has validated it"),
    .init(.runContainer(container), "/usr/bin/docker", "run container consul from consul:1.20"),
    .init(
      .runSidecar(sidecar), "/bin/systemctl",
      "write /var/lib/o.json and /etc/systemd/system/consul-bootstrap.service, and start consul-bootstrap.service"),
    .init(
      .setUpLogAgent(logAgent), "/bin/systemctl", "write /etc/awslogs.conf and let awslogs forward the logs"),
  ]

  @Test(arguments: commandCases)
  private func `a program that cannot be run fails its step with the cause`(_ command: CommandCase) async throws {
    test.launcher.fail(command.program, reason: "Text file busy", times: 1)
    #expect(
      try await test.failure(of: command.step)
        == Failure(
          .agentNotStarted, "cannot \(command.purpose)", details: ["execute \(command.program): Text file busy"],
          hint: "check that \(command.program) is a program for this machine, and its permissions"))
    // The sidecar's files are in place by then; the commands of the second run start it all the same.
    var expected = StepExecutor.Outcome.done
    if case .runSidecar = command.step { expected = .alreadyDone }
    #expect(try await test.perform(command.step) == expected)
  }
}
