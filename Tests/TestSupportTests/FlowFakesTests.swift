import Base
import Synchronization
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(5))) struct FakeTransportTests {
  private let context = TestContext()
  private var transport: FakeTransport { context.transport }

  @Test func `the handler added last answers first, and only so often`() async throws {
    transport.answer("http://a/", "old")
    transport.answer("http://a/", status: 503, "new", times: 2)
    transport.answer("http://a/", method: "PUT", "put")
    var statuses: [Int] = []
    for _ in 0..<3 { statuses.append(try await transport.send(HTTPRequest("GET", "http://a/x")).status) }
    #expect(statuses == [503, 503, 200])
    #expect(try await transport.send(HTTPRequest("PUT", "http://a/x")).text == "put")
    #expect(transport.requests(to: "http://a/").map(\.method) == ["GET", "GET", "GET", "PUT"])
  }

  @Test func `a slow answer is a timeout at the request's own timeout`() async {
    transport.answer("http://a/", after: .seconds(60))
    var request = HTTPRequest("GET", "http://a/")
    request.timeout = .seconds(7)
    await #expect(throws: TransportError.timedOut(whileConnecting: false)) { try await transport.send(request) }
    #expect(context.clock.uptime() == .seconds(7))
  }

  @Test func `silence is a connect timeout`() async {
    transport.silence("http://a/")
    await #expect(throws: TransportError.timedOut(whileConnecting: true)) {
      try await transport.send(HTTPRequest("GET", "http://a/"))
    }
    #expect(context.clock.uptime() == .seconds(3))
  }

  @Test func `a held request goes on when the gate opens, and ends when it is cancelled`() async throws {
    transport.answer("http://a/", "answer")
    let gate = transport.hold("http://a/", times: 1)
    async let response = transport.send(HTTPRequest("GET", "http://a/"))
    try await gate.arrivals()
    gate.open()
    #expect(try await response.text == "answer")
    let second = transport.hold("http://a/")
    let task = Task { try await transport.send(HTTPRequest("GET", "http://a/")) }
    try await second.arrivals()
    task.cancel()
    await #expect(throws: CancellationError.self) { _ = try await task.value }
  }

  @Test func `an answer larger than the request allows is an error`() async {
    transport.answer("http://a/", "0123456789")
    var request = HTTPRequest("GET", "http://a/")
    request.maximumBodyBytes = 9
    await #expect(throws: TransportError.bodyTooLarge(limit: 9)) { try await transport.send(request) }
  }
}

@Suite(.timeLimit(.minutes(5))) struct FakeLauncherTests {
  private let context = TestContext()
  private var launcher: FakeLauncher { context.launcher }

  @Test func `results are found by program and first arguments`() async throws {
    launcher.run("/bin/systemctl", output: "any")
    launcher.run("/bin/systemctl", ["is-active"], end: .exited(3), output: "inactive")
    let active = try await launcher.run(Command("/bin/systemctl", ["is-active", "consul"]), timeout: .seconds(5))
    #expect(active.end == .exited(3) && active.output == "inactive")
    let other = try await launcher.run(Command("/bin/systemctl", ["daemon-reload"]), timeout: .seconds(5))
    #expect(other.succeeded && other.output == "any")
    #expect(launcher.commands == ["/bin/systemctl is-active consul", "/bin/systemctl daemon-reload"])
  }

  @Test func `a command that runs too long is killed at its timeout`() async throws {
    launcher.run("/bin/slow", after: .seconds(60))
    let result = try await launcher.run(Command("/bin/slow", []), timeout: .seconds(10))
    #expect(result.end == .signalled(9) && result.output == "\nkilled after 10 s")
    #expect(context.clock.uptime() == .seconds(10))
  }

  @Test func `a start that fails throws, and the next succeeds`() throws {
    launcher.start("/bin/consul")
    launcher.fail("/bin/consul", stage: "execute", reason: "Permission denied", times: 1)
    let error = #expect(throws: LaunchError.self) {
      _ = try launcher.start(Command("/bin/consul", []), as: nil, mayBindLowPorts: false, copy: nil)
    }
    #expect(error?.explanation == "execute /bin/consul: Permission denied")
    _ = try launcher.start(Command("/bin/consul", []), as: nil, mayBindLowPorts: false, copy: nil)
    #expect(launcher.launches.count == 2)
  }

  @Test func `the test ends a process and sees its signals`() async throws {
    final class Copy: OutputSink {
      let text = Mutex("")
      func write(_ bytes: ArraySlice<UInt8>) { text.withLock { $0 += String(decoding: bytes, as: UTF8.self) } }
    }
    launcher.start("/bin/consul") { $0.on(15, finish: .exited(0)) }
    let copy = Copy()
    let running = try launcher.start(
      Command("/bin/consul", ["agent"]), as: nil, mayBindLowPorts: true, copy: copy)
    let process = try await launcher.process()
    for number in 1...50 { process.write("line \(number)") }
    #expect(running.lastLines().count == 40 && running.lastLines().last == "line 50")
    #expect(copy.text.withLock { $0.hasPrefix("line 1\nline 2\n") })
    running.signal(1)
    #expect(!process.hasEnded)
    async let end = running.end()
    running.signal(15)
    running.signal(9)
    #expect(await end == .exited(0))
    process.finish(.signalled(11))
    #expect(await running.end() == .exited(0))
    #expect(process.signals == [1, 15])
  }

  @Test func `a wait for a process that still runs ends when it is cancelled`() async throws {
    launcher.start("/bin/consul")
    let running = try launcher.start(Command("/bin/consul", []), as: nil, mayBindLowPorts: false, copy: nil)
    let task = Task { await running.end() }
    task.cancel()
    #expect(await task.value == nil)
  }

  @Test func `a followed process is read at the reader's pace up to its end`() async throws {
    launcher.follow("/bin/journalctl")
    let followed = try launcher.follow(Command("/bin/journalctl", ["-f"]))
    let process = try await launcher.followed()
    #expect(followed.read(10) == [])
    process.feed("abcdef")
    process.finish()
    #expect(followed.read(4) == Array("abcd".utf8))
    #expect(followed.read(4) == Array("ef".utf8))
    #expect(followed.read(4) == nil)
    followed.stop()
    #expect(process.isStopped)
  }
}

