import Glibc
import Synchronization
import Testing

@testable import Base
@testable import Host

/// What only root can do; another user gets the error that the kernel has for it.
@Suite(.timeLimit(.minutes(5))) struct OwnerTests {
  private let files = LocalFileStore()
  private let isRoot = geteuid() == 0
  /// Numbers that no user and no group has.
  private let other = FileOwner(user: 65_432, group: 65_433, userName: "other", groupName: "others")

  private func owner(_ path: String) -> [UInt32] {
    var info = stat()
    return lstat(path, &info) == 0 ? [info.st_uid, info.st_gid] : []
  }

  /// Without root a process may not give files away: EPERM.
  private func asRoot(_ operation: String, _ path: String, _ body: () throws -> Void) throws -> Bool {
    if isRoot { try body() } else { #expect(throws: FileError(operation, path, number: EPERM), performing: body) }
    return isRoot
  }

  @Test func `a written file and a created directory belong to the owner`() async throws {
    try await withDirectory { directory in
      let file = directory + "/a", created = directory + "/d"
      if try asRoot("change the owner of", file, { try files.write(file, [1], mode: 0o640, owner: other) }) {
        #expect(owner(file) == [65_432, 65_433])
      }
      if try asRoot(
        "change the owner of", created, { try files.createDirectory(created, mode: 0o750, owner: other) })
      {
        #expect(owner(created) == [65_432, 65_433])
      }
    }
  }

  /// Guards against the owner of a file elsewhere changed through a link that another user has put there.
  @Test func `a change of owner follows no link`() async throws {
    try await withDirectory { directory in
      let tree = directory + "/tree", outside = directory + "/outside"
      try files.write(outside, [1], mode: 0o600, owner: nil)
      try files.createDirectory(tree, mode: 0o700, owner: nil)
      try files.write(tree + "/a", [1], mode: 0o600, owner: nil)
      try #require(symlink(outside, tree + "/link") == 0)
      if try asRoot("change the owner of", tree, { try files.changeOwner(tree, other) }) {
        for path in [tree, tree + "/a", tree + "/link"] { #expect(owner(path) == [65_432, 65_433], "\(path)") }
      }
      #expect(owner(outside) == [geteuid(), getegid()])
    }
  }

  /// A secret that is being written must not be readable by others for a moment.
  @Test func `a file is private until it has its owner and mode`() async throws {
    try await withDirectory { directory in
      let path = directory + "/secret", temporary = directory + "/.secret.tmp"
      let bytes = [UInt8](repeating: 65, count: 8 << 20)
      let seen = Mutex<Set<UInt32>>([]), isOver = Atomic(false)
      try startThread("watch") {
        while !isOver.load(ordering: .relaxed) {
          var info = stat()
          if lstat(temporary, &info) == 0 { seen.withLock { _ = $0.insert(info.st_mode & 0o7777) } }
          usleep(20)
        }
      }
      // Written again until the other thread has seen it half-way.
      _ = try await eventually {
        try files.write(path, bytes, mode: 0o640, owner: nil)
        return seen.withLock { !$0.subtracting([0o640]).isEmpty }
      }
      isOver.store(true, ordering: .relaxed)
      #expect(seen.withLock { $0.subtracting([0o640]) } == [0o600])
      #expect(try files.status(path)?.mode == 0o640)
    }
  }

  @Test func `a child of another user has its numbers, its groups and no privileges`() async throws {
    let launcher = PosixProcessLauncher(
      environment: ["PATH": "/usr/bin:/bin"],
      files: ScriptedFiles(files: ["/etc/group": .success("logs:x:65434:other\nrest:x:65435:\n")]), hasPidfd: true)
    let script = "grep -E '^(Uid|Gid|Groups|CapEff|CapPrm|SigBlk):' /proc/self/status | tr '\\t' ' '; true"
    do {
      let child = try launcher.start(sh(script), as: other, mayBindLowPorts: false, copy: nil)
      #expect(isRoot)
      _ = await child.end()
      let lines = child.lastLines().map { $0.split(separator: " ").joined(separator: " ") }
      #expect(
        lines == [
          "Uid: 65432 65432 65432 65432", "Gid: 65433 65433 65433 65433", "Groups: 65433 65434",
          // SIGPIPE alone is blocked, for Consul 1.8.
          "SigBlk: 0000000000001000", "CapPrm: 0000000000000000",
          "CapEff: 0000000000000000",
        ])
    } catch {
      #expect(!isRoot && error.stage == "setgroups")
    }
  }

  @Test func `a child that may bind low ports has that capability alone`() async throws {
    let launcher = PosixProcessLauncher(
      environment: ["PATH": "/usr/bin:/bin"], files: ScriptedFiles(files: ["/etc/group": .success("")]),
      hasPidfd: true)
    do {
      let child = try launcher.start(
        sh("grep -E '^(Uid|CapEff|CapAmb):' /proc/self/status | tr '\\t' ' '"), as: other, mayBindLowPorts: true,
        copy: nil)
      #expect(isRoot)
      _ = await child.end()
      let lines = child.lastLines().map { $0.split(separator: " ").joined(separator: " ") }
      // CAP_NET_BIND_SERVICE is 10 (capability.h).
      #expect(lines == ["Uid: 65432 65432 65432 65432", "CapEff: 0000000000000400", "CapAmb: 0000000000000400"])
    } catch {
      #expect(!isRoot && error.stage == "setgroups")
    }
  }
}
