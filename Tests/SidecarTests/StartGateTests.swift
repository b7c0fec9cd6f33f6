import Base
import Consul
import Model
import TestSupport
import Testing

@testable import Sidecar

/// What runs before each start of a server's agent. The server is 10.0.1.10; it was in a cluster with 10.0.1.2.
@Suite(.timeLimit(.minutes(5))) struct StartGateTests {
  private var sidecar = SidecarFixture()
  private static let raft = "/opt/consul/raft"
  private static let configured =
    #"{"bind_addr": "10.0.1.10", "bootstrap_expect": 3, "node_name": "i-0aaa", "retry_join": ["10.0.1.2"]}"#
  private static let joining = """
    {
      "bind_addr": "10.0.1.10",
      "node_name": "i-0aaa",
      "retry_join": [
        "10.0.1.8",
        "10.0.1.9"
      ]
    }

    """

  init() {
    sidecar.context.files.put(SidecarFixture.configuration, Self.configured, mode: 0o640)
    sidecar.context.files.put(Self.raft + "/snapshots/1-2-3/state.bin", "state")
    sidecar.settings.membership = .groups(["consul"])
    sidecar.aws.setGroups([FakeGroup("consul", desired: 3)])
    sidecar.aws.setInstances([
      FakeInstance("i-0aaa", ip: "10.0.1.10", group: "consul"), FakeInstance("i-s8", ip: "10.0.1.8", group: "consul"),
      FakeInstance("i-s9", ip: "10.0.1.9", group: "consul"),
    ])
  }

  /// Agents of servers that report this leader and these peers.
  private func others(_ addresses: [String], leader: String?, peers: [String]) {
    for address in addresses {
      _ = FakeConsulAgent(sidecar.context, at: "\(address):8500") {
        $0.leader = leader.map { "\($0):8300" }
        $0.peers = peers.map { "\($0):8300" }
      }
    }
  }

  private func run() async throws {
    let planner = sidecar.planner
    try await StartGate(settings: sidecar.settings, context: sidecar.context.context, planner: planner).run()
  }

  private var hasRaft: Bool { sidecar.context.files.exists(Self.raft) }

  /// All servers that the configuration lists are gone: AWS names those of now.
  @Test func `data of a server that was replaced is renamed, and its configuration joins the servers of now`()
    async throws
  {
    others(["10.0.1.8", "10.0.1.9"], leader: "10.0.1.8", peers: ["10.0.1.8", "10.0.1.9"])
    try await run()
    let time = sidecar.context.context.now().basic
    #expect(!hasRaft && sidecar.context.files.exists("\(Self.raft).removed.\(time)/snapshots/1-2-3/state.bin"))
    #expect(sidecar.context.files.text(SidecarFixture.configuration) == Self.joining)
    #expect(sidecar.context.clock.uptime() >= .seconds(1))
    #expect(
      sidecar.log == [
        "error renamed the raft data of this server, which joins the cluster empty from=\"\(Self.raft)\" "
          + "to=\"\(Self.raft).removed.\(time)\" reason=\"the raft configuration that 10.0.1.8 reports does not name "
          + "this server: 10.0.1.8:8300, 10.0.1.9:8300\""
      ])
  }

  /// An empty server with bootstrap_expect could found a second cluster.
  @Test func `the configuration changes before the data is renamed`() async throws {
    others(["10.0.1.8", "10.0.1.9"], leader: "10.0.1.8", peers: ["10.0.1.8", "10.0.1.9"])
    sidecar.context.files.fail(.write, SidecarFixture.configuration, errno: 28)
    await #expect(throws: FileError.self) { try await run() }
    #expect(hasRaft)
  }

  @Test func `a configuration that is not known keeps the data`() async throws {
    others(["10.0.1.2"], leader: "10.0.1.2", peers: ["10.0.1.2"])
    sidecar.context.files.put(SidecarFixture.configuration, "bootstrap_expect = 3")
    try await run()
    #expect(hasRaft)
  }

  /// Added after the last run, which would have refused it: an empty server that waits for one server is a cluster.
  @Test(arguments: [
    "bootstrap_expect = 1", "server = true, bootstrap = true", "bootstrap_expect =",
  ])
  func `another file that may found a cluster keeps the data`(_ text: String) async throws {
    others(["10.0.1.8", "10.0.1.9"], leader: "10.0.1.8", peers: ["10.0.1.8", "10.0.1.9"])
    sidecar.context.files.put("/etc/consul.d/zz.hcl", text)
    let failure = await #expect(throws: Failure.self) { try await run() }
    #expect(failure?.message == "cannot rename the raft data beside /etc/consul.d/zz.hcl")
    #expect(failure?.hint == "remove bootstrap_expect and bootstrap there")
    #expect(hasRaft && sidecar.context.files.text(SidecarFixture.configuration) == Self.configured)
    sidecar.context.files.put("/etc/consul.d/zz.hcl", "bootstrap_expect = 0")
    try await run()
    #expect(!hasRaft)
  }

  /// A restart in a healthy cluster asks AWS for nothing, and waits for nothing.
  @Test func `the data of a server that the leader names stays`() async throws {
    others(["10.0.1.2"], leader: "10.0.1.2", peers: ["10.0.1.2", "10.0.1.10"])
    try await run()
    #expect(hasRaft && sidecar.aws.calls.isEmpty && sidecar.context.clock.uptime() == .zero)
    #expect(sidecar.changes.isEmpty)
  }

  // MARK: The cluster's identity

  private static let cluster = "11111111-2222-4333-8444-555555555555"
  private static let foreign = "99999999-2222-4333-8444-555555555555"

  private func isNamed(_ cluster: String) {
    sidecar.context.files.put(
      sidecar.settings.clusterIdentityPath, ClusterIdentity(cluster: cluster, epoch: 1).json.compactText)
  }

  @Test func `the data of another cluster is renamed although the leader names this server`() async throws {
    isNamed(Self.foreign)
    sidecar.context.files.put(
      SidecarFixture.configuration, Self.configured.replacing("10.0.1.2\"", with: "10.0.1.8\", \"10.0.1.9\""))
    others(["10.0.1.8", "10.0.1.9"], leader: "10.0.1.8", peers: ["10.0.1.8", "10.0.1.9", "10.0.1.10"])
    try await run()
    let time = sidecar.context.context.now().basic
    #expect(!hasRaft && sidecar.context.files.exists("\(Self.raft).diverged.\(time)/snapshots/1-2-3/state.bin"))
    #expect(sidecar.context.files.exists("\(sidecar.settings.clusterIdentityPath).diverged.\(time)"))
    #expect(sidecar.context.files.text(SidecarFixture.configuration) == Self.joining)
    #expect(sidecar.aws.calls.isEmpty && sidecar.log.first?.contains("it held the data of cluster") == true)
  }

  @Test func `the data of the leader's cluster stays, after one question`() async throws {
    isNamed(Self.cluster)
    others(["10.0.1.2"], leader: "10.0.1.2", peers: ["10.0.1.2", "10.0.1.10"])
    try await run()
    #expect(hasRaft && sidecar.context.clock.uptime() == .zero && sidecar.changes.isEmpty)
    #expect(sidecar.context.streams.requests.count == 2)
  }

  /// Not known is not another.
  @Test func `a cluster without a name, or one whose name ACLs hide, keeps the data`() async throws {
    isNamed(Self.foreign)
    let agent = FakeConsulAgent(sidecar.context, at: "10.0.1.2:8500") {
      $0.leader = "10.0.1.2:8300"
      $0.peers = ["10.0.1.2:8300", "10.0.1.10:8300"]
      $0.identity = nil
    }
    try await run()
    agent.set {
      $0.identity = ["cluster": .string(Self.cluster), "epoch": 1]
      $0.requiredToken = "secret"
    }
    try await run()
    #expect(hasRaft && sidecar.context.clock.uptime() == .zero)
    sidecar.context.files.put(
      SidecarFixture.configuration,
      Self.configured.replacing("{", with: #"{"acl": {"tokens": {"agent": "secret"}}, "#, maxReplacements: 1))
    try await run()
    #expect(!hasRaft)
  }

  @Test func `a name that is another only once keeps the data`() async throws {
    isNamed(Self.foreign)
    others(["10.0.1.2"], leader: "10.0.1.2", peers: ["10.0.1.2", "10.0.1.10"])
    let status = ClusterStatus(leader: "10.0.1.2:8300", peers: ["10.0.1.2:8300", "10.0.1.10:8300"])
    let clock = sidecar.context.clock
    sidecar.context.streams.on("10.0.1.2:8300") { request in
      guard request.body.contains(Array("KVS.Get".utf8)) else { return RaftPortAnswer.status(status) }
      let cluster = clock.uptime() == .zero ? Self.cluster : Self.foreign
      return try RaftPortAnswer.key(["cluster": .string(cluster), "epoch": 1], token: nil, request.body)
    }
    try await run()
    #expect(hasRaft)
  }

  /// The port that another file sets was not known: raft's names of this server seemed to be another server's.
  @Test func `the data of a server whose raft port another file sets stays`() async throws {
    sidecar.context.files.put("/etc/consul.d/image.hcl", "ports { server = 9300 }")
    _ = FakeConsulAgent(sidecar.context, at: "10.0.1.2:8500") {
      $0.leader = "10.0.1.2:9300"
      $0.peers = ["10.0.1.2:9300", "10.0.1.10:9300"]
    }
    try await run()
    #expect(hasRaft && Set(sidecar.context.streams.requests.map(\.port)) == [9300])
  }

  /// Under raft protocol 3 a server keeps its vote at a new address; the leader names the old one until it has joined.
  @Test func `the data of a server that the leader names by a former address stays`() async throws {
    others(["10.0.1.2"], leader: "10.0.1.2", peers: ["10.0.1.2", "10.0.1.99"])
    sidecar.context.files.put(
      "/opt/consul/serf/local.snapshot",
      "alive: other 10.0.1.2:8301\nalive: i-0aaa 10.0.1.99:8301\nclock: 7\nalive: i-0aaa 10.0.1.10:8301\n")
    try await run()
    #expect(hasRaft)
  }

  /// Another node's line is not this server's.
  @Test func `the gossip snapshot's other members are not this server`() async throws {
    others(["10.0.1.2"], leader: "10.0.1.2", peers: ["10.0.1.2", "10.0.1.99"])
    sidecar.context.files.put("/opt/consul/serf/local.snapshot", "alive: i-0aaab 10.0.1.99:8301\n")
    try await run()
    #expect(!hasRaft)
  }

  @Test func `where nothing answers the agent starts as it is`() async throws {
    sidecar.aws.fail("DescribeAutoScalingGroups", .timedOut(whileConnecting: true), times: 100)
    try await run()
    #expect(hasRaft && sidecar.context.clock.uptime() <= .seconds(5))
    #expect(sidecar.changes.isEmpty)
  }

  /// A leader that has just lost its majority still names itself.
  @Test func `a leader that is none a second later renames nothing`() async throws {
    others(["10.0.1.8"], leader: nil, peers: ["10.0.1.8", "10.0.1.9"])
    sidecar.context.transport.answer(
      "http://10.0.1.8:8500/v1/status/leader", "\"10.0.1.8:8300\"", times: 1)
    try await run()
    #expect(hasRaft)
  }

  @Test func `an empty server, and a client, are let through at once`() async throws {
    sidecar.context.files.delete(Self.raft)
    try await run()
    var client = Self()
    client.sidecar.settings.role = .client
    try await client.run()
    #expect(client.sidecar.context.transport.requests.isEmpty)
    #expect(sidecar.context.transport.requests.isEmpty)
  }
}
