import Base
import Model
import TestSupport
import Testing

@testable import Sidecar

/// The group ends 10.0.1.10, which has data and no leader, and so may be the last with it.
@Suite(.timeLimit(.minutes(5))) struct ForcedTerminationTests {
  /// G4. The sidecar waited on to the hook's end, and abandoned it.
  @Test func `the instance ends once a person has forced its server to leave`() async throws {
    var fixture = SidecarFixture()
    let context = fixture.context, aws = fixture.aws, agent = fixture.agent
    fixture.settings.terminationHook = "ending"
    fixture.settings.membership = .groups(["consul"])
    var group = FakeGroup("consul", desired: 1, hooks: ["ending"])
    (group.heartbeatTimeout, group.globalTimeout) = (300, 3600)
    aws.setGroups([group])
    aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10", group: "consul")])
    aws.change("i-0aaa") { $0.lifecycle = "Terminating:Wait" }
    fixture.metadata.set("/latest/meta-data/autoscaling/target-lifecycle-state", "Terminated")
    context.files.put(
      SidecarFixture.configuration,
      #"{"bind_addr": "10.0.1.10", "node_name": "own", "retry_join": ["10.0.1.11"]}"#, mode: 0o640)
    context.files.put("/opt/consul/raft/raft.db", "data")
    agent.set { state in
      state.leader = nil
      state.endsOnLeave = true
    }
    let sidecar = fixture.sidecar(), instance = try await fixture.instance()
    let task = Task { await sidecar.watchNotices(at: instance) }
    defer { task.cancel() }
    try await context.clock.sleep(for: .seconds(100))
    #expect(aws.completedHooks.isEmpty && agent.changes.isEmpty)
    let departure = Departure(settings: fixture.settings, context: context.context)
    #expect(try await departure.force() == .left)
    try await context.clock.sleep(for: .seconds(20))
    #expect(aws.completedHooks == ["ending consul i-0aaa CONTINUE"])
  }
}
