import Base
import Consul
import Model
import TestSupport
import Testing

@testable import Doctor

/// Every situation that `status --check` reports, with its one hint, and those that look alike and are none.
@Suite(.timeLimit(.minutes(5))) struct NodeProblemTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let change: @Sendable (inout NodeFixture) -> Void
    let problems: [String]
    let notes: [String]

    init(
      _ name: String, _ problems: String..., notes: [String] = [],
      change: @escaping @Sendable (inout NodeFixture) -> Void
    ) {
      (testDescription, self.problems, self.notes, self.change) = (name, problems, notes, change)
    }
  }

  @Test(arguments: cluster + vote + process + sidecar + others) func `a node`(_ example: Case) async throws {
    var node = NodeFixture()
    // Longer than any interval, so that what has just started can be told from what runs.
    try await node.context.clock.sleep(for: .seconds(3600))
    node.putSidecar()
    example.change(&node)
    #expect(await node.problems() == example.problems)
    #expect(await node.status().notes == example.notes)
  }
}

/// What is wrong with the agent and its cluster.
extension NodeProblemTests {
  // MARK: The cluster

  static let securityGroups =
    "hint: allow 8300 tcp and 8301 tcp and udp between the servers in the security groups, and check the log of each "
    + "server"
  static let startServers =
    "hint: start these servers again with their data; if it is lost, run consul-bootstrap recover "
    + "on a server that has data"
  static let replace =
    "hint: start these servers again, or replace them; then `consul operator raft list-peers` is complete"

  static let cluster = [
    Case("without a leader", "the agent knows no leader; \(securityGroups)") { node in
      node.agent.set { $0.leader = nil }
    },
    Case("before the first election, which has no raft peers yet", "the agent knows no leader; \(securityGroups)") {
      node in
      node.setHealthyCluster(expect: 3)
      node.agent.set { ($0.leader, $0.peers) = (nil, []) }
    },
    Case(
      "without its majority",
      "the agent knows no leader: 1 of 3 servers are alive, a quorum is 2; not alive: b (10.0.1.11), c (10.0.1.12); "
        + startServers
    ) { node in
      node.agent.set { state in
        state.leader = nil
        for index in 1...2 { state.members[index].status = 4 }
      }
    },
    Case(
      "whose majority is gone although it still knows a leader",
      "1 of 3 servers are alive, a quorum is 2; not alive: b (10.0.1.11), c (10.0.1.12); \(startServers)"
    ) { node in
      node.agent.set { state in for index in 1...2 { state.members[index].status = 4 } }
    },
    Case(
      "with one dead server of three", "2 of 3 servers are alive; not alive: c (10.0.1.12); \(replace)"
    ) { node in
      node.agent.set { $0.members[2].status = 4 }
    },
    Case("with a raft peer that gossip has forgotten", "2 of 3 servers are alive; not alive: 10.0.1.12; \(replace)") {
      node in
      node.agent.set { $0.members.removeLast() }
    },
    Case("beside a server that has left in order") { node in
      node.setHealthyCluster()
      node.agent.set { $0.members.append(.init("d", "10.0.1.13", status: 3)) }
    },
    Case("beside clients, dead or alive") { node in
      node.agent.set { state in
        state.members += [.init("x", "10.0.9.1", isServer: false), .init("y", "10.0.9.2", status: 4, isServer: false)]
      }
    },
    Case(
      "beside a server without a vote that is not in raft yet",
      notes: ["alive, but not in the raft configuration: d"]
    ) { node in
      node.agent.set { $0.members.append(.init("d", "10.0.1.13")) }
    },
    Case(
      "with conflicting numbers and no leader",
      "the agent knows no leader: the servers disagree on bootstrap_expect: 3 on a, c; 5 on b; "
        + "hint: run consul-bootstrap on every server with the same --expect"
    ) { node in
      node.setHealthyCluster(expect: 3)
      node.agent.set { ($0.leader, $0.peers, $0.members[1].expect) = (nil, [], 5) }
    },
    Case(
      "with conflicting numbers and a leader",
      notes: ["the servers disagree on bootstrap_expect, which matters only without a leader: 3 on a, c; 5 on b"]
    ) { node in
      node.setHealthyCluster(expect: 3)
      node.agent.set { $0.members[1].expect = 5 }
    },
    Case("with a server that joined, without a number") { node in
      node.setHealthyCluster(expect: 3)
      node.agent.set { $0.members[1].expect = nil }
    },
  ]

  // MARK: This server

