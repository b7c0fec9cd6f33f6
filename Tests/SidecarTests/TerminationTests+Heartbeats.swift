import AWS
import Base
import Model
import Observers
import TestSupport
import Testing

@testable import Sidecar

/// The wait for a replacement: of four servers one is dead, and three are enough for a quorum without this one.
extension TerminationTests {
  /// When it leaves, by uptime; the notice comes after some five seconds.
  private func leaves(wait: Duration = .seconds(300), pausedAt: Int? = nil) async throws -> Duration {
    var other = self
    other.fixture.settings.leaveWait = wait
    agent.set { $0.members[3].status = 4 }
    terminate()
    if let pausedAt { try await other.whileWatching { try await time(pausedAt) } }
    try await other.whileWatching { try await agent.changed("leave") }
    return context.clock.uptime()
  }

  @Test func `a server waits for its replacement for as long as the option says`() async throws {
    #expect(try await (.seconds(300)...(.seconds(315))).contains(leaves()))
  }

  /// The hook ended after 300 s, as the wait did, and with its default result CONTINUE the server died as a voter.
  @Test func `where AWS refuses heartbeats, it leaves before the hook's only time-out`() async throws {
    aws.refuse("RecordLifecycleActionHeartbeat", .accessDenied)
    #expect(try await (.seconds(240)...(.seconds(255))).contains(leaves()))
  }

  @Test func `heartbeats that begin late or end early bound the wait, too`() async throws {
    aws.fail("RecordLifecycleActionHeartbeat", .timedOut(whileConnecting: true))
    let watch = Task {
      try await time(60)
      aws.recover("RecordLifecycleActionHeartbeat")
      try await time(200)
      aws.refuse("RecordLifecycleActionHeartbeat", .accessDenied)
    }
    let uptime = try await leaves(wait: .seconds(3000))
    _ = try await watch.value
    // 240 s after the last of them, which was some time in the hundred seconds before.
    #expect(uptime >= .seconds(400) && uptime <= .seconds(520), "\(uptime)")
  }

  @Test func `a process that goes on waits for its first heartbeat`() async throws {
    #expect(try await (.seconds(500)...(.seconds(515))).contains(leaves(wait: .seconds(500), pausedAt: 400)))
  }

  /// Its first look may come before the answer to its first heartbeat.
  @Test func `a process that goes on late holds the hook for some seconds`() async throws {
    try await time(400)
    let instance = try await fixture.instance(), start = context.clock.uptime()
    let hook = TerminationHook(
      "ending", group: "consul", instanceID: "i-0aaa", client: instance.client, context: context.context)
    #expect(hook.heldUntil(since: .seconds(5)) == start + .seconds(10))
    try await hook.readTimeouts()
    #expect(hook.heldUntil(since: .seconds(5)) == start + .seconds(10))
    #expect(hook.heldUntil(since: start) == start + .seconds(240))
  }

  /// Each attempt is an entry in raft.
  @Test(arguments: [false, true])
  func `a wait of hours asks for the lock every ten seconds, and ends soon`(isRetained: Bool) async throws {
    context.system.setBootedBySystemd(false)
    agent.set { for index in [2, 3] { $0.members[index].status = 4 } }
    var group = FakeGroup("consul", desired: 4, hooks: ["ending"])
    (group.heartbeatTimeout, group.globalTimeout) = isRetained ? (30, 90) : (3600, 7200)
    aws.setGroups([group])
    let lock = "http://127.0.0.1:8500/v1/kv/consul-bootstrap/leave?acquire"
    var attempts: Int { context.transport.requests(to: lock).count }
    terminate()
    try await whileWatching {
      try await time(20)
      #expect((10...30).contains(attempts), "\(attempts)")
      try await time(30)
      if isRetained { aws.change("i-0aaa") { $0.lifecycle = "Terminating:Retained" } }
      try await time(450)
      let before = attempts
      try await time(200)
      #expect((13...30).contains(attempts - before), "\(attempts - before)")
      agent.set { for index in [2, 3] { $0.members[index].status = 1 } }
      let safe = context.clock.uptime()
      try await agent.changed("leave")
      #expect(context.clock.uptime() - safe <= .seconds(14))
    }
  }

  @Test func `without systemd a retained instance that has left says that nothing ends it`() async throws {
    context.system.setBootedBySystemd(false)
    aws.change("i-0aaa") { $0.lifecycle = "Terminating:Retained" }
    fixture.metadata.set("/latest/meta-data/autoscaling/target-lifecycle-state", "Terminated")
    try await whileWatching {
      try await agent.changed("leave")
      try await time(60)
    }
    #expect(
      fixture.log(.error) == [
        "error this instance has left and is retained: without systemd it is not shut down, terminate it"
      ])
  }
}
