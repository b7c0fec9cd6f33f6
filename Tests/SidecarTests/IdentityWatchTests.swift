import Base
import Model
import TestSupport
import Testing

@testable import Sidecar

/// A server, 10.0.1.10, in a cluster with 10.0.1.8 and 10.0.1.9, the first of which leads.
@Suite(.timeLimit(.minutes(5))) struct IdentityWatchTests {
  private let sidecar: SidecarFixture
  private static let file = "/var/lib/consul-bootstrap/cluster.json"
  private static let report = "/var/lib/consul-bootstrap/identity.json"
  private static let foreign: JSONValue = ["cluster": "foreign", "epoch": 1]
  private static let reason =
    "its own data is of cluster foreign, the leader's is of 11111111-2222-4333-8444-555555555555"

  init() {
    sidecar = SidecarFixture()
    sidecar.agent.setCluster([("s8", "10.0.1.8"), ("s9", "10.0.1.9"), ("own", "10.0.1.10")])
    sidecar.context.files.put(
      SidecarFixture.configuration, #"{"bind_addr": "10.0.1.10", "node_name": "own", "retry_join": ["10.0.1.8"]}"#)
    sidecar.context.files.put("/opt/consul/raft/raft.db", "data")
    for verb in ["kill", "stop", "start"] { sidecar.context.launcher.run("/bin/systemctl", [verb]) }
  }

  private func text(_ path: String) -> JSONValue? {
    sidecar.context.files.text(path).flatMap { try? JSONValue(parsing: $0) }
  }

  private var actions: [String] { sidecar.context.launcher.commands.filter { $0.hasPrefix("/bin/systemctl") } }

  /// Waits for so many checks.
  private func checks(_ count: Int) async throws {
    try await sidecar.context.transport.request(to: "http://127.0.0.1:8500/v1/operator/autopilot", number: count)
    try await sidecar.context.clock.settle()
  }

  @Test func `the leader names the cluster, and the name is copied to the server`() async throws {
    sidecar.agent.set {
      $0.identity = nil
      $0.leader = "10.0.1.10:8300"
    }
    sidecar.context.files.delete(Self.file)
    try await sidecar.whileStaying { _ in
      _ = try await sidecar.context.files.change { if case .write(Self.file, _, _) = $0 { true } else { false } }
    }
    let name = text(Self.file)?["cluster"]?.string ?? ""
    #expect(name.wholeMatch(of: /[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/) != nil)
    #expect(sidecar.log == [#"info named the cluster cluster="\#(name)" key="consul-bootstrap/cluster""#])
  }

  @Test func `a follower names nothing`() async throws {
    sidecar.agent.set { $0.identity = nil }
    try await sidecar.whileStaying { _ in
      try await sidecar.context.transport.request(to: "http://127.0.0.1:8500/v1/kv/", number: 5)
    }
    #expect(sidecar.context.transport.requests.allSatisfy { $0.method == "GET" || !$0.url.contains("/kv/") })
  }

  /// Every 5 s three requests of each server, one of them through the leader, would be many.
  @Test func `the same cluster is checked every five minutes, and after a change of its leader`() async throws {
    try await sidecar.whileStaying { _ in
      try await checks(2)
      #expect(sidecar.context.clock.uptime() > .seconds(300) && sidecar.context.clock.uptime() < .seconds(330))
      sidecar.agent.set { $0.leader = "10.0.1.9:8300" }
      try await checks(3)
      #expect(sidecar.context.clock.uptime() < .seconds(350))
    }
    #expect(sidecar.changes.isEmpty && sidecar.log.isEmpty)
  }

  /// It stayed a voter, served its old keys, and everything said healthy.
  @Test func `a server with foreign data is reported within a minute and starts empty`() async throws {
    sidecar.agent.set { $0.ownIdentity = Self.foreign }
    try await sidecar.whileStaying { _ in
      _ = try await sidecar.context.launcher.launch("/bin/systemctl start consul.service")
      #expect(sidecar.context.clock.uptime() <= .seconds(60))
      let time = sidecar.context.context.now().basic
      #expect(sidecar.context.files.exists("/opt/consul/raft.diverged.\(time)/raft.db"))
      #expect(sidecar.context.files.exists("\(Self.file).diverged.\(time)") && !sidecar.context.files.exists(Self.file))
      #expect(text(Self.report)?["divergence"] == .string(Self.reason))
      sidecar.agent.set { $0.ownIdentity = nil }
      _ = try await sidecar.context.files.change { if case .write(Self.file, _, _) = $0 { true } else { false } }
    }
    #expect(text(Self.report)?["divergence"] == .null)
    #expect(
      sidecar.log.prefix(2) == [
        "warning this server's data may not be that of its cluster; looking again reason=\"\(Self.reason)\"",
        "error this server has diverged from its cluster reason=\"\(Self.reason)\"",
      ])
  }

  @Test func `a divergence that the second look does not find changes nothing`() async throws {
    sidecar.agent.set { $0.appliedIndex = 11 }
    try await sidecar.whileStaying { _ in
      try await sidecar.context.sink.record(containing: "looking again")
      sidecar.agent.set { $0.leaderLastIndex = 11 }
      try await checks(3)
    }
    #expect(actions.isEmpty && sidecar.changes.isEmpty)
  }

  /// Never take the quorum away.
  @Test func `a server without which the others lose their quorum keeps its data, and is reported`() async throws {
    sidecar.agent.set {
      $0.ownIdentity = Self.foreign
      $0.members = [.init("s8", "10.0.1.8"), .init("s9", "10.0.1.9", status: 4), .init("own", "10.0.1.10")]
    }
    try await sidecar.whileStaying { _ in
      try await sidecar.context.sink.record(containing: "this server keeps its data")
    }
    #expect(actions.isEmpty && text(Self.report)?["divergence"] == .string(Self.reason))
  }

  @Test func `without the right to the key that is logged once, and nothing is checked`() async throws {
    sidecar.agent.set { $0.refusals["/v1/kv/consul-bootstrap/cluster"] = (403, "Permission denied") }
    try await sidecar.whileStaying { _ in
      try await sidecar.context.sink.record(containing: "ACLs forbid")
      try await sidecar.context.clock.sleep(for: .seconds(900))
    }
    #expect(
      sidecar.log == [
        "warning ACLs forbid to read or write consul-bootstrap/cluster: the identity of the cluster is not checked "
          + #"hint="set --agent-token to a token with key:write on consul-bootstrap/cluster""#
      ])
  }
}
