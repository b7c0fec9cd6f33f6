import Base
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(5))) struct FakeFilesTests {
  private let context = TestContext()
  private var files: FakeFiles { context.files }

  @Test func `a file that was put is read, listed and described`() throws {
    files.put("/etc/consul.d/a.json", "{}", mode: 0o640, user: 7, group: 8)
    #expect(try files.read("/etc/consul.d/a.json", limit: 10) == Array("{}".utf8))
    #expect(try files.list("/etc/consul.d") == ["a.json"])
    #expect(try files.list("/etc") == ["consul.d"])
    #expect(
      try files.status("/etc/consul.d/a.json")
        == FileStatus(kind: .file, size: 2, mode: 0o640, user: 7, group: 8, device: 1))
    #expect(try files.status("/etc/consul.d")?.kind == .directory)
    #expect(try files.status("/etc/other") == nil)
    #expect(try files.status("/etc/consul.d/a.json/b") == nil)
    #expect(files.changes.isEmpty)
  }

  @Test func `errors are those of the system calls`() {
    files.put("/file", "abc")
    files.makeDirectory("/directory/inner")
    files.link("/loop", to: "/loop")
    check(2, "read /none: No such file or directory") { _ = try files.read("/none", limit: 9) }
    check(21, "read /directory: Is a directory") { _ = try files.read("/directory", limit: 9) }
    check(27, "read /file: larger than 2 bytes") { _ = try files.read("/file", limit: 2) }
    check(20, "list /file: Not a directory") { _ = try files.list("/file") }
    check(40, "read /loop: Too many levels of symbolic links") { _ = try files.read("/loop", limit: 9) }
    check(2, "write /none/a: No such file or directory") {
      try files.write("/none/a", [], mode: 0o600, owner: nil)
    }
    check(39, "rename /other: Directory not empty") {
      files.makeDirectory("/other")
      try files.rename("/other", to: "/directory")
    }
    check(20, "create directory /file: a file is in the way") {
      try files.createDirectory("/file", mode: 0o755, owner: nil)
    }
  }

  @Test func `a fault has its operation, its path, its errno and its number of times`() throws {
    files.put("/a", "a")
    files.put("/b", "b")
    files.fail(.read, "/a", errno: 13, times: 1)
    files.fail(.write, nil, errno: 28)
    #expect(try files.read("/b", limit: 9) == [98])
    check(13, "read /a: Permission denied") { _ = try files.read("/a", limit: 9) }
    #expect(try files.read("/a", limit: 9) == [97])
    for path in ["/a", "/c"] {
      check(28, "write \(path): No space left on device") {
        try files.write(path, [1], mode: 0o600, owner: nil)
      }
    }
    #expect(files.text("/a") == "a")
    #expect(files.changes.isEmpty)
    files.recover(.write, nil)
    try files.write("/c", [99], mode: 0o600, owner: nil)
    #expect(files.text("/c") == "c")
  }

  @Test func `an open file keeps its identity and contents after a rename and a removal`() throws {
    files.put("/log", "one\n")
    let open = try #require(try files.open("/log"))
    let identity = open.identity
    files.move("/log", to: "/log.1")
    files.put("/log", "two\n")
    files.grow("/log.1", by: "more\n")
    #expect(try files.open("/log.1")?.identity == identity)
    #expect(try files.open("/log")?.identity != identity)
    #expect(try open.read(at: 4, count: 100) == Array("more\n".utf8))
    files.delete("/log.1")
    #expect(try open.size() == 9)
    files.fail(.read, "/log", errno: 5, times: 1)
    check(5, "read /log: Input/output error") { _ = try open.read(at: 0, count: 1) }
  }

  @Test func `open files are counted while they are held`() throws {
    files.put("/log", "")
    var held: [any Sendable] = [try #require(try files.open("/log")), try files.append(to: "/new")]
    #expect(files.openFileCount == 2)
    held.removeLast()
    #expect(files.openFileCount == 1)
    held.removeAll()
    #expect(files.openFileCount == 0)
  }

  @Test func `an appended file knows when its name has gone`() throws {
    let file = try files.append(to: "/out")
    try file.append(Array("abc".utf8)[1...])
    #expect(files.text("/out") == "bc")
    #expect(try files.status("/out")?.mode == 0o640)
    #expect(file.isCurrent())
    files.move("/out", to: "/out.1")
    #expect(!file.isCurrent())
    files.put("/out", "")
    #expect(!file.isCurrent())
    #expect(files.changes == [.append("/out")])
  }

  @Test func `links are followed except by their own name`() throws {
    files.put("/data/real/a", "a")
    files.link("/data/link", to: "real")
    files.link("/dangling", to: "/none")
    #expect(try files.read("/data/link/a", limit: 9) == [97])
    #expect(try files.read("/data/link/../real/a", limit: 9) == [97])
    #expect(try files.isLink("/data/link"))
    #expect(try !files.isLink("/data/real"))
    #expect(try files.status("/dangling") == nil)
    #expect(try files.isLink("/dangling"))
    #expect(try files.open("/data/link/a", followsLinks: false)?.size() == 1)
    check(40, "open /data/link: Too many levels of symbolic links") {
      _ = try files.open("/data/link", followsLinks: false)
    }
    #expect(try files.resolvedPath("/data/link/a") == "/data/real/a")
    #expect(try files.resolvedPath("/data/real/a") == "/data/real/a")
    check(2, "resolve /dangling: No such file or directory") { _ = try files.resolvedPath("/dangling") }
    check(40, "append to /dangling: Too many levels of symbolic links") { _ = try files.append(to: "/dangling") }
    try files.write("/dangling", [1], mode: 0o600, owner: nil)
    #expect(try !files.isLink("/dangling"))
  }

  @Test func `changes are recorded in order, with mode and owner`() throws {
    let consul = FileOwner(user: 100, group: 101, userName: "consul", groupName: "consul")
    try files.createDirectory("/opt/consul", mode: 0o750, owner: consul)
    try files.createDirectory("/opt/consul", mode: 0o700, owner: nil)
    try files.write("/opt/consul/a", [1], mode: 0o640, owner: nil)
    try files.changeOwner("/opt", consul)
    try files.rename("/opt/consul/a", to: "/opt/b")
    try files.removeFile("/opt/b")
    try files.removeFile("/opt/b")
    #expect(
      files.changes == [
        .createDirectory("/opt/consul", mode: 0o750, owner: "consul"),
        .write("/opt/consul/a", mode: 0o640, owner: nil), .changeOwner("/opt", "consul"),
        .rename("/opt/consul/a", to: "/opt/b"), .removeFile("/opt/b"),
      ])
    #expect(try files.status("/opt/consul")?.mode == 0o750)
    #expect(try files.status("/opt")?.user == 100)
  }

  @Test func `another file system is another device, and nothing is renamed across`() throws {
    files.makeDirectory("/data", device: 9)
    files.put("/data/a", "a")
    files.put("/a", "a")
    #expect(try files.status("/data/a")?.device == 9)
    check(18, "rename /a: Invalid cross-device link") { try files.rename("/a", to: "/data/b") }
  }

  @Test func `a change has the time of the test clock`() async throws {
    try await context.clock.sleep(for: .seconds(60))
    files.put("/a", "a")
    #expect(try files.open("/a")?.modified() == (1_767_225_600 + 60) * 1000)
  }

  private func check(_ errno: Int32, _ explanation: String, _ body: () throws -> Void) {
    let error = #expect(throws: FileError.self) { try body() }
    #expect(error?.errno == errno)
    #expect(error?.explanation == explanation)
  }
}
