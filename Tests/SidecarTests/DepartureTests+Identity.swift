import Base
import Model
import TestSupport
import Testing

@testable import Sidecar

/// A server that does not know itself leaves nothing.
extension DepartureTests {
  static let unknown = "/etc/consul.d/00-consul-bootstrap.json does not tell the address of this server"

  func damage(_ kind: String) {
    let path = SidecarFixture.configuration
    switch kind {
    case "removed": context.files.delete(path)
    case "unreadable": context.files.fail(.read, path, errno: 13)
    case "empty": context.files.put(path, "{}")
    default: context.files.put(path, "{")
    }
  }

  /// It took the raft configuration, which names all three servers, for one without it, and left without the lock.
  @Test(arguments: ["removed", "unreadable", "damaged", "empty"], [Notice.Source.stopping, .manual, .termination])
  func `without its own address a server does not leave`(_ kind: String, _ source: Notice.Source) async throws {
    damage(kind)
    #expect(try await leave(source) == .kept(reason: Self.unknown))
    #expect(agent.changes.isEmpty)
    #expect((context.clock.uptime() == .zero) == (source != .termination))
    let departure = Departure(settings: fixture.settings, context: context.context)
    await #expect(throws: Failure.self) { try await departure.preview() }
  }

  /// Its agent hangs meanwhile, or has ended.
  @Test(arguments: ["removed", "damaged"], [TransportError.refused, .timedOut(whileConnecting: false)])
  func `without its own address no answer of the others proves its removal`(
    _ kind: String, _ failure: TransportError
  ) async throws {
    damage(kind)
    agent.set { $0.failure = failure }
    #expect(
      try await leave(.termination, within: .seconds(90))
        == .kept(reason: "the agent does not answer, and \(Self.unknown)"))
  }

  /// An edited configuration: neither the name nor the address is raft's.
  @Test func `a server that raft names by its ID alone leaves with the lock`() async throws {
    context.files.put(SidecarFixture.configuration, #"{"bind_addr": "10.0.1.99", "node_name": "other"}"#)
    agent.set { state in
      state.leaveLock = ("other", "i-0ccc")
      state.sessions = ["other"]
    }
    async let outcome = leave()
    try await context.clock.sleep(for: .seconds(20))
    #expect(agent.changes.isEmpty)
    // Only their removal of the address that raft has is one.
    agent.set { state in
      state.leaveLock = nil
      state.onLeave = nil
    }
    try await agent.changed("leave")
    try await context.clock.sleep(for: .seconds(5))
    #expect(try report?.phase == .leaving)
    for peer in peers { peer.set { $0.peers.remove(at: 1) } }
    #expect(try await outcome == .left)
  }

  @Test func `a server that raft does not name leaves at once`() async throws {
    agent.set { $0.servers.remove(at: 1) }
    for peer in peers { peer.set { $0.peers.remove(at: 1) } }
    #expect(try await leave() == .left)
    #expect(agent.changes == ["leave"])
  }
}
