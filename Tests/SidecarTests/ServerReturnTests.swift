import Base
import Execution
import Model
import TestSupport
import Testing

@testable import Sidecar

/// A server whose agent runs while the others change. It is 10.0.1.10; it was in a cluster with 10.0.1.2 and 10.0.1.3,
/// and 10.0.1.8 and 10.0.1.9 are the servers of now.
@Suite(.timeLimit(.minutes(5))) struct ServerReturnTests {
  private var sidecar: SidecarFixture
  private let others: [FakeConsulAgent]
  private static let raft = "/opt/consul/raft"
  private static let systemctl = "/bin/systemctl"

  init() {
    var sidecar = SidecarFixture()
    sidecar.settings.membership = .groups(["consul"])
    sidecar.aws.setGroups([FakeGroup("consul", desired: 3)])
    sidecar.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10", group: "consul"), FakeInstance("i-s8", ip: "10.0.1.8", group: "consul"),
      FakeInstance("i-s9", ip: "10.0.1.9", group: "consul"),
    ])
    sidecar.context.files.put(
      SidecarFixture.configuration,
      #"{"bind_addr": "10.0.1.10", "bootstrap_expect": 3, "node_name": "i-0aaa", "retry_join": ["10.0.1.2"]}"#)
    sidecar.context.files.put(Self.raft + "/raft.db", "data")
    sidecar.agent.set {
      $0.leader = nil
      $0.peers = ["10.0.1.2:8300", "10.0.1.3:8300", "10.0.1.10:8300"]
      $0.members = [.init("own", "10.0.1.10"), .init("old", "10.0.1.2", status: 4)]
    }
    let context = sidecar.context
    others = ["10.0.1.8", "10.0.1.9"].map { FakeConsulAgent(context, at: "\($0):8500") }
    self.sidecar = sidecar
    setOthers(leader: "10.0.1.8", peers: ["10.0.1.8", "10.0.1.9"])
    for verb in ["kill", "stop", "start"] { sidecar.context.launcher.run(Self.systemctl, [verb]) }
  }

  private func setOthers(leader: String?, peers: [String]) {
    for other in others {
      other.set {
        $0.leader = leader.map { "\($0):8300" }
        $0.peers = peers.map { "\($0):8300" }
      }
    }
  }

  private var target: String { "\(Self.raft).removed.\(sidecar.context.context.now().basic)" }
  private var configuration: JSONValue? {
    sidecar.context.files.text(SidecarFixture.configuration).flatMap { try? JSONValue(parsing: $0) }
  }
  private var actions: [String] { sidecar.context.launcher.commands.filter { $0.hasPrefix(Self.systemctl) } }

  /// Waits for so many reads of the agent's raft peers.
  private func looks(_ count: Int) async throws {
    try await sidecar.context.transport.request(to: "http://127.0.0.1:8500/v1/status/peers", number: count)
    try await sidecar.context.clock.settle()
  }

  /// It never returned: neither by itself, nor after a restart of the agent.
  @Test func `a server that was replaced starts empty within seconds`() async throws {
    try await sidecar.whileStaying { _ in
      try await sidecar.context.sink.record(containing: "renamed the raft data")
      #expect(sidecar.context.clock.uptime() < .seconds(10))
      #expect(sidecar.context.files.exists("\(target)/raft.db") && !sidecar.context.files.exists(Self.raft))
      _ = try await sidecar.context.launcher.launch("/bin/systemctl start consul.service")
    }
    #expect(
      actions == [
        "/bin/systemctl kill --signal=SIGKILL consul.service", "/bin/systemctl stop consul.service",
        "/bin/systemctl start consul.service",
      ])
    #expect(
      configuration == ["bind_addr": "10.0.1.10", "node_name": "i-0aaa", "retry_join": ["10.0.1.8", "10.0.1.9"]])
    #expect(
      sidecar.log.first == "error this server's raft data is not that of the living cluster; stopping the agent to "
        + "rename it and to join empty reason=\"the raft configuration that 10.0.1.8 reports does not name this "
        + "server: 10.0.1.8:8300, 10.0.1.9:8300\" servers=[\"10.0.1.8\",\"10.0.1.9\"]")
  }

  /// One look may hit the moment of a change. The second comes while the agent does not run: gossip, which may meet at
  /// any moment, would have the leader add a server whose higher term takes its leadership.
  @Test func `a single look renames nothing`() async throws {
    sidecar.context.launcher.onRun(Self.systemctl, ["stop"]) { _, _ in
      setOthers(leader: "10.0.1.8", peers: ["10.0.1.8", "10.0.1.9", "10.0.1.10"])
      return CommandResult(end: .exited(0), output: "")
    }
    try await sidecar.whileStaying { _ in
      _ = try await sidecar.context.launcher.launch("/bin/systemctl start consul.service")
      _ = try await sidecar.agent.joined(2)
      try await looks(20)
    }
    #expect(actions.count == 3 && sidecar.context.files.exists(Self.raft))
    #expect(
      sidecar.log.contains(
        #"warning the agent starts with its raft data again reason="the raft configuration that 10.0.1.8 reports "#
          + #"names this server""#))
    #expect(Set(sidecar.agent.joins) == ["10.0.1.8", "10.0.1.9"])
  }

  /// `consul leave` was undone: a server that leaves is removed from raft seconds before its agent ends.
  @Test(arguments: [false, true]) func `an agent that leaves is neither killed nor started`(isInWAN: Bool) async throws
  {
    sidecar.agent.set {
      $0.members[0] = .init("i-0aaa", "10.0.1.10", status: isInWAN ? 1 : 2)
      $0.wanMembers = [.init("i-0aaa.dc1", "10.0.1.10", status: isInWAN ? 3 : 1)]
    }
    try await sidecar.whileStaying { _ in try await looks(30) }
    #expect(actions.isEmpty && sidecar.agent.joins.isEmpty && sidecar.context.files.exists(Self.raft))
  }

  @Test func `where ACLs hide the members, an agent has the time to leave`() async throws {
    sidecar.agent.set { $0.members = [] }
    try await sidecar.whileStaying { _ in
      try await looks(12)
      #expect(actions.isEmpty)
      try await sidecar.context.sink.record(containing: "renamed the raft data")
    }
    #expect(sidecar.context.clock.uptime() >= .seconds(18) && sidecar.context.clock.uptime() < .seconds(25))
  }

  /// A rename that failed killed the agent at every look.
  @Test func `data that cannot be renamed leaves the agent running`() async throws {
    sidecar.context.files.fail(.rename, Self.raft, errno: 30)
    try await sidecar.whileStaying { _ in try await looks(10) }
    #expect(actions.count == 3 && actions.last == "/bin/systemctl start consul.service")
    #expect(
      sidecar.log.contains {
        $0.hasPrefix(
          "error cannot rename the raft data; the agent starts with it again reason=\"rename /opt/consul/raft")
      })
  }

  @Test func `a server that the leader still counts on joins the servers of now, and its configuration lists them`()
    async throws
  {
    setOthers(leader: "10.0.1.8", peers: ["10.0.1.8", "10.0.1.9", "10.0.1.10"])
    try await sidecar.whileStaying { _ in
      #expect(try await sidecar.agent.joined(2) == ["10.0.1.8", "10.0.1.9"])
      try await sidecar.context.sink.record(containing: "the servers have changed")
      #expect(sidecar.context.clock.uptime() < .seconds(10))
    }
    #expect(configuration?["retry_join"] == ["10.0.1.8", "10.0.1.9"] && configuration?["bootstrap_expect"] == nil)
    #expect(actions.isEmpty)
    #expect(
      sidecar.log == [
        "warning the agent does not know servers of the cluster; joining it to them "
          + #"servers=["10.0.1.8","10.0.1.9"]"#,
        "info the servers have changed; the agent's configuration lists those of now "
          + #"retry_join=["10.0.1.8","10.0.1.9"]"#,
      ])
  }

  @Test func `a list that the user has set is left alone`() async throws {
    var sidecar = sidecar
    sidecar.settings.overlays = [.init(origin: "--set retry_join", value: ["retry_join": ["10.0.1.2"]])]
    setOthers(leader: "10.0.1.8", peers: ["10.0.1.8", "10.0.1.9", "10.0.1.10"])
    try await sidecar.whileStaying { _ in
      _ = try await sidecar.agent.joined(2)
      try await looks(3)
    }
    #expect(configuration?["retry_join"] == ["10.0.1.2"])
  }

  /// Two calls for each server every half minute would be many.
  @Test func `a member of its cluster calls AWS every few minutes, and keeps its list current`() async throws {
    setOthers(leader: "10.0.1.8", peers: ["10.0.1.8", "10.0.1.9", "10.0.1.10"])
    setMember()
    try await sidecar.whileStaying { _ in
      try await looks(25)
      #expect(sidecar.aws.calls.isEmpty && configuration?["retry_join"] == ["10.0.1.2"])
      try await sidecar.context.sink.record(containing: "the servers have changed")
      #expect(sidecar.aws.calls("DescribeAutoScalingGroups").count == 1)
      #expect(sidecar.context.clock.uptime() >= .seconds(150) && sidecar.context.clock.uptime() < .seconds(460))
    }
    #expect(configuration?["retry_join"] == ["10.0.1.8", "10.0.1.9"] && sidecar.agent.joins.isEmpty)
  }

  /// Two calls for each list; a third one only to find the group again.
  @Test func `a member of the instance's own group asks AWS once which one that is`() async throws {
    var sidecar = sidecar
    sidecar.settings.membership = .ownGroup
    setOthers(leader: "10.0.1.8", peers: ["10.0.1.8", "10.0.1.9", "10.0.1.10"])
    setMember()
    try await sidecar.whileStaying { _ in
      try await sidecar.aws.call("DescribeAutoScalingGroups", number: 3)
      #expect(sidecar.aws.calls("DescribeAutoScalingInstances").count == 1)
      sidecar.aws.setGroups([FakeGroup("consul", desired: 2), FakeGroup("other", desired: 1)])
      sidecar.aws.change("i-0aaa") { $0.group = "other" }
      // The list in which it is missing, and the first one of its new group.
      try await sidecar.aws.call("DescribeAutoScalingGroups", number: 6)
      #expect(sidecar.aws.calls("DescribeAutoScalingInstances").count <= 3)
    }
    #expect(sidecar.aws.calls("DescribeAutoScalingGroups").last?.parameters.values.contains("other") == true)
  }

  private func setMember() {
    sidecar.agent.set {
      $0.leader = "10.0.1.8:8300"
      $0.peers = ["10.0.1.8:8300", "10.0.1.9:8300", "10.0.1.10:8300"]
      $0.members = [.init("own", "10.0.1.10"), .init("s8", "10.0.1.8"), .init("s9", "10.0.1.9")]
    }
  }

  /// A member looked at its agent every half minute: a short cut was noticed after it, and so was its end.
  @Test func `a member that loses its cluster is noticed within seconds, and calls AWS once it is no election`()
    async throws
  {
    setMember()
    try await sidecar.whileStaying { _ in
      try await looks(3)
      let start = sidecar.context.clock.uptime()
      sidecar.agent.set { $0.leader = nil }
      try await looks(5)
      #expect(sidecar.aws.calls.isEmpty)
      try await sidecar.context.sink.record(containing: "renamed the raft data")
      #expect(sidecar.context.clock.uptime() - start < .seconds(13))
    }
  }

  /// A leader that hears of a server which it knows to have left adds it at its reconciliation, every 60 s.
  @Test func `an empty server that the leader does not add is announced again, three times at most`() async throws {
    try sidecar.context.files.rename(Self.raft, to: "/opt/consul/old")
    sidecar.agent.set {
      $0.peers = []
      $0.members = [.init("own", "10.0.1.10"), .init("s8", "10.0.1.8"), .init("s9", "10.0.1.9")]
    }
    try await sidecar.whileStaying { _ in
      _ = try await sidecar.context.launcher.launch("/bin/systemctl start consul.service")
      #expect(sidecar.context.clock.uptime() < .seconds(10))
      try await looks(40)
    }
    #expect(actions.count == 9 && actions.prefix(3).last == "/bin/systemctl start consul.service")
    #expect(
      sidecar.log.first == "warning the leader has not added this server; restarting the agent, which has no raft "
        + "state reason=\"the raft configuration that 10.0.1.8 reports does not name this server: 10.0.1.8:8300, "
        + "10.0.1.9:8300\"")
  }

  /// It is named: its first logs are on their way.
  @Test func `an empty server that the leader has added is left alone`() async throws {
    setOthers(leader: "10.0.1.8", peers: ["10.0.1.8", "10.0.1.9", "10.0.1.10"])
    sidecar.agent.set {
      $0.peers = []
      $0.members = [.init("own", "10.0.1.10"), .init("s8", "10.0.1.8"), .init("s9", "10.0.1.9")]
    }
    try await sidecar.whileStaying { _ in try await looks(20) }
    #expect(actions.isEmpty)
  }

  /// In an outage every server looks: silence is no word.
  @Test func `while no server knows a leader nothing changes, and it is logged once`() async throws {
    setOthers(leader: nil, peers: ["10.0.1.8", "10.0.1.9"])
    try await sidecar.whileStaying { _ in try await looks(20) }
    #expect(actions.isEmpty && sidecar.agent.joins.isEmpty && sidecar.changes.isEmpty)
    #expect(
      sidecar.log == [#"warning this server is in no cluster yet reason="no other server knows a leader""#])
  }

  @Test func `under supervise the supervisor renames between two processes`() async throws {
    var sidecar = sidecar
    sidecar.settings.start = .supervise
    let agent = "/usr/local/bin/consul", context = sidecar.context
    context.launcher.start(agent)
    let supervisor = Supervisor(
      Command(agent, ["agent"]), owner: nil, mayBindLowPorts: false, copy: nil, context: context.context)
    try await running({ _ = try? await supervisor.run() }) {
      let first = try await context.launcher.process(1)
      try await sidecar.whileStaying { running in
        running.monitors(supervisor)
        try await first.signal(9)
        first.finish(.signalled(9))
        _ = try await context.launcher.process(2)
      }
      #expect(context.files.exists("\(target)/raft.db") && !context.files.exists(Self.raft))
    }
  }
}
