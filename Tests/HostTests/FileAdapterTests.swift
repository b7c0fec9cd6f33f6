import Foundation
import Glibc
import Testing

@testable import Base
@testable import Host

@Suite(.timeLimit(.minutes(5))) struct FileLocksTests {
  private let locks = FileLocks()

  @Test func `a second lock is refused while the first one lives, and names its holder`() async throws {
    try await withDirectory { directory in
      let path = "\(directory)/lock"
      do {
        let lock = try locks.lock(directory: directory, name: "lock")
        #expect(throws: LockError.held(path: path, holder: "\(getpid())")) {
          _ = try locks.lock(directory: directory, name: "lock")
        }
        // It may not have written its number yet.
        try #require(truncate(path, 0) == 0)
        #expect(throws: LockError.held(path: path, holder: nil)) {
          _ = try locks.lock(directory: directory, name: "lock")
        }
        _ = try locks.lock(directory: directory, name: "sidecar.lock")
        withExtendedLifetime(lock) {}
      }
      _ = try locks.lock(directory: directory, name: "lock")
    }
  }

  /// Regression: a child between its fork and its exec held the lock, as a copy of the descriptor does.
  @Test func `a released lock is free, whatever still has its file`() async throws {
    try await withDirectory { directory in
      var lock: (any HeldLock)? = try locks.lock(directory: directory, name: "lock")
      let number = try #require(
        (3..<4096).first { number in
          var buffer = [CChar](repeating: 0, count: 4096)
          let count = readlink("/proc/self/fd/\(number)", &buffer, buffer.count)
          let path = String(decoding: buffer[..<max(0, count)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
          return path == "\(directory)/lock"
        })
      let copy = Descriptor(dup(Int32(number)))
      withExtendedLifetime(lock) {}
      lock = nil
      _ = try locks.lock(directory: directory, name: "lock")
      copy.close()
    }
  }

  @Test func `a lock that cannot be opened is not a lock that is held`() async throws {
    try await withDirectory { directory in
      let files = LocalFileStore()
      try files.createDirectory(directory + "/lock", mode: 0o755, owner: nil)
      #expect(throws: LockError.unavailable(FileError("open", directory + "/lock", number: EISDIR))) {
        _ = try locks.lock(directory: directory, name: "lock")
      }
      try files.write(directory + "/file", [], mode: 0o600, owner: nil)
      #expect(
        throws: LockError.unavailable(
          FileError("create directory", directory + "/file", errno: ENOTDIR, reason: "there is a file of that name"))
      ) { _ = try locks.lock(directory: directory + "/file/state", name: "lock") }
    }
  }

  @Test func `an error explains itself`() {
    #expect(LockError.held(path: "/s/lock", holder: "7").explanation == "process 7 holds /s/lock")
    #expect(LockError.held(path: "/s/lock", holder: nil).explanation == "another process holds /s/lock")
    #expect(LockError.unavailable(.denied("/s/lock")).explanation == "read /s/lock: Permission denied")
  }
}

@Suite(.timeLimit(.minutes(5))) struct OwnLogTests {
  private func lines(_ path: String) throws -> [String] {
    try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map { String($0.dropFirst(25)) }
  }

  // Records were missing from CloudWatch without a word.
  @Test func `a log file that cannot be written is reported once, and written again when it can`() async throws {
    try await withDirectory { directory in
      let console = RecordingSink(), path = directory + "/log/own.log"
      let log = Logger(level: .info, sink: OwnLog(path: path, format: .text, console: console))
      let warning =
        "warning cannot write this program's own log file; its records are not forwarded reason=append to \(path): "
        + "No such file or directory"
      log.info("one")
      log.info("two")
      #expect(console.messages == [warning])
      try LocalFileStore().createDirectory(directory + "/log", mode: 0o755, owner: nil)
      log.info("three")
      log.info("four")
      #expect(try lines(path) == ["info three", "info four"])
      try FileManager.default.removeItem(atPath: directory + "/log")
      log.info("five")
      #expect(console.messages == [warning, warning])
    }
  }

  @Test func `a full log file is renamed, and a rename that fails is reported`() async throws {
    try await withDirectory { directory in
      let console = RecordingSink(), path = directory + "/own.log"
      let log = Logger(level: .info, sink: OwnLog(path: path, format: .text, console: console))
      log.info("one")
      try #require(truncate(path, (4 << 20) + 1) == 0)
      // A directory cannot be replaced by a file.
      try LocalFileStore().createDirectory(path + ".1", mode: 0o755, owner: nil)
      log.info("two")
      #expect(
        console.messages == [
          "warning cannot write this program's own log file; its records are not forwarded reason=rename \(path): "
            + "Is a directory"
        ])
      try FileManager.default.removeItem(atPath: path + ".1")
      log.info("three")
      #expect(try lines(path) == ["info three"])
      #expect(try LocalFileStore().status(path + ".1")?.size == (4 << 20) + 1)
    }
  }
}

@Suite(.timeLimit(.minutes(5))) struct DescriptorTests {
  // A shared terminal or pipe that another process has made non-blocking cut the output off.
  @Test func `everything is written to a non-blocking pipe`() async throws {
    let pipe = try createPipe(nonBlocking: true)
    let bytes = (0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let writer = pipe.writer
    try startThread("writer") {
      _ = writeAll(bytes[...], to: writer.number)
      writer.close()
    }
    var received: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      try #require(waitUntilReady(pipe.reader.number, POLLIN, deadline: Machine.uptime() + .seconds(20)) == 0)
      let count = read(pipe.reader.number, &buffer, buffer.count)
      if count <= 0 { break }
      received += buffer[..<count]
    }
    #expect(received == bytes)
  }

  // Closing a number twice closes the file of another thread that got the number in between.
  @Test func `a descriptor is closed once`() throws {
    let number = open("/dev/null", O_RDONLY | O_CLOEXEC)
    var descriptor: Descriptor? = Descriptor(number)
    descriptor?.close()
    let other = fcntl(0, F_DUPFD_CLOEXEC, number)
    defer { close(other) }
    descriptor?.close()
    descriptor = nil
    #expect(fcntl(other, F_GETFD) >= 0)
  }
}
