import Base
import Consul
import TestSupport
import Testing

@testable import AWS

/// What a test did not set up ends the test run: it must never look like an answer of the machine or of AWS. Each body
/// runs in a process of its own.
@Suite(.timeLimit(.minutes(5))) struct ForgottenFakeTests {
  private func expectForgotten(_ result: ExitTest.Result?, _ what: String) throws {
    let output = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
    #expect(output.contains("a forgotten fake: the test did not set up \(what)"))
  }

  @Test func `a user`() async throws {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = try FakeSystem().owner(named: "consul")
    }
    try expectForgotten(result, "user consul")
  }

  @Test func `a file system`() async throws {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = try FakeSystem().freeSpace(at: "/opt")
    }
    try expectForgotten(result, "free space at /opt")
  }

  @Test func `an interface`() async throws {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = try FakeSystem().address(ofInterface: "docker0")
    }
    try expectForgotten(result, "interface docker0")
  }

  @Test func `a command`() async throws {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = try await TestContext().launcher.run(Command("/bin/true", ["-x"]), timeout: .seconds(1))
    }
    try expectForgotten(result, "a result of /bin/true -x")
  }

  @Test func `a supervised process`() async throws {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = try TestContext().launcher.start(Command("/bin/true", []), as: nil, mayBindLowPorts: false, copy: nil)
    }
    try expectForgotten(result, "a start of /bin/true")
  }

  @Test func `a followed process`() async throws {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = try TestContext().launcher.follow(Command("/bin/true", []))
    }
    try expectForgotten(result, "a process to follow: /bin/true")
  }

  @Test func `an answer by HTTP`() async throws {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = try await TestContext().transport.send(HTTPRequest("GET", "http://10.0.1.5:8500/"))
    }
    try expectForgotten(result, "an answer to GET http://10.0.1.5:8500/")
  }

  @Test func `an action of AWS`() async throws {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let action = AWSAction(.ec2, "RebootInstances", on: .any)
      try await FakeAWS(TestContext()).client().query(action, []) { _ in }
    }
    try expectForgotten(result, "an answer of AWS to RebootInstances")
  }

  @Test func `a name`() async throws {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let server = try #require(IPv4Address("10.0.0.2"))
      _ = try await TestContext().resolver.addresses(of: "a.b", server: server, port: 53, timeout: .seconds(1))
    }
    try expectForgotten(result, "an answer for name a.b of server 10.0.0.2:53")
  }

  @Test func `a port`() async throws {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let peer = try #require(IPv4Address("10.0.1.5"))
      _ = await TestContext().ports.connect(peer, port: 8300, timeout: .seconds(1))
    }
    try expectForgotten(result, "a probe of")
  }

  @Test func `an exchange of bytes`() async throws {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let peer = try #require(IPv4Address("10.0.1.5"))
      _ = try await TestContext().streams.exchange(StreamRequest(peer, port: 8300) { _ in true })
    }
    try expectForgotten(result, "an exchange with 10.0.1.5:8300")
  }

  @Test func `a port of this machine`() async throws {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let own = try #require(IPv4Address("127.0.0.1"))
      _ = TestContext().ports.listenError(own, port: 8300, datagrams: true)
    }
    try expectForgotten(result, "whether")
  }

  @Test func `a served text`() async throws {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = try FakeTextServer().serve(at: .loopback(port: 9090)) { "" }
    }
    try expectForgotten(result, "a text served at")
  }
}
