import Foundation
import Glibc
import Testing

@testable import Base
@testable import Host

@Suite(.timeLimit(.minutes(5))) struct LocalFileStoreTests {
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

  // A FIFO in the place of a raft database stopped a run for ever.
  @Test func `an open follows links only where it may, and never blocks`() async throws {
    try await withDirectory { directory in
      let file = directory + "/file", link = directory + "/link", pipe = directory + "/pipe"
      try files.write(file, Array("one".utf8), mode: 0o600, owner: nil)
      try #require(symlink("file", link) == 0)
      try #require(mkfifo(pipe, 0o600) == 0)
      #expect(try files.open(file, followsLinks: false)?.read(at: 1, count: 9) == Array("ne".utf8))
      #expect(try files.open(link)?.size() == 3)
      #expect(throws: FileError("open", link, number: ELOOP)) { try files.open(link, followsLinks: false) }
      #expect(try files.open(pipe, followsLinks: false) == nil)
      #expect(try files.open("/dev/null", followsLinks: false) == nil)
      #expect(try files.open(directory, followsLinks: false) == nil)
      #expect(try files.open(directory + "/absent", followsLinks: false) == nil)
    }
  }

  // Unreadable counted as "no link", and a managed /etc/resolv.conf as one that may be replaced.
  @Test func `a path that cannot be checked is an error, not an absent file`() async throws {
    try await withDirectory { directory in
      try #require(symlink("nowhere", directory + "/link") == 0)
      #expect(try files.isLink(directory + "/link"))
      #expect(try !files.isLink(directory))
      #expect(throws: FileError("resolve", directory + "/link", number: ENOENT)) {
        try files.resolvedPath(directory + "/link")
      }
      #expect(try !files.isLink(directory + "/absent"))
      let long = directory + "/" + String(repeating: "x", count: 300)
      #expect(throws: FileError("check", long, number: ENAMETOOLONG)) { try files.isLink(long) }
      #expect(throws: FileError("check", long, number: ENAMETOOLONG)) { try files.status(long) }
      #expect(throws: FileError("open", long, number: ENAMETOOLONG)) { try files.open(long) }
      let loop = directory + "/loop"
      try #require(symlink("loop", loop) == 0)
      #expect(throws: FileError("check", loop, number: ELOOP)) { try files.status(loop) }
      #expect(throws: FileError("open", loop, number: ELOOP)) { try files.open(loop) }
    }
  }

  @Test func `a directory that cannot be listed is an error`() {
    #expect(throws: FileError("list", "/nowhere", number: ENOENT)) { try files.list("/nowhere") }
    #expect(throws: FileError("list", "/dev/null", number: ENOTDIR)) { try files.list("/dev/null") }
  }

  // Recursion into a tree that another user has built exhausted the stack.
  @Test func `a very deep tree changes its owner`() async throws {
    try await withDirectory { directory in
      var path = directory
      for _ in 0..<600 {
        path += "/d"
        try #require(mkdir(path, 0o700) == 0)
      }
      let owner = FileOwner(user: getuid(), group: getgid(), userName: "", groupName: "")
      let succeeded = await withCheckedContinuation { continuation in
        do {
          try startThread("owner", stackSize: 128 << 10) {
            continuation.resume(returning: (try? LocalFileStore().changeOwner(directory, owner)) != nil)
          }
        } catch {
          continuation.resume(returning: false)
        }
      }
      #expect(succeeded)
      // By the file system itself: FileManager recurses.
      while path != directory {
        try #require(rmdir(path) == 0)
        path.removeLast(2)
      }
    }
  }

  // Seconds times 1000 ended the process.
  @Test func `a file may bear any time`() async throws {
    // tmpfs, unlike ext4, keeps times of this size.
    let directory = try files.status("/dev/shm")?.kind == .directory ? "/dev/shm" : "/tmp"
    let path = "\(directory)/consul-bootstrap-\(UUID())"
    try files.write(path, [], mode: 0o600, owner: nil)
    defer { unlink(path) }
    let times = [timespec(tv_sec: 0, tv_nsec: 0), timespec(tv_sec: .max, tv_nsec: 0)]
    try #require(utimensat(AT_FDCWD, path, times, 0) == 0)
    let file = try #require(try files.open(path))
    #expect(try file.modified() > 0)
  }
}
