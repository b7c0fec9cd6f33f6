import Base
import Execution
import Model
import TestSupport
import Testing

/// Steps that write files: done, already done, failing half-way.
@Suite(.timeLimit(.minutes(5))) struct FileStepTests {
  private let test = TestContext()
  private var files: FakeFiles { test.files }

  init() {
    for path in ["/etc/consul.d", "/opt", "/var/lib/consul-bootstrap", "/etc/systemd/system"] {
      files.makeDirectory(path)
    }
  }

  private func cannot(_ purpose: String, _ details: String, hint: String? = nil) -> Failure {
    Failure(.configurationRejected, "cannot \(purpose)", details: [details], hint: hint)
  }

  // MARK: Directories

  private let directory = Step.createDirectory("/opt/consul", mode: 0o750, owner: .consul)

  @Test func `a directory is created once`() async throws {
    #expect(try await test.perform(directory) == .done)
    #expect(files.changes == [.createDirectory("/opt/consul", mode: 0o750, owner: "consul")])
    #expect(try await test.perform(directory) == .alreadyDone)
    #expect(files.changes.count == 1)
    #expect(
      test.sink.lines == [
        "info create directory /opt/consul (mode 750, owner consul)",
        "debug already done: create directory /opt/consul (mode 750, owner consul)",
      ])
  }

  /// Data that root wrote once would stop an agent that runs as its own user.
  @Test func `a directory of another owner is given to the agent's user, with everything in it`() async throws {
    files.put("/opt/consul/raft/raft.db", "data")
    #expect(try await test.perform(directory) == .done)
    #expect(files.changes == [.changeOwner("/opt/consul", "consul")])
    #expect(try files.status("/opt/consul/raft/raft.db")?.user == 100)
    #expect(try await test.perform(directory) == .alreadyDone)
  }

  @Test func `a directory without an owner of its own stays as it is`() async throws {
    files.makeDirectory("/opt/consul", mode: 0o700, user: 7)
    #expect(try await test.perform(.createDirectory("/opt/consul", mode: 0o755, owner: nil)) == .alreadyDone)
    #expect(files.changes.isEmpty)
  }

  @Test(arguments: [
    (Int32(28), "No space left on device", "free space on the file system of /opt/consul"),
    (122, "Disk quota exceeded", "free space on the file system of /opt/consul"),
    (30, "Read-only file system", "remount the file system of /opt/consul read-write, or choose another directory"),
    (13, "Permission denied", nil), (5, "Input/output error", nil),
  ])
  func `a directory that cannot be created is named with the cause`(_ errno: Int32, _ reason: String, _ hint: String?)
    async throws
  {
    files.fail(.createDirectory, "/opt/consul", errno: errno, times: 1)
    #expect(
      try await test.failure(of: directory)
        == cannot(
          "create directory /opt/consul (mode 750, owner consul)", "create directory /opt/consul: \(reason)",
          hint: hint))
    #expect(try await test.perform(directory) == .done)
  }

  @Test(arguments: [Int32(1), 13])
  func `a user without permission gets the hint to run as root`(_ errno: Int32) async throws {
    test.system.setRoot(false)
    files.fail(.createDirectory, "/opt/consul", errno: errno)
    #expect(try await test.failure(of: directory)?.hint == "run as root")
  }

  @Test func `a file in the way of a directory is named`() async throws {
    files.put("/opt/consul", "")
    #expect(
      try await test.failure(of: directory)
        == cannot(
          "create directory /opt/consul (mode 750, owner consul)",
          "create directory /opt/consul: a file is in the way"))
  }

  // MARK: Renames and removals

  @Test func `what is in the way is renamed, once`() async throws {
    files.put("/opt/consul/node-id", "another")
    let step = Step.rename("/opt/consul", to: "/opt/consul.20260101T000000Z", reason: "another instance's")
    #expect(try await test.perform(step) == .done)
    #expect(files.changes == [.rename("/opt/consul", to: "/opt/consul.20260101T000000Z")])
    #expect(files.text("/opt/consul.20260101T000000Z/node-id") == "another")
    #expect(try await test.perform(step) == .alreadyDone)
  }

  @Test func `a rename that fails changes nothing`() async throws {
    files.put("/opt/consul/node-id", "another")
    files.fail(.rename, "/opt/consul", errno: 30)
    let step = Step.rename("/opt/consul", to: "/opt/consul.old", reason: "another instance's")
    #expect(
      try await test.failure(of: step)
        == cannot(
          "rename /opt/consul to /opt/consul.old (another instance's)", "rename /opt/consul: Read-only file system",
          hint: "remount the file system of /opt/consul read-write, or choose another directory"))
    #expect(files.text("/opt/consul/node-id") == "another")
  }

  @Test func `a file is removed, once`() async throws {
    files.put("/etc/consul.d/old.json", "{}")
    #expect(try await test.perform(.removeFile("/etc/consul.d/old.json")) == .done)
    #expect(files.changes == [.removeFile("/etc/consul.d/old.json")])
    #expect(try await test.perform(.removeFile("/etc/consul.d/old.json")) == .alreadyDone)
  }

  /// An uninstall would otherwise leave it behind.
  @Test func `a link whose target is gone is removed, too`() async throws {
    files.link("/etc/consul.d/old.json", to: "/nowhere")
    #expect(try await test.perform(.removeFile("/etc/consul.d/old.json")) == .done)
    #expect(!files.exists("/etc/consul.d/old.json"))
  }

  @Test func `a file that cannot be removed is named`() async throws {
    files.put("/etc/consul.d/old.json", "{}")
    files.fail(.removeFile, nil, errno: 13)
    #expect(
      try await test.failure(of: .removeFile("/etc/consul.d/old.json"))
        == cannot("remove /etc/consul.d/old.json", "remove /etc/consul.d/old.json: Permission denied"))
  }

  // MARK: Plain files

  @Test func `a record, a document and a secret are written with their modes, and only when they differ`() async throws
  {
    let steps: [(step: Step, change: FakeFiles.Change)] = [
      (
        .recordInstance(path: "/var/lib/consul-bootstrap/instance.json", text: "{}"),
        .write("/var/lib/consul-bootstrap/instance.json", mode: 0o644, owner: nil)
      ),
      (.writeFile(path: "/opt/a.txt", text: "text"), .write("/opt/a.txt", mode: 0o644, owner: nil)),
      (
        .writeSecretFile(path: "/etc/consul.d/key.pem", Secret("PEM"), owner: .consul),
        .write("/etc/consul.d/key.pem", mode: 0o640, owner: "consul")
      ),
    ]
    for (step, change) in steps {
      #expect(try await test.perform(step) == .done)
      #expect(files.changes.last == change)
      #expect(try await test.perform(step) == .alreadyDone)
      #expect(files.changes.last == change)
    }
    #expect(files.changes.count == 3)
    #expect(files.text("/etc/consul.d/key.pem") == "PEM")
    #expect(!test.sink.lines.joined().contains("PEM"))
  }

  /// Wrong rights would expose a secret, or hide it from the agent.
  @Test func `a secret with the right text but wrong rights is written again`() async throws {
    let step = Step.writeSecretFile(path: "/etc/consul.d/key.pem", Secret("PEM"), owner: .consul)
    for (mode, user, group) in [(UInt32(0o644), UInt32(100), UInt32(101)), (0o640, 0, 101), (0o640, 100, 0)] {
      files.put("/etc/consul.d/key.pem", "PEM", mode: mode, user: user, group: group)
      #expect(try await test.perform(step) == .done)
      let status = try #require(try files.status("/etc/consul.d/key.pem"))
      #expect(status.mode == 0o640 && status.user == 100 && status.group == 101)
    }
  }

  @Test func `a document gets its directory`() async throws {
    let step = Step.writeFile(path: "/usr/share/man/man8/consul-bootstrap.8", text: ".TH")
    #expect(try await test.perform(step) == .done)
    #expect(files.text("/usr/share/man/man8/consul-bootstrap.8") == ".TH")
    #expect(try await test.perform(step) == .alreadyDone)
  }

  @Test func `a full disk is named with the file`() async throws {
    files.fail(.write, nil, errno: 28, times: 1)
    let step = Step.recordInstance(path: "/var/lib/consul-bootstrap/instance.json", text: "{}")
    #expect(
      try await test.failure(of: step)
        == cannot(
          "record the instance ID in /var/lib/consul-bootstrap/instance.json",
          "write /var/lib/consul-bootstrap/instance.json: No space left on device",
          hint: "free space on the file system of /var/lib/consul-bootstrap/instance.json"))
    #expect(try await test.perform(step) == .done)
  }

  @Test func `the program is copied with its mode, once`() async throws {
    files.put("/tmp/download", "program")
    let step = Step.copyProgram(from: "/tmp/download", to: "/usr/local/bin/consul-bootstrap")
    #expect(try await test.perform(step) == .done)
    #expect(files.text("/usr/local/bin/consul-bootstrap") == "program")
    #expect(files.changes.last == .write("/usr/local/bin/consul-bootstrap", mode: 0o755, owner: nil))
    #expect(try await test.perform(step) == .alreadyDone)
    files.put("/usr/local/bin/consul-bootstrap", "program", mode: 0o644)
    #expect(try await test.perform(step) == .done)
    files.put("/usr/local/bin/consul-bootstrap", "older", mode: 0o755)
    #expect(try await test.perform(step) == .done)
  }

  @Test func `a program that cannot be read is named`() async throws {
    let step = Step.copyProgram(from: "/tmp/download", to: "/usr/local/bin/consul-bootstrap")
    #expect(
      try await test.failure(of: step)
        == cannot(
          "copy /tmp/download to /usr/local/bin/consul-bootstrap", "read /tmp/download: No such file or directory"))
    #expect(files.changes.isEmpty)
  }

  // MARK: Units

  private let unitText = "\(SystemdUnit.header)\n[Unit]\n"
  private var unit: Step { .writeUnit(path: SystemdUnit.path, text: unitText) }

  @Test func `a unit is written, and only when it differs`() async throws {
    #expect(try await test.perform(unit) == .done)
    #expect(try await test.perform(unit) == .alreadyDone)
    files.put(SystemdUnit.path, "\(SystemdUnit.header)\n[Unit]\nDescription=older\n")
    #expect(try await test.perform(unit) == .done)
    #expect(files.changes == Array(repeating: .write(SystemdUnit.path, mode: 0o644, owner: nil), count: 2))
  }

  @Test func `a unit of another program is renamed, not overwritten`() async throws {
    files.put(SystemdUnit.path, "[Unit]\nDescription=distribution's\n")
    let aside = "\(SystemdUnit.path).20260101T000000Z"
    #expect(try await test.perform(unit) == .done)
    #expect(
      files.changes == [
        .rename(SystemdUnit.path, to: aside), .write(SystemdUnit.path, mode: 0o644, owner: nil),
      ])
    #expect(files.text(aside) == "[Unit]\nDescription=distribution's\n")
    #expect(
      test.sink.lines.first
        == #"warning another program wrote /etc/systemd/system/consul.service; renaming it to="\#(aside)""#)
  }

  @Test func `a unit that cannot be written leaves a second run to write it`() async throws {
    files.put(SystemdUnit.path, "[Unit]\n")
    files.fail(.write, SystemdUnit.path, errno: 28, times: 1)
    #expect(
      try await test.failure(of: unit)
        == cannot(
          "write /etc/systemd/system/consul.service",
          "write /etc/systemd/system/consul.service: No space left on device",
          hint: "free space on the file system of /etc/systemd/system/consul.service"))
    #expect(try await test.perform(unit) == .done)
    #expect(files.text(SystemdUnit.path) == unitText)
  }

  // MARK: The host name

  @Test func `the host name is set on disk and in the kernel, once`() async throws {
    files.put("/etc/hostname", "ip-10-0-1-10\n")
    #expect(try await test.perform(.setHostName("consul-0aaa")) == .done)
    #expect(files.text("/etc/hostname") == "consul-0aaa\n" && test.system.hostName == "consul-0aaa")
    #expect(try await test.perform(.setHostName("consul-0aaa")) == .alreadyDone)
  }

  @Test func `a host name that only one of the two has is set in the other`() async throws {
    files.put("/etc/hostname", "ip-10-0-1-10\n")
    #expect(try await test.perform(.setHostName("ip-10-0-1-10")) == .alreadyDone)
    files.put("/etc/hostname", "baked\n")
    #expect(try await test.perform(.setHostName("ip-10-0-1-10")) == .done)
    #expect(files.text("/etc/hostname") == "ip-10-0-1-10\n")
  }

  @Test func `a host name that the kernel refuses is named, and a second run sets it`() async throws {
    files.put("/etc/hostname", "baked\n")
    test.system.failHostName(errno: 1)
    #expect(
      try await test.failure(of: .setHostName("consul-0aaa"))
        == cannot("set the host name to consul-0aaa", "set the host name to consul-0aaa: Operation not permitted"))
    #expect(files.text("/etc/hostname") == "consul-0aaa\n" && test.system.hostName == "ip-10-0-1-10")
  }
}
