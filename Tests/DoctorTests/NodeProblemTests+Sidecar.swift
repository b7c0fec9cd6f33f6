import Base
import Model
import TestSupport

@testable import Doctor

/// What is wrong with the sidecar; clients, supervised agents and containers.
extension NodeProblemTests {
  // MARK: The sidecar

  static let restart = "hint: systemctl restart consul-bootstrap.service"

  static let sidecar = [
    Case(
      "whose sidecar is stopped",
      "the sidecar does not run: consul-bootstrap.service is inactive; hint: systemctl start consul-bootstrap.service"
    ) { node in
      node.setUnit(NodeFixture.sidecarUnit, "ActiveState=inactive", "SubState=dead")
    },
    Case(
      "whose sidecar's unit is gone",
      "the sidecar does not run: there is no consul-bootstrap.service; hint: systemctl start consul-bootstrap.service"
    ) { node in
      node.removeUnit(NodeFixture.sidecarUnit)
    },
    Case(
      "whose sidecar crashes",
      "the sidecar crashes: systemd has restarted consul-bootstrap.service 4 times (result: exit-code, status: 14); "
        + "hint: fix what journalctl -u consul-bootstrap.service reports"
    ) { node in
      node.setUnit(
        NodeFixture.sidecarUnit, "ActiveState=activating", "SubState=auto-restart", "Result=exit-code", "NRestarts=4",
        "ExecMainStatus=14")
    },
    Case("whose sidecar no run has started, as in an image") { node in
      node.context.files.delete(NodeFixture.options)
      node.context.files.delete(NodeFixture.sidecar)
      node.setUnit(NodeFixture.sidecarUnit, "ActiveState=inactive", "SubState=dead")
    },
    Case(
      "whose sidecar hangs",
      "the sidecar has not reported for 91 s, since 2026-01-01T00:58:29.000Z; \(restart)"
    ) { node in
      node.putSidecar(age: .seconds(91))
    },
    Case("whose sidecar reported three intervals ago") { node in node.putSidecar(age: .seconds(90)) },
    Case(
      "whose sidecar has a short interval",
      "the sidecar has not reported for 4.0 s, since 2026-01-01T00:59:56.000Z; \(restart)"
    ) { node in
      node.putSidecar(age: .seconds(4), interval: .seconds(1))
    },
    Case("whose sidecar has just started beside an old report") { node in
      node.putSidecar(age: .seconds(3000))
      node.setUnit(NodeFixture.sidecarUnit, "ExecMainStartTimestampMonotonic=3590000000")
    },
    Case("whose sidecar has just started for the first time") { node in
      node.context.files.delete(NodeFixture.sidecar)
      node.setUnit(NodeFixture.sidecarUnit, "ExecMainStartTimestampMonotonic=3590000000")
    },
    Case("whose sidecar never reports", "the sidecar has not reported since its start; \(restart)") { node in
      node.context.files.delete(NodeFixture.sidecar)
    },
    Case(
      "whose sidecar's last report is of an earlier boot",
      "the sidecar has not reported for 60 min, since 2026-01-01T01:00:00.000Z; \(restart)"
    ) { node in
      node.putSidecar(bootID: "another")
    },
    Case("whose clock was set") { node in node.context.clock.setWall(by: .seconds(-86_400)) },
    Case(
      "whose sidecar's report is damaged",
      "cannot read the sidecar's report: \(NodeFixture.sidecar) is not a report of the sidecar; \(restart)"
    ) { node in
      node.context.files.put(NodeFixture.sidecar, "{}")
    },
    Case(
      "whose sidecar retries something",
      notes: ["the sidecar cannot complete the WAN pool: no answer"]
    ) { node in
      node.putSidecar(problems: ["the sidecar cannot complete the WAN pool: no answer"])
    },
    Case(
      "for whose instance an event is scheduled in a day",
      "EC2 has scheduled instance-stop for this instance, not before 2026-01-02T01:00:00.000Z; hint: terminate the "
        + "instance in its Auto Scaling group before then, which replaces it"
    ) { node in
      node.putSidecar(age: .seconds(10), notices: [event("instance-stop", in: .seconds(86_410))])
    },
    Case(
      "for whose instance an event is scheduled in more than a day, and a replacement recommended",
      notes: [
        "EC2 recommends to replace this spot instance: it may soon be interrupted",
        "EC2 has scheduled system-reboot for this instance, not before 2026-01-02T01:00:00.000Z",
      ]
    ) { node in
      node.putSidecar(
        age: .seconds(10), notices: [InstanceNotice(.rebalance), event("system-reboot", in: .seconds(86_411))])
    },
    Case(
      "for whose instance an event is scheduled at a time that cannot be read",
      "EC2 has scheduled system-reboot for this instance, at a time that cannot be read; hint: make sure that the "
        + "other servers are well then: this instance returns with its data"
    ) { node in
      node.putSidecar(notices: [InstanceNotice(.scheduled, id: "1", code: "system-reboot")])
    },
  ]

