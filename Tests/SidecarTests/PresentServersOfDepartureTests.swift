import Base
import Consul
import Model
import TestSupport
import Testing

@testable import Sidecar

/// The sidecar of 10.0.1.10 was killed after its agent had left, and the servers that it knew were replaced meanwhile.
@Suite(.timeLimit(.minutes(5))) struct PresentServersOfDepartureTests {
  /// Found by the random nemesis: the hook was held to its end.
  @Test(arguments: [true, false])
  func `a server that has left finds the present servers of its cluster`(_ isSame: Bool) async throws {
    var fixture = SidecarFixture()
    let context = fixture.context
    fixture.settings.terminationHook = "ending"
    fixture.settings.membership = .groups(["consul"])
    fixture.aws.setGroups([FakeGroup("consul", desired: 1, hooks: ["ending"])])
    fixture.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10", group: "consul"),
      FakeInstance("i-0eee", ip: "10.0.1.21", group: "consul"),
    ])
    fixture.aws.change("i-0aaa") { $0.lifecycle = "Terminating:Wait" }
    fixture.metadata.set("/latest/meta-data/autoscaling/target-lifecycle-state", "Terminated")
    fixture.agent.set { $0.failure = .refused }
    FakeConsulAgent(context, at: "10.0.1.11:8500").set { $0.failure = .refused }
    FakeConsulAgent(context, at: "10.0.1.21:8500").setCluster([("i-0eee", "10.0.1.21")])
    context.files.put(
      SidecarFixture.configuration,
      #"{"bind_addr": "10.0.1.10", "node_name": "own", "retry_join": ["10.0.1.11"]}"#, mode: 0o640)
    context.files.put("/opt/consul/raft/raft.db", "data")
    let cluster = isSame ? "11111111-2222-4333-8444-555555555555" : "22222222-2222-4333-8444-555555555555"
    context.files.put(
      fixture.settings.clusterIdentityPath, ClusterIdentity(cluster: cluster, epoch: 1).json.compactText)
    let sidecar = fixture.sidecar(), instance = try await fixture.instance()
    let task = Task { await sidecar.watchNotices(at: instance) }
    defer { task.cancel() }
    try await context.clock.sleep(for: .seconds(60))
    #expect(fixture.aws.completedHooks == (isSame ? ["ending consul i-0aaa CONTINUE"] : []))
  }
}
