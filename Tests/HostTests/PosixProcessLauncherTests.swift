import Foundation
import Glibc
import Testing

@testable import Base
@testable import Host

@Suite(.timeLimit(.minutes(5))) struct PosixProcessLauncherTests {
  let launcher = PosixProcessLauncher(environment: ["PATH": "/usr/bin:/bin", "ONE": "1"])

  @Test func `output and status come back, the environment is the given one`() async throws {
    let result = try await launcher.run(sh("echo out; echo err >&2; echo $ONE$TWO; exit 3"), timeout: .seconds(20))
    #expect(result.end == .exited(3))
    #expect(Set(result.output.split(separator: "\n")) == ["out", "err", "1"])
  }

  @Test func `a signal is not an exit status`() async throws {
    #expect(try await launcher.run(sh("kill -TERM $$"), timeout: .seconds(20)).end == .signalled(15))
    #expect(ProcessEnd.signalled(15).shellStatus == 143)
  }

  @Test func `a program that cannot be started reports why`() async {
    await #expect(throws: LaunchError(program: "/nowhere", stage: "exec", reason: "No such file or directory")) {
      try await launcher.run(Command("/nowhere", []), timeout: .seconds(20))
    }
    await #expect(throws: LaunchError(program: "/etc/passwd", stage: "exec", reason: "Permission denied")) {
      try await launcher.run(Command("/etc/passwd", []), timeout: .seconds(20))
    }
  }

  @Test func `the whole process group is killed at the time-out`() async throws {
    let result = try await launcher.run(sh("sleep 60 & sleep 60; echo late"), timeout: .milliseconds(200))
    #expect(result.end == .signalled(9))
    #expect(result.output == "\nkilled after 0.2 s")
  }

  @Test func `a cancelled run ends at once and kills its program`() async throws {
    try await withDirectory { directory in
      let task = Task { [launcher] in
        try await launcher.run(sh("echo $$ > \(directory)/pid; sleep 60"), timeout: .seconds(60))
      }
      var pid: Int32?
      #expect(
        await eventually {
          pid = (try? String(contentsOfFile: directory + "/pid", encoding: .utf8)).flatMap { Int32($0.dropLast()) }
          return pid != nil
        })
      task.cancel()
      await #expect(throws: CancellationError.self) { try await task.value }
      let child = try #require(pid)
      #expect(await eventually { !isRunning(child) })
    }
  }

  // A success looked like a kill, and only after the time-out: the end of the output was waited for.
  @Test(arguments: [true, false])
  func `a program that exits is not held up by a descendant that keeps its output`(_ hasPidfd: Bool) async throws {
    let launcher = PosixProcessLauncher(environment: [:], files: LocalFileStore(), hasPidfd: hasPidfd)
    let started = ContinuousClock.now
    let result = try await launcher.run(sh("/bin/sleep 600 & echo $!; exit 0"), timeout: atOnce * 2)
    let descendant = try #require(Int32(result.output.dropLast()))
    #expect(result.end == .exited(0))
    #expect(ContinuousClock.now - started < atOnce)
    // It lives on, as a daemon must.
    #expect(kill(descendant, SIGKILL) == 0)
  }

  @Test(arguments: [true, false])
  func `a descendant that never stops writing does not hold the exit up`(_ hasPidfd: Bool) async throws {
    let launcher = PosixProcessLauncher(environment: [:], files: LocalFileStore(), hasPidfd: hasPidfd)
    try await withDirectory { directory in
      let result = try await launcher.run(
        sh("/usr/bin/yes & echo $! > \(directory)/pid; exit 3"), timeout: .seconds(60))
      #expect(result.end == .exited(3))
      // The pipe is closed by now, which ends it.
      let descendant = try #require(Int32(try String(contentsOfFile: directory + "/pid", encoding: .utf8).dropLast()))
      #expect(await eventually { !isRunning(descendant) })
    }
  }

  // The number of an ended child may belong to any other process.
  @Test func `a signal after the exit reaches no descendant`() async throws {
    let child = try launcher.start(sh("sleep 600 & echo $!; exit 3"), as: nil, mayBindLowPorts: false, copy: nil)
    #expect(await child.end() == .exited(3))
    child.signal(SIGKILL)
    let descendant = try #require(child.lastLines().first.flatMap { Int32($0) })
    #expect(isRunning(descendant))
    #expect(kill(descendant, SIGKILL) == 0)
  }

  @Test(arguments: [true, false])
  func `all that a program wrote before it exited is there`(_ hasPidfd: Bool) async throws {
    let launcher = PosixProcessLauncher(environment: [:], files: LocalFileStore(), hasPidfd: hasPidfd)
    for _ in 0..<20 {
      // Less than a pipe holds, so that the program exits without waiting for its reader.
      let result = try await launcher.run(Command("/usr/bin/seq", ["1", "10000"]), timeout: .seconds(20))
      #expect(result.output == (1...10000).map { "\($0)\n" }.joined())
    }
  }

  @Test func `a child gets signals, has its own group, and its last lines are kept`() async throws {
    let script =
      "trap 'echo bye; exit 7' TERM; for i in $(seq 100); do echo line $i; done; echo ready; "
      + "while :; do sleep 0.05; done"
    let child = try launcher.start(sh(script), as: nil, mayBindLowPorts: false, copy: nil)
    #expect(await eventually { child.lastLines().contains("ready") })
    #expect(getpgid(child.pid) == child.pid)
    child.signal(15)
    #expect(await child.end() == .exited(7))
    #expect(child.lastLines().count == 40 && child.lastLines().contains("bye"))
    child.signal(9)
    #expect(await child.end() == .exited(7))
  }

  @Test func `the wait for a child can be cancelled`() async throws {
    let child = try launcher.start(sh("sleep 60"), as: nil, mayBindLowPorts: false, copy: nil)
    let task = Task { await child.end() }
    task.cancel()
    #expect(await task.value == nil)
    child.signal(9)
    #expect(await child.end() == .signalled(9))
  }

  // Without the groups, the agent could not read its own files.
  @Test func `unreadable groups are a launch error, not a child without groups`() {
    let launcher = PosixProcessLauncher(
      environment: [:], files: ScriptedFiles(files: ["/etc/group": .failure(.denied("/etc/group"))]), hasPidfd: true)
    let owner = FileOwner(user: getuid(), group: getgid(), userName: "consul", groupName: "consul")
    #expect(
      throws: LaunchError(
        program: "/bin/true", stage: "setgroups", reason: "read /etc/group: Permission denied")
    ) {
      try launcher.start(Command("/bin/true", []), as: owner, mayBindLowPorts: false, copy: nil)
    }
  }

  // The parent-death signal is not sent for a parent that ended before the child asked for it.
  @Test func `a child whose parent has ended before its exec gives up`() async throws {
    try await withDirectory { directory in
      let output = try createPipe()
      let spawner = Spawner(environment: [:], users: UserDatabase(), hasPidfd: true)
      let request = Spawner.Request(
        command: Command("/bin/touch", ["\(directory)/started"]), standardOutput: output.writer.number,
        standardError: output.writer.number, parent: getppid())
      #expect(
        throws: LaunchError(program: "/bin/touch", stage: "find the parent of", reason: "No such process")
      ) {
        try spawner.spawn(request)
      }
      #expect(try LocalFileStore().list(directory) == [])
    }
  }

  @Test func `commands are shown as typed in a shell`() {
    #expect(Command("/bin/x", ["-a=b", "two words", "it's", ""]).text == #"/bin/x -a=b 'two words' 'it'\''s' ''"#)
  }
}