@Suite(.timeLimit(.minutes(5))) struct OtherFakesTests {
  private let context = TestContext()

  @Test func `records keep level, message and attributes; progress stays apart`() async throws {
    let log = context.context.log
    log.warning("cannot read a file", ["path": "/x", "count": 2])
    log.progress("waiting for the group")
    #expect(context.sink.lines == [#"warning cannot read a file path="/x" count=2"#])
    #expect(context.sink.records(.warning).first?.attributes == ["path": "/x", "count": 2])
    #expect(context.sink.progress.map(\.message) == ["waiting for the group"])
    #expect(try await context.sink.record(containing: "group").isProgress)
  }

  @Test func `patterns are searched for anywhere`() throws {
    let pattern = try #require(context.context.pattern("^[0-9]{4}-"))
    #expect(pattern.isFound(in: Array("2026-01-01 x".utf8)[...]))
    #expect(!pattern.isFound(in: Array("x 2026-01-01".utf8)[...]))
    #expect(context.context.pattern("(") == nil)
  }

  @Test func `the system is what the test says`() throws {
    context.system.setFreeSpace(bytes: 100)
    context.system.setFreeSpace("/opt", bytes: 5, isReadOnly: true)
    context.system.setOwner("consul", 100)
    context.system.setOwner("absent", nil)
    #expect(try context.system.freeSpace(at: "/var").bytes == 100)
    #expect(try context.system.freeSpace(at: "/opt/consul").isReadOnly)
    #expect(try context.system.owner(named: "consul")?.user == 100)
    #expect(try context.system.owner(named: "absent") == nil)
    try context.system.notify("READY=1")
    #expect(context.system.notifications == ["READY=1"])
    context.system.fail(.owner, errno: 5)
    #expect(throws: FileError("read", "/etc/passwd", errno: 5, reason: "Input/output error")) {
      try context.system.owner(named: "consul")
    }
  }

  @Test func `names, ports and texts answer as set up`() async throws {
    let server = try #require(IPv4Address("10.0.0.2")), peer = try #require(IPv4Address("10.0.1.5"))
    context.resolver.answer("web.consul", ["10.0.1.5"])
    context.resolver.fail("web.consul", server: "10.0.0.3", "no such name")
    let found = try await context.resolver.addresses(of: "web.consul", server: server, port: 53, timeout: .seconds(1))
    #expect(found == [peer])
    context.ports.set("10.0.1.5", .tcp, to: .open)
    context.ports.set("10.0.1.5", .udp, port: 8301, to: .silent)
    #expect(await context.ports.connect(peer, port: 8300, timeout: .seconds(1)) == .open)
    #expect(await context.ports.probeDatagram(peer, port: 8301, datagram: [], timeout: .seconds(2)) == .silent)
    #expect(context.clock.uptime() == .seconds(2))
    #expect(context.ports.probes == ["tcp 10.0.1.5:8300", "udp 10.0.1.5:8301"])
    let address = ServedAddress.loopback(port: 9000)
    context.textServer.allow(address)
    var served: (any Sendable)? = try context.textServer.serve(at: address) { "metrics" }
    #expect(context.textServer.text(at: address) == "metrics")
    _ = served
    served = nil
    #expect(context.textServer.text(at: address) == nil)
  }
}