  private static func event(_ code: String, in time: Duration) -> InstanceNotice {
    InstanceNotice(
      .scheduled, id: "1", code: code, notBefore: Timestamp(iso8601: "2026-01-02T01:00:00Z"), startsIn: time)
  }

  // MARK: Clients, supervise, containers

  static let supervised: @Sendable (inout NodeFixture) -> Void = { node in
    node.context.system.setBootedBySystemd(false)
    node.context.files.delete(NodeFixture.options)
  }

  static let docker: @Sendable (inout NodeFixture, String) -> Void = { node, state in
    (node.settings.start, node.settings.image) = (.docker, "consul:1.8.7")
    node.context.files.put("/usr/bin/docker", "binary", mode: 0o755)
    node.context.launcher.run("/usr/bin/docker", ["container", "inspect"], output: state + "\n")
  }

  static let others = [
    Case("that is a client") { node in
      node.settings.role = .client
      node.settings.expect = 5
      node.context.files.put(NodeFixture.configuration, #"{"datacenter": "dc1", "server": false}"#)
      node.agent.set { state in
        state.agentSelf = ["Config": ["Datacenter": "dc1", "Server": false], "Member": ["Addr": "10.0.9.1"]]
        state.members.append(.init("x", "10.0.9.1", isServer: false))
        state.refusals["/v1/operator/raft/configuration"] = (403, "Permission denied")
      }
    },
    Case(
      "that is a client without servers",
      "the agent knows no server; hint: allow 8301 tcp and udp and 8300 tcp to the servers in the security groups"
    ) { node in
      node.settings.role = .client
      node.agent.set { $0.refusals["/v1/status/leader"] = (500, "No known Consul servers") }
    },
    Case("of a datacenter per zone") { node in
      (node.settings.layout, node.settings.expect) = (.datacenterPerAZ, 3)
      node.context.files.put(NodeFixture.configuration, #"{"datacenter": "eu-west-1a", "server": true}"#)
      node.agent.set { state in
        state.agentSelf["Config"] = ["Datacenter": "eu-west-1a", "Server": true]
        state.wanMembers = [.init("a.eu-west-1a", "10.0.1.10"), .init("z.eu-west-1b", "10.0.2.10", status: 4)]
      }
    },
    Case("that this program supervises") { node in
      supervised(&node)
      node.putSidecar(agent: .init(pid: 900, crashes: 0, lastCrash: ""))
    },
    Case("whose supervised agent is booting: there is no report yet") { node in
      supervised(&node)
      node.context.files.delete(NodeFixture.sidecar)
    },
    Case(
      "whose supervised agent is stopped", "\(hangs): process 900 is stopped by a signal; hint: kill -CONT 900"
    ) { node in
      supervised(&node)
      node.putSidecar(agent: .init(pid: 900, crashes: 0, lastCrash: ""))
      node.context.files.put("/proc/900/stat", "900 (consul) T 1 900")
      node.agent.set { $0.failure = .timedOut(whileConnecting: false) }
    },
    Case(
      "whose supervised agent crashes",
      "\(refused): it has crashed 2 times (last: exit status 1); hint: fix what the agent's log reports: the output of "
        + "consul-bootstrap"
    ) { node in
      supervised(&node)
      node.putSidecar(agent: .init(pid: nil, crashes: 2, lastCrash: "exit status 1"))
      node.agent.set { $0.failure = .refused }
    },
    Case(
      "whose supervising process hangs",
      "the sidecar has not reported for 91 s, since 2026-01-01T00:58:29.000Z; hint: run consul-bootstrap again, in the "
        + "place of the process that supervises the agent"
    ) { node in
      supervised(&node)
      node.putSidecar(age: .seconds(91))
    },
    Case("in a container") { node in docker(&node, "running 0 0 4711 2026-01-01T00:00:01.5Z") },
    Case(
      "whose container is paused", "\(hangs): its container is paused; hint: docker unpause consul"
    ) { node in
      docker(&node, "paused 0 0 4711 2026-01-01T00:00:01.5Z")
      node.agent.set { $0.failure = .timedOut(whileConnecting: false) }
    },
    Case(
      "whose container crashes",
      "\(refused): container consul crashes, Docker has restarted it 5 times (exit status 1); hint: fix what the "
        + "agent's log reports: docker logs consul"
    ) { node in
      docker(&node, "restarting 5 1 0 2026-01-01T00:59:59.123456789Z")
      node.agent.set { $0.failure = .refused }
    },
    Case("whose container crashed often, long ago") { node in
      docker(&node, "running 5 0 4711 2026-01-01T00:10:00.123456789Z")
    },
    Case(
      "whose container is stopped",
      "\(refused): container consul is exited (exit status 0); hint: fix what docker logs consul reports, then docker "
        + "start consul"
    ) { node in
      docker(&node, "exited 0 0 0 2026-01-01T00:00:01.5Z")
      node.agent.set { $0.failure = .refused }
    },
  ]
}
