import Foundation
import Testing

@testable import Base
@testable import Host

/// A directory of its own for each test.
private func withDirectory(_ body: (String) async throws -> Void) async throws {
  let path = NSTemporaryDirectory() + "consul-bootstrap-\(UUID())"
  try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: path) }
  try await body(path)
}

@Suite struct LocalFileStoreTests {
  let files = LocalFileStore()

  @Test func `a file is written whole, with its mode, and leaves nothing beside it`() async throws {
    try await withDirectory { directory in
      let path = directory + "/a.json"
      try files.write(path, Array("one".utf8), mode: 0o640, owner: nil)
      // What a killed run left is no obstacle.
      _ = FileManager.default.createFile(atPath: directory + "/.a.json.tmp", contents: Data("half".utf8))
      try files.write(path, Array("two".utf8), mode: 0o600, owner: nil)
      #expect(String(decoding: try files.read(path, limit: 10), as: UTF8.self) == "two")
      #expect(try files.status(path)?.mode == 0o600)
      #expect(try files.list(directory) == ["a.json"])
    }
  }

  @Test func `a write that fails names path and reason and keeps the old file`() async throws {
    try await withDirectory { directory in
      #expect { try files.write(directory + "/no/a", [], mode: 0o600, owner: nil) } throws: {
        ($0 as? FileError)?.reason == "No such file or directory"
      }
      try files.createDirectory(directory + "/d/e", mode: 0o750, owner: nil)
      try files.createDirectory(directory + "/d/e", mode: 0o700, owner: nil)
      #expect(try files.status(directory + "/d/e")?.mode == 0o750)
      #expect(throws: FileError.self) { try files.write(directory + "/d", Array("x".utf8), mode: 0o600, owner: nil) }
      #expect(try files.list(directory) == ["d"])
    }
  }

  @Test func `reads are bounded, absence is no error where it is expected`() async throws {
    try await withDirectory { directory in
      try files.write(directory + "/a", [UInt8](repeating: 0, count: 100), mode: 0o600, owner: nil)
      #expect(throws: FileError.self) { try files.read(directory + "/a", limit: 99) }
      #expect(try files.readIfPresent(directory + "/b") == nil)
      #expect(try files.readIfPresent(directory + "/a/b") == nil)
      #expect(try files.status(directory + "/b") == nil)
    }
  }
}

@Suite(.timeLimit(.minutes(1))) struct PosixProcessLauncherTests {
  let launcher = PosixProcessLauncher(environment: ["PATH": "/usr/bin:/bin", "ONE": "1"])

  private func sh(_ script: String) -> Command { Command("/bin/sh", ["-c", script]) }

  @Test func `output and status come back, the environment is what was given`() async throws {
    let result = try await launcher.run(sh("echo out; echo err >&2; echo $ONE$TWO; exit 3"), timeout: .seconds(5))
    #expect(result.end == .exited(3))
    #expect(Set(result.output.split(separator: "\n")) == ["out", "err", "1"])
  }

  @Test func `a signal is told from a status`() async throws {
    #expect(try await launcher.run(sh("kill -TERM $$"), timeout: .seconds(5)).end == .signalled(15))
    #expect(ProcessEnd.signalled(15).shellStatus == 143)
  }

  @Test func `a program that cannot be started says why`() async {
    await #expect(throws: LaunchError(program: "/nowhere", stage: "exec", reason: "No such file or directory")) {
      try await launcher.run(Command("/nowhere", []), timeout: .seconds(5))
    }
    await #expect(throws: LaunchError.self) { try await launcher.run(Command("/etc/passwd", []), timeout: .seconds(5)) }
  }

  @Test func `time is up for the whole process group`() async throws {
    let result = try await launcher.run(sh("sleep 60 & sleep 60; echo late"), timeout: .milliseconds(200))
    #expect(result.end == .signalled(9))
    #expect(!result.output.contains("late"))
  }

  @Test func `a child gets signals, has its own group, and its last lines are kept`() async throws {
    let child = try launcher.start(
      sh(
        "trap 'echo bye; exit 7' TERM; for i in $(seq 100); do echo line $i; done; echo ready; while :; do sleep 0.05; done"
      ), as: nil,
      mayBindLowPorts: false, copy: nil)
    while !child.lastLines().contains("ready") { try await Task.sleep(for: .milliseconds(10)) }
    #expect(getpgid(child.pid) == child.pid)
    child.signal(15)
    #expect(await child.end() == .exited(7))
    #expect(child.lastLines().count == 40 && child.lastLines().contains("bye"))
    child.signal(9)  // its number may be somebody else's by now: nothing happens
    #expect(await child.end() == .exited(7))
  }

  @Test func `waiting for a child can be given up`() async throws {
    let child = try launcher.start(sh("sleep 60"), as: nil, mayBindLowPorts: false, copy: nil)
    let task = Task { await child.end() }
    task.cancel()
    #expect(await task.value == nil)
    child.signal(9)
    #expect(await child.end() == .signalled(9))
  }

  @Test func `commands are shown as one would type them`() {
    #expect(Command("/bin/x", ["-a=b", "two words", "it's", ""]).text == #"/bin/x -a=b 'two words' 'it'\''s' ''"#)
  }
}

@Suite struct FileLocksTests {
  @Test func `a second lock is refused while the first one lives, and names its holder`() async throws {
    try await withDirectory { directory in
      let locks = FileLocks()
      do {
        let lock = try locks.lock(directory: directory, name: "lock")
        #expect(throws: LockError.held(path: "\(directory)/lock", holder: "\(getpid())")) {
          _ = try locks.lock(directory: directory, name: "lock")
        }
        _ = try locks.lock(directory: directory, name: "another")
        withExtendedLifetime(lock) {}
      }
      _ = try locks.lock(directory: directory, name: "lock")
    }
  }

  @Test func `a directory that cannot be created is told apart from a lock that is held`() throws {
    #expect {
      _ = try FileLocks().lock(directory: "/dev/null/x", name: "lock")
    } throws: { error in
      guard case .unavailable(let cause)? = error as? LockError else { return false }
      return cause.path.hasPrefix("/dev/null")
    }
  }
}