@Suite(.timeLimit(.minutes(5))) struct FollowedChildTests {
  let launcher = PosixProcessLauncher(environment: [:])

  private func readAll(_ child: any FollowedProcess) async -> String? {
    var text = ""
    let hasEnded = await eventually {
      guard let bytes = child.read(4096) else { return true }
      text += String(decoding: bytes, as: UTF8.self)
      return false
    }
    return hasEnded ? text : nil
  }

  @Test func `a follower is read to its end`() async throws {
    let child = try launcher.follow(sh("echo one; echo two >&2; exit 1"))
    #expect(await readAll(child) == "one\ntwo\n")
  }

  // The source of a follower that had ended was never started again.
  @Test func `a follower ends for its reader though a descendant keeps its output`() async throws {
    let child = try launcher.follow(sh("/bin/sleep 600 & echo $!; exit 0"))
    let output = try #require(await readAll(child))
    let descendant = try #require(Int32(output.dropLast()))
    #expect(kill(descendant, SIGKILL) == 0)
  }

  @Test func `a follower that is stopped ends`() async throws {
    let child = try launcher.follow(sh("echo $$; exec /bin/sleep 600"))
    var pid = ""
    #expect(
      await eventually {
        pid += String(decoding: child.read(100) ?? [], as: UTF8.self)
        return pid.hasSuffix("\n")
      })
    let number = try #require(Int32(pid.dropLast()))
    child.stop()
    #expect(await readAll(child) == "")
    #expect(await eventually { !isRunning(number) })
  }

  @Test func `a follower that cannot be started reports why`() {
    #expect(throws: LaunchError(program: "/nowhere", stage: "exec", reason: "No such file or directory")) {
      try launcher.follow(Command("/nowhere", []))
    }
  }
}

