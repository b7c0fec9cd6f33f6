import Base
import Model
import TestSupport
import Testing

@testable import Sidecar

/// What a server saw has to be true when it leaves.
extension DepartureTests {
  /// Its session has ended meanwhile, and another server may have left.
  @Test func `a process that was paused between the guard and the leave looks again`() async throws {
    let context = context, agent = agent
    let departure = Departure(
      settings: fixture.settings, context: context.context,
      desiredCapacity: {
        do { try await context.clock.sleep(for: .seconds(60)) } catch { return nil }
        agent.set { state in
          state.leaveLock = ("other", "i-0ccc")
          state.sessions = ["other"]
        }
        return 2
      })
    let outcome = try await departure.run(
      Notice(.termination, deadline: .seconds(100), patientUntil: .seconds(300)))
    #expect(outcome == .kept(reason: "i-0ccc leaves") && agent.changes.isEmpty)
  }

  private func leadsBesideThoseThatHaveLeft() {
    agent.set { state in
      state.leader = "10.0.1.10:8300"
      state.members += (1...8).map { .init("left-\($0)", "10.0.1.3\($0)", status: 3) }
    }
    for number in 1...8 { context.ports.set("10.0.1.3\(number)", .tcp, port: 8300, to: .silent) }
  }

  @Test func `a leader probes those that have left at the same time`() async throws {
    leadsBesideThoseThatHaveLeft()
    #expect(try await leave() == .left)
    #expect(context.clock.uptime() < .seconds(3))
  }

  /// The probes of those that had left came after the guard: eight seconds in which the quorum went.
  @Test func `a leader looks at the voters after the probes`() async throws {
    leadsBesideThoseThatHaveLeft()
    async let outcome = leave(within: .seconds(10))
    try await context.clock.sleep(for: .milliseconds(500))
    peers[1].set { $0.failure = .refused }
    guard case .kept(let reason) = try await outcome else {
      Issue.record("left")
      return
    }
    #expect(reason.hasSuffix("missing: i-0ccc (10.0.1.12:8300)") && agent.changes.isEmpty)
  }

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

  // MARK: By force

  private func force() async throws -> Departure.Outcome {
    try await Departure(settings: fixture.settings, context: context.context).force()
  }

  /// No other can confirm it.
  @Test(arguments: ["the only one", "without a leader"])
  func `by force a server has left once its agent has ended`(_ kind: String) async throws {
    for peer in peers { peer.set { $0.leader = nil } }
    if kind == "the only one" { agent.setCluster([("own", "10.0.1.10")]) } else { agent.set { $0.leader = nil } }
    agent.set { state in
      state.endsOnLeave = true
      state.onLeave = nil
    }
    #expect(try await force() == .left)
    #expect(context.clock.uptime() < .seconds(2))
    #expect(try report?.phase == .left)
  }

  @Test func `by force a server whose agent runs on has not left`() async throws {
    agent.set { $0.onLeave = nil }
    #expect(
      try await force() == .kept(reason: "no other server has confirmed yet that this one has left"))
    agent.set { $0.failure = .refused }
    #expect(try await force() == .nothingToLeave(reason: "the agent does not run"))
  }

  @Test func `a release counts for a notice of before only`() async throws {
    for server in peers + [agent] { server.set { $0.leader = nil } }
    agent.set { $0.endsOnLeave = true }
    #expect(try await force() == .left)
    try await context.clock.sleep(for: .seconds(1))
    async let outcome = leave(.termination, within: .seconds(90))
    try await context.clock.sleep(for: .seconds(60))
    #expect(try report?.phase == .waiting)
    _ = try await force()
    #expect(try await outcome == .nothingToLeave(reason: "leave --force has released this server"))
  }
}