  static let twoClusters =
    "there are two clusters: server 10.0.1.21 follows leader 10.0.1.21:8300, this server follows 10.0.1.10:8300; hint: "
    + "compare the data of both, keep the cluster that is right, and replace the servers of the other one: they join "
    + "empty"

  static let vote = [
    Case(
      "that is no voter",
      "this server (10.0.1.10:8300) is not a raft voter; hint: wait for --server-stabilization-time; then compare "
        + "`consul operator raft list-peers` with the agent's log"
    ) { node in
      node.agent.set { $0.servers[0].isVoter = false }
    },
    Case(
      "that raft does not have",
      "this server (10.0.1.10:8300) is not in the raft configuration; hint: restart the agent; if the cluster still "
        + "does not add it, run consul-bootstrap again",
      notes: ["alive, but not in the raft configuration: a"]
    ) { node in
      node.agent.set { state in
        state.leader = "10.0.1.11:8300"
        state.peers.removeFirst()
        state.servers.removeFirst()
      }
    },
    Case(
      "that raft does not have, where ACLs hide the votes",
      "this server (10.0.1.10:8300) is not in the raft configuration; hint: restart the agent; if the cluster still "
        + "does not add it, run consul-bootstrap again",
      notes: ["alive, but not in the raft configuration: a"]
    ) { node in
      node.agent.set { state in
        state.leader = "10.0.1.11:8300"
        state.peers.removeFirst()
        state.refusals["/v1/operator/raft/configuration"] = (403, "Permission denied")
      }
    },
    Case(
      "whose raft configuration cannot be read",
      "cannot read the raft configuration: HTTP 500: rpc error; hint: check the agent's log"
    ) { node in
      node.agent.set { $0.refusals["/v1/operator/raft/configuration"] = (500, "rpc error") }
    },
    Case(
      "with fewer servers than --expect",
      "3 of 5 servers are in the raft configuration; hint: start the missing servers, or run consul-bootstrap again "
        + "with the right --expect"
    ) { node in
      node.settings.expect = 5
    },
    Case("with more servers than --expect") { node in node.settings.expect = 1 },
    Case(
      "with fewer servers than the number that it was started with",
      "3 of 5 servers are in the raft configuration (bootstrap_expect); hint: start the missing servers; if there are "
        + "fewer on purpose, run consul-bootstrap again, which removes bootstrap_expect"
    ) { node in
      node.context.files.put(NodeFixture.configuration, #"{"server": true, "bootstrap_expect": 5}"#)
    },
    Case(
      "in another datacenter",
      "the agent does not use its configuration: datacenter is dc2, not dc1; hint: restart the agent, and check the "
        + "options of its command line"
    ) { node in
      node.agent.set { $0.agentSelf["Config"] = ["Datacenter": "dc2", "Server": true] }
    },
    Case(
      "in the datacenter of another file",
      "the agent does not use its configuration: datacenter is dc2, not dc1; hint: remove datacenter from the other "
        + "files of the configuration directory, and restart the agent"
    ) { node in
      node.context.files.put("/etc/consul.d/z.json", #"{"datacenter": "dc2"}"#)
      node.agent.set { $0.agentSelf["Config"] = ["Datacenter": "dc2", "Server": true] }
    },
    Case(
      "that runs as a client",
      "the agent does not use its configuration: server is false, not true; hint: restart the agent, and check the "
        + "options of its command line"
    ) { node in
      node.agent.set { $0.agentSelf["Config"] = ["Datacenter": "dc1", "Server": false] }
    },
    Case(
      "whose data is that of another cluster",
      "this server has diverged from its cluster: its own data is of cluster B, the leader's is of A; hint: the "
        + "leader's data is the cluster's: unless this server's is needed, stop its agent, rename its data directory, "
        + "and start the agent: it joins empty"
    ) { node in
      node.agent.set { state in
        (state.identity, state.ownIdentity) = (["cluster": "A", "epoch": 1], ["cluster": "B", "epoch": 1])
      }
      // The sidecar has seen it, too.
      node.putIdentity("its own data is of cluster B, the leader's is of A")
    },
    Case(
      "whose data the sidecar has found to be newer than the leader's",
      "this server has diverged from its cluster: it has applied more; hint: check the sidecar's log for what it did "
        + "about it: journalctl -u consul-bootstrap.service"
    ) { node in
      node.putIdentity("it has applied more")
    },
    Case("that is of its cluster again") { node in node.putIdentity(nil) },
    Case("before the cluster has a name") { node in node.agent.set { $0.identity = nil } },
    Case("beside the servers of another cluster", twoClusters) { node in
      node.join("10.0.1.21")
      FakeConsulAgent(node.context, at: "10.0.1.21:8500")
        .setCluster([("x", "10.0.1.21"), ("y", "10.0.1.22")])
    },
    Case("beside servers that join, that do not answer, or that are of this cluster") { node in
      for address in ["10.0.1.11", "10.0.1.12", "10.0.1.21", "10.0.1.22"] { node.join(address) }
      let peers = ["10.0.1.10:8300", "10.0.1.11:8300", "10.0.1.12:8300"]
      _ = FakeConsulAgent(node.context, at: "10.0.1.11:8500") { ($0.leader, $0.peers) = ("10.0.1.10:8300", peers) }
      node.context.streams.fail("10.0.1.12:8300", .silent)
      _ = FakeConsulAgent(node.context, at: "10.0.1.21:8500")
      node.context.streams.fail("10.0.1.22:8300", .refused)
      node.context.transport.fail("http://10.0.1.", .refused)
    },
    Case(
      "whose options are lost",
      "the options of the last run are lost: damaged; hint: run consul-bootstrap again with the options of this machine"
    ) { node in
      node.settings.lostOptions = "damaged"
    },
    Case("whose options only root can read: they may be those of a client") { node in
      node.settings.role = .client
    },
    Case("that reports nothing of itself") { node in node.agent.set { $0.agentSelf = [:] } },
    Case("whose configuration does not name a datacenter") { node in
      node.context.files.put(NodeFixture.configuration, #"{"server": true}"#)
    },
  ]

  // MARK: The agent's process

  static let refused = "the agent does not answer on 127.0.0.1:8500: connection refused"
  static let hangs = "the agent accepts connections on 127.0.0.1:8500 and does not answer"

  static let process = [
    Case(
      "whose agent hangs",
      "\(hangs): it hangs, or its machine is overloaded; hint: check journalctl -u consul.service, then systemctl "
        + "restart consul.service"
    ) { node in
      node.agent.set { $0.failure = .timedOut(whileConnecting: false) }
    },
    Case("whose agent is stopped", "\(hangs): process 812 is stopped by a signal; hint: kill -CONT 812") { node in
      node.agent.set { $0.failure = .timedOut(whileConnecting: false) }
      node.context.files.put("/proc/812/stat", "812 (a) T (consul) T 1 812 812 0 -1 4194304\n")
    },
    Case(
      "whose agent crashes",
      "\(refused): consul.service crashes, systemd has restarted it 1 times (result: exit-code); hint: fix what the "
        + "agent's log reports: journalctl -u consul.service"
    ) { node in
      node.agent.set { $0.failure = .refused }
      node.setUnit(
        NodeFixture.agentUnit, "ActiveState=activating", "SubState=auto-restart", "Result=exit-code", "NRestarts=1",
        "MainPID=0")
    },
    Case(
      "whose agent answers between two crashes",
      "the agent does not answer on 127.0.0.1:8500: not for long: consul.service crashes, systemd has restarted it 7 "
        + "times (result: success); hint: fix what the agent's log reports: journalctl -u consul.service"
    ) { node in
      node.setUnit(NodeFixture.agentUnit, "NRestarts=7", "ExecMainStartTimestampMonotonic=3590000000")
    },
    Case("whose agent crashed often, long ago") { node in node.setUnit(NodeFixture.agentUnit, "NRestarts=7") },
    Case("whose agent was restarted twice just now") { node in
      node.setUnit(NodeFixture.agentUnit, "NRestarts=2", "ExecMainStartTimestampMonotonic=3590000000")
    },
    Case(
      "whose unit has failed",
      "\(refused): consul.service has failed (result: oom-kill); hint: fix what journalctl -u consul.service reports, "
        + "then systemctl start consul.service"
    ) { node in
      node.agent.set { $0.failure = .refused }
      node.setUnit(NodeFixture.agentUnit, "ActiveState=failed", "SubState=failed", "Result=oom-kill")
    },
    Case(
      "whose unit is stopped",
      "\(refused): consul.service is inactive; hint: fix what journalctl -u consul.service reports, then systemctl "
        + "start consul.service"
    ) { node in
      node.agent.set { $0.failure = .refused }
      node.setUnit(NodeFixture.agentUnit, "ActiveState=inactive", "SubState=dead")
    },
    Case("whose agent does not answer, without a unit", "\(refused); hint: start the agent: run consul-bootstrap again")
    { node in
      node.agent.set { $0.failure = .refused }
      node.removeUnit(NodeFixture.agentUnit)
    },
    Case("whose agent another program runs") { node in node.removeUnit(NodeFixture.agentUnit) },
  ]
}
