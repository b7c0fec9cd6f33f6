import Base
import Model
import TestSupport
import Testing

@testable import Sidecar

/// What a server saw has to be true when it leaves.
extension DepartureTests {
  // MARK: By hand

  /// It ended with status 0 at the first look, and the person terminated a voter.
  @Test(arguments: [true, false])
  func `an agent in its restart pause has not left`(_ returns: Bool) async throws {
    agent.set { $0.failure = .refused }
    async let outcome = leave(within: .seconds(20))
    try await context.clock.sleep(for: .seconds(5))
    #expect(try report?.phase == .waiting)
    if returns { agent.set { $0.failure = nil } }
    switch try await outcome {
    case .left: #expect(returns && agent.changes == ["leave"])
    case .kept(let reason):
      #expect(!returns && reason.hasSuffix("; the others still count it, and it may run again"))
    default: Issue.record("nothing to leave")
    }
  }

  @Test func `whether a server counts is not known while no other answers`() async throws {
    agent.set { $0.failure = .refused }
    for peer in peers { peer.set { $0.failure = .refused } }
    guard case .kept(let reason) = try await leave(within: .seconds(5)) else {
      Issue.record("nothing to leave")
      return
    }
    #expect(reason.hasSuffix("; whether the others still count it is not known"))
    context.files.delete("/opt/consul/raft")
    guard case .nothingToLeave = try await leave(within: .seconds(5)) else {
      Issue.record("kept")
      return
    }
  }
}
