import Foundation
import Glibc
import Testing

@testable import Base
@testable import Host

@Suite(.timeLimit(.minutes(5))) struct LocalSystemTests {
  private func system(_ environment: [String: String]) -> LocalSystem { LocalSystem(environment: environment) }

  // A product of more than 64 bits ended the process.
  @Test func `the size of a file system saturates`() throws {
    #expect(LocalSystem.bytes(blocks: 3, blockSize: 4096) == 12288)
    #expect(LocalSystem.bytes(blocks: .max, blockSize: 4096) == .max)
    #expect(LocalSystem.bytes(blocks: 1 << 62, blockSize: 2) == .max)
    #expect(try system([:]).freeSpace(at: "/").bytes > 0)
    #expect(throws: FileError("check the file system of", "/nowhere", number: ENOENT)) {
      try system([:]).freeSpace(at: "/nowhere")
    }
  }

  @Test(arguments: [
    ("30000000", nil, Duration.seconds(30)), ("30000000", "\(getpid())", .seconds(30)), ("30000000", "1", nil),
    ("9223372036854775807", nil, .seconds(86400)), ("18446744073709551615", nil, nil), ("0", nil, nil),
    ("-1", nil, nil), ("1s", nil, nil), (nil, nil, nil),
  ])
  func `the watchdog's interval is bounded`(_ text: String?, _ pid: String?, _ expected: Duration?) {
    var environment: [String: String] = [:]
    environment["WATCHDOG_USEC"] = text
    environment["WATCHDOG_PID"] = pid
    #expect(system(environment).watchdogInterval == expected)
  }

  @Test func `a notification reaches the service manager, or the reason is known`() async throws {
    try await withDirectory { directory in
      let path = directory + "/notify"
      let manager = Descriptor(socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0))
      #expect(throws: FileError("notify", path, number: ENOENT)) {
        try system(["NOTIFY_SOCKET": path]).notify("READY=1")
      }
      try #require(withUnixAddress(path) { bind(manager.number, $0, $1) } == 0)
      try system(["NOTIFY_SOCKET": path]).notify("READY=1")
      var buffer = [UInt8](repeating: 0, count: 100)
      let count = recv(manager.number, &buffer, buffer.count, Int32(MSG_DONTWAIT))
      #expect(String(decoding: buffer.prefix(max(0, count)), as: UTF8.self) == "READY=1")
      try system([:]).notify("READY=1")
      let long = "/" + String(repeating: "x", count: 120)
      #expect(throws: FileError("notify", long, number: ENAMETOOLONG)) {
        try system(["NOTIFY_SOCKET": long]).notify("READY=1")
      }
      #expect(throws: FileError("notify", "vsock:2:1", number: EAFNOSUPPORT)) {
        try system(["NOTIFY_SOCKET": "vsock:2:1"]).notify("READY=1")
      }
    }
  }

  @Test func `a time in milliseconds saturates`() {
    #expect(timespec(tv_sec: 2, tv_nsec: 3_999_999).milliseconds == 2003)
    #expect(timespec(tv_sec: -2, tv_nsec: 0).milliseconds == -2000)
    #expect(timespec(tv_sec: .max, tv_nsec: 0).milliseconds == .max)
    #expect(timespec(tv_sec: .min, tv_nsec: 0).milliseconds == .min)
    #expect(timespec(tv_sec: Int(Int64.max / 1000), tv_nsec: 999_999_999).milliseconds == .max)
  }

  @Test func `an interface has an address or none`() throws {
    #expect(try system([:]).address(ofInterface: "lo") == IPv4Address("127.0.0.1"))
    #expect(try system([:]).address(ofInterface: "nothing0") == nil)
  }
}

@Suite(.timeLimit(.minutes(5))) struct UserDatabaseTests {
  private func database(
    _ passwd: Result<String, FileError> = .success("root:x:0:0:root:/root:/bin/sh\nconsul:x:110:117::/:/bin/false\n"),
    _ group: Result<String, FileError> = .success("root:x:0:\nconsul:x:117:\nadm:x:4:syslog,consul\ncons:x:5:con\n")
  ) -> UserDatabase {
    UserDatabase(files: ScriptedFiles(files: ["/etc/passwd": passwd, "/etc/group": group]))
  }

  private let consul = FileOwner(user: 110, group: 117, userName: "consul", groupName: "consul")

  @Test func `users and groups are found`() throws {
    #expect(try database().owner(named: "consul") == consul)
    #expect(try database().owner(named: "cons") == nil)
    #expect(try database().groups(of: consul) == [117, 4])
  }

  @Test func `a file that does not exist has no users or groups`() throws {
    let passwd = FileError.missing("/etc/passwd"), group = FileError.missing("/etc/group")
    #expect(try database(.failure(passwd)).owner(named: "consul") == nil)
    #expect(
      try database(.success("consul:x:110:117::/:\n"), .failure(group)).owner(named: "consul")?.groupName == "117")
    #expect(try database(.failure(passwd), .failure(group)).groups(of: consul) == [117])
  }

  // "No such user" means an agent that runs as root.
  @Test func `an unreadable file is an error, not a missing user`() {
    #expect(throws: FileError.denied("/etc/passwd")) {
      try database(.failure(.denied("/etc/passwd"))).owner(named: "consul")
    }
    let withoutGroups = { database(.success("consul:x:110:117::/:\n"), .failure(.denied("/etc/group"))) }
    #expect(throws: FileError.denied("/etc/group")) { try withoutGroups().owner(named: "consul") }
    #expect(throws: FileError.denied("/etc/group")) { try withoutGroups().groups(of: consul) }
  }

  @Test func `a user without a number is an error, not a missing user`() {
    #expect(
      throws: FileError(
        "read user consul from", "/etc/passwd", errno: EINVAL, reason: "user ID or group ID is not a number")
    ) {
      try database(.success("consul:x:many:117::/:\n")).owner(named: "consul")
    }
  }
}
