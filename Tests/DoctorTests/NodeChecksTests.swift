import Base
import Model
import TestSupport
import Testing

@testable import Doctor

/// When `doctor` checks the node as `status` does, and what it knows besides. What is a problem is in
/// `NodeProblemTests`.
@Suite(.timeLimit(.minutes(5))) struct NodeChecksTests {
  private var doctor = DoctorFixture()
  private var context: TestContext { doctor.context }

  private func hasRun(on instance: String = "i-0aaa") {
    context.files.put(
      "/etc/consul.d/00-consul-bootstrap.json", #"{"datacenter": "dc1", "bind_addr": "10.0.1.10", "server": true}"#)
    context.files.put("/var/lib/consul-bootstrap/instance.json", #"{"instance_id": "\#(instance)"}"#)
  }

  @Test func `before a run no agent has to answer, nor one whose configuration an image brought`() async throws {
    #expect(try await doctor.findings("agent") == [])
    hasRun(on: "i-baked")
    #expect(try await doctor.findings("agent") == [])
  }

  @Test func `after a run the agent has to answer`() async throws {
    hasRun()
    #expect(
      try await doctor.findings("agent") == [
        "problem agent: the agent does not answer on 127.0.0.1:8500: connection refused; "
          + "hint: start the agent: run consul-bootstrap again"
      ])
  }

  @Test func `a healthy agent is named with its leader`() async throws {
    hasRun()
    FakeConsulAgent(context).setCluster([("a", "10.0.1.10")])
    #expect(
      try await doctor.findings("agent") == ["ok agent: answers on 127.0.0.1:8500, leader 10.0.1.10:8300"])
  }

  /// The fixture installs 1.20.1.
  @Test(arguments: [("1.21.0:aa", true), ("1.20.1:bb", false), ("1.19.2:cc", false)])
  func `an installed release that is older than the agent's is noted`(build: String, isNoted: Bool) async throws {
    hasRun()
    let agent = FakeConsulAgent(context) {
      $0.agentSelf = ["Member": ["Addr": "10.0.1.10", "Tags": ["port": "8300"]]]
    }
    agent.setCluster([("a", "10.0.1.10")])
    agent.set { $0.members[0].build = build }
    let note =
      "note cluster: the agent runs Consul 1.21.0, and 1.20.1 is installed: a restart would go backwards, and an "
      + "older release may not read the raft data of a newer one; hint: install the release that the servers run"
    #expect(try await doctor.findings("cluster").contains(note) == isNoted)
  }

  /// Each of them was fine by itself.
  @Test func `servers of the group that are missing, and that are of another cluster`() async throws {
    hasRun()
    doctor.aws.setGroups([FakeGroup(desired: 2)])
    doctor.aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10"), FakeInstance("i-0bbb", ip: "10.0.1.11")])
    context.ports.set("10.0.1.11", to: .open)
    FakeConsulAgent(context).setCluster([("a", "10.0.1.10")])
    FakeConsulAgent(context, at: "10.0.1.11:8500").setCluster([("b", "10.0.1.11")])
    #expect(
      try await doctor.findings("agent").dropFirst() == [
        "problem agent: there are two clusters: server 10.0.1.11 follows leader 10.0.1.11:8300, this server follows "
          + "10.0.1.10:8300; hint: compare the data of both, keep the cluster that is right, and replace the servers "
          + "of the other one: they join empty",
        "problem agent: 1 of 2 servers are in the raft configuration (desired capacity); hint: check why they are "
          + "missing: aws autoscaling describe-scaling-activities",
      ])
  }

  @Test func `options that name another datacenter than the agent's`() async throws {
    var doctor = doctor
    hasRun()
    doctor.settings.datacenter = "dc2"
    FakeConsulAgent(context) { $0.agentSelf = ["Config": ["Datacenter": "dc1", "Server": true]] }
      .setCluster([("a", "10.0.1.10")])
    #expect(
      try await doctor.findings("agent").last
        == "problem agent: the agent runs with other options: datacenter is dc1, not dc2; hint: run consul-bootstrap "
        + "again with the options of this machine")
  }
}