/// Each body runs in a process of its own.
@Suite(.timeLimit(.minutes(5))) struct ChildResourceTests {
  @Test func `children leave no descriptor, no thread and no zombie behind`() async {
    await #expect(processExitsWith: .success) {
      let launcher = PosixProcessLauncher(environment: [:])
      // What the first child and the first task need stays open.
      _ = try await launcher.run(Command("/bin/true", []), timeout: .seconds(20))
      _ = try await eventually { try threads(named: "child") == 0 }
      let before = openDescriptors()
      for number in 0..<200 {
        switch number % 4 {
        case 0:
          let end = try await launcher.run(Command("/bin/true", []), timeout: .seconds(20)).end
          expect("end of \(number)", end, is: .exited(0))
        case 1:
          let child = try launcher.start(
            Command("/bin/true", []), as: nil, mayBindLowPorts: false, copy: DiscardingSink.shared)
          expect("end of \(number)", await child.end(), is: .exited(0))
        case 2: _ = try launcher.follow(Command("/bin/sleep", ["600"]))
        default:
          let error = LaunchError(program: "/nowhere", stage: "exec", reason: "No such file or directory")
          await expect("start of \(number)", throws: error) { _ = try launcher.follow(Command("/nowhere", [])) }
        }
      }
      _ = try await eventually { try threads(named: "child") == 0 }
      expect("threads", try threads(named: "child"), is: 0)
      _ = await eventually { openDescriptors() == before }
      expect("descriptors", openDescriptors(), is: before)
      expect("zombies", waitpid(-1, nil, WNOHANG), is: -1)
    }
  }

  // An agent that outlives its supervisor keeps the ports from the next one.
  @Test func `a child ends with the process that started it`() async throws {
    let result = await #expect(processExitsWith: .exitCode(7), observing: [\.standardOutputContent]) {
      let child = try PosixProcessLauncher(environment: [:]).start(
        Command("/bin/sleep", ["600"]), as: nil, mayBindLowPorts: false, copy: nil)
      #expect(isRunning(child.pid))
      _ = writeAll(Array("pid \(child.pid)\n".utf8)[...], to: 1)
      _exit(7)
    }
    let output = String(decoding: try #require(result).standardOutputContent, as: UTF8.self)
    let line = try #require(output.split(separator: "\n").first { $0.hasPrefix("pid ") })
    let pid = try #require(Int32(line.dropFirst(4)))
    #expect(await eventually { !isRunning(pid) })
  }
}

func sh(_ script: String) -> Command { Command("/bin/sh", ["-c", script]) }

/// Zombies do not run.
func isRunning(_ pid: Int32) -> Bool {
  guard let text = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8) else { return false }
  // The program's name is in parentheses, then comes the state (proc(5)).
  let state = text[(text.lastIndex(of: ")") ?? text.startIndex)...].dropFirst(2).first
  return state != "Z" && state != "X"
}

/// For children whose output is of no interest.
final class DiscardingSink: OutputSink {
  static let shared = DiscardingSink()
  func write(_ bytes: ArraySlice<UInt8>) {}
}
