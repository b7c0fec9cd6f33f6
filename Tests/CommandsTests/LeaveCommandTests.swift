import Base
import TestSupport
import Testing

@testable import Commands

@Suite(.timeLimit(.minutes(5))) struct LeaveCommandTests {
  let fixture = CommandFixture()

  /// It read neither the options nor the configuration, did not know its own address, and left without the lock.
  @Test(arguments: [[], ["--force"], ["--stopping"]])
  func `leave needs root`(_ options: [String]) async {
    fixture.test.system.setRoot(false)
    #expect(await fixture.run(["leave"] + options) == 2)
    #expect(fixture.errors.text.hasPrefix("consul-bootstrap: error: leave needs root\n"))
    #expect(fixture.test.transport.requests.isEmpty && fixture.test.files.changes.isEmpty)
  }

  @Test(arguments: [[], ["--json"]])
  func `--force shows first what the others lose`(_ options: [String]) async throws {
    let test = fixture.test, servers = [("i-0bbb", "10.0.1.11"), ("own", "10.0.1.10")]
    test.files.put(
      "/etc/consul.d/00-consul-bootstrap.json",
      #"{"bind_addr": "10.0.1.10", "node_name": "own", "retry_join": ["10.0.1.11"]}"#)
    let agent = FakeConsulAgent(test), other = FakeConsulAgent(test, at: "10.0.1.11:8500")
    for server in [agent, other] { server.setCluster(servers) }
    agent.set { state in
      state.onLeave = { other.set { $0.peers = ["10.0.1.11:8300"] } }
    }
    #expect(await fixture.run(["leave", "--force"] + options) == 0, "\(fixture.errors.text)")
    if options.isEmpty {
      #expect(fixture.output.lines.first?.hasPrefix("decision    leave: 1 of the other 1 voters are well") == true)
    } else {
      #expect(try JSONValue(parsing: fixture.output.text)["outcome"] == "left")
      #expect(test.sink.lines.contains { $0.hasPrefix("info what this server sees") })
    }
    #expect(agent.changes == ["leave"])
  }
}
