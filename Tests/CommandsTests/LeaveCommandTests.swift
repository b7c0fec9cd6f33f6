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
}
