import Base
import TestSupport
import Testing

@testable import Model
@testable import Observers

/// The wait for instances that do not count and may hold a cluster's data.
@Suite(.timeLimit(.minutes(5))) struct UnknownServerTests {
  private var flow = Flow()

  /// Guards against a second cluster beside servers on standby.
  @Test func `a server that does not count and does not answer is waited for, and named at the end`() async {
    var flow = flow
    flow.settings.waitTimeout = .seconds(20)
    flow.aws.setInstances(Flow.three + [FakeInstance("i-9", ip: "10.0.1.99", lifecycle: "Standby")])
    flow.context.silenceAgent(at: "10.0.1.99")
    let failed = await failure { [flow] in _ = try await flow.wait() }
    let reason = "not known whether i-9 (lifecycle state Standby) has a cluster's data"
    #expect(failed?.status == .groupIncomplete && failed?.message.hasSuffix(": \(reason)") == true)
    #expect(
      failed?.hint == "repair or terminate that instance; if the data will not come back, say so with "
        + "--assume-dead INSTANCE")
    #expect(flow.elapsed >= .seconds(20) && flow.elapsed <= .seconds(22))
    #expect(
      failed?.details.contains("10.0.1.99 (i-9, lifecycle state Standby): unknown, port 8300: no connection in time")
        == true)
    #expect(flow.log.progress.first?.message == reason)
  }

  @Test func `once it is terminated, the new cluster is formed`() async throws {
    let standby = FakeInstance("i-9", ip: "10.0.1.99", lifecycle: "Standby")
    flow.aws.setInstances(Flow.three + [standby])
    flow.context.silenceAgent(at: "10.0.1.99")
    let flow = flow
    async let seen = flow.wait()
    try await flow.log.record(containing: "not known whether", number: 2)
    var gone = standby
    (gone.state, gone.ip) = ("terminated", nil)
    flow.aws.setInstances(Flow.three + [gone])
    let observation = try await seen
    #expect(observation.peers.count == 2)
  }
}
