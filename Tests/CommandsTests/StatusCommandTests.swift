import Base
import Model
import TestSupport
import Testing

@testable import Commands

@Suite(.timeLimit(.minutes(5))) struct StatusCommandTests {
  private let command = CommandFixture()
  private let agent: FakeConsulAgent
  private static let report = "/var/lib/consul-bootstrap/log-status.json"
  private static let noLeaderHint =
    "  hint: allow 8300 tcp and 8301 tcp and udp between the servers in the security groups, and check the log of each "
    + "server"
  private static let noUnit = "ActiveState=inactive\nSubState=dead\nLoadState=not-found\n"

  init() {
    command.test.launcher.run("/bin/systemctl", ["show"], output: Self.noUnit)
    agent = FakeConsulAgent(command.test)
    agent.setCluster([("a", "10.0.1.10"), ("b", "10.0.1.11"), ("c", "10.0.1.12")])
  }

  /// The output of `status` without problems, the last line included.
  private func output(_ arguments: String...) async -> [String] {
    #expect(await command.run(["status"] + arguments) == 0)
    return command.output.lines
  }

  /// Members of a stream in the report, with the changes.
  private func putReport(_ changes: [String: JSONValue], agent: JSONValue = .null) {
    let stream: [String: JSONValue] = [
      "source": "file:/var/log/app.log", "group": "/consul/dc1", "stream": "i-0aaa/app", "condition": "ok",
      "sent_events": 1200, "sent_bytes": 345_678, "retries": 0, "rejected_events": 0, "lost_lines": 0, "lost_bytes": 0,
      "lost_files": 0, "last_acknowledged": "2025-12-31T23:59:58.000Z", "last_error": .null, "behind_bytes": 0,
      "lag_seconds": 0,
    ]
    let report: JSONValue = [
      "time": "2025-12-31T23:59:59.000Z", "pid": 77, "streams": [.object(stream.merging(changes) { $1 })],
      "agent": agent,
    ]
    command.test.files.put(Self.report, report.prettyText)
  }

  @Test func `a healthy node without logs`() async {
    #expect(
      await output() == [
        "agent       answers on 127.0.0.1:8500, leader 10.0.1.10:8300",
        "servers     3 in raft, 3 alive, a quorum is 2", "forwarding  off (no --log)", "no problems", "",
      ])
  }

  private func putTwoReleases() {
    agent.set { state in
      for index in 0..<2 { state.members[index].build = "1.8.7:0bc1ef4c" }
      state.members[2].build = "1.9.0+ent:aaaa"
    }
  }

  /// A rolling upgrade has two releases beside each other.
  @Test func `the servers' releases are shown`() async {
    putTwoReleases()
    #expect(await output().contains("versions    1.8.7: a, b; 1.9.0: c"))
  }

  @Test func `the servers' releases are in JSON`() async throws {
    putTwoReleases()
    #expect(await command.run(["status", "--json"]) == 0)
    let json = try JSONValue(parsing: command.output.text)
    #expect(json["agent"]?["server_versions"] == ["a": "1.8.7", "b": "1.8.7", "c": "1.9.0"] && json["notes"] == [])
  }

  @Test(arguments: [("1.8.7", "1.10.0", true), ("1.8.7", "1.9.9", false), ("1.22.1", "2.0.0", true)])
  func `releases that are too far apart are noted`(old: String, new: String, isNoted: Bool) async {
    agent.set { ($0.members[0].build, $0.members[1].build, $0.members[2].build) = (old, new, "unknown") }
    let note =
      "note: the servers run releases of Consul that are more than one minor release apart "
      + "(\(old): a; \(new): b): upgrade by one minor release at a time"
    #expect(await output().contains { $0.hasSuffix(note.dropFirst("note: ".count)) } == isNoted)
  }

  @Test func `a healthy node with logs`() async {
    putReport([:])
    #expect(
      await output() == [
        "agent       answers on 127.0.0.1:8500, leader 10.0.1.10:8300",
        "servers     3 in raft, 3 alive, a quorum is 2", "forwarding  by process 77, reported 1.0 s ago",
        "  file:/var/log/app.log: ok -> /consul/dc1 i-0aaa/app",
        "    1200 events, 345.6 kB sent; 0 B behind, lag 0.0 s; last acknowledged 2.0 s ago", "no problems", "",
      ])
  }

  @Test func `retries, losses and the last error of a stream`() async {
    putReport([
      "condition": "parked", "retries": 3, "rejected_events": 1, "lost_lines": 2, "lost_bytes": 5_000_000,
      "lost_files": 1, "last_error": "access denied", "behind_bytes": .null, "last_acknowledged": .null,
      "lag_seconds": 90,
    ])
    #expect(
      await output().dropFirst(4) == [
        "    1200 events, 345.6 kB sent; bytes behind unknown, lag 90 s; last acknowledged never",
        "    3 retries, 1 rejected, lost: 2 lines, 5.0 MB, 1 files", "    access denied", "problems:",
        "  file:/var/log/app.log is parked: access denied",
        "    hint: fix this cause; forwarding then resumes by itself", "",
      ])
  }

  /// The sum of these numbers trapped; the report is a file.
  @Test func `numbers of any size are shown`() async {
    let most = JSONValue.integer(.max), least = JSONValue.integer(.min)
    putReport([
      "sent_events": most, "sent_bytes": most, "retries": most, "rejected_events": most, "lost_lines": most,
      "lost_bytes": least, "lost_files": most, "behind_bytes": most, "lag_seconds": most,
    ])
    let text = await output().joined(separator: "\n")
    #expect(text.contains("9007199254740992 retries, 9007199254740992 rejected, lost: 9007199254740992 lines, 0 B"))
  }

  @Test func `an external agent and its streams`() async {
    putReport(
      [:],
      agent: [
        "name": "awslogs", "running": false,
        "streams": [
          [
            "source": "syslog", "group": "g", "stream": "s", "last_line": "2025-12-31T23:59:59.000Z",
            "last_event": .null, "behind_since": .null, "stalled": false, "error": "throttled",
          ]
        ],
      ])
    #expect(
      await output().dropFirst(5).prefix(3) == [
        "            awslogs is not running", "  syslog: ok -> g s",
        "    last line 2025-12-31T23:59:59.000Z, last event received none; throttled",
      ])
  }

  @Test func `hidden and unknown numbers of living servers differ`() async {
    agent.set { $0.refusals["/v1/agent/members"] = (403, "Permission denied") }
    #expect(await output()[1] == "servers     3 in raft, number of alive servers hidden by ACLs, a quorum is 2")
    let other = CommandFixture()
    other.test.launcher.run("/bin/systemctl", ["show"], output: Self.noUnit)
    FakeConsulAgent(other.test).set {
      $0.leader = "10.0.1.10:8300"
      $0.refusals["/v1/agent/members"] = (500, "rpc error")
    }
    #expect(await other.run(["status"]) == 0)
    #expect(
      other.output.lines.dropFirst() == [
        "servers     0 in raft, number of alive servers unknown (HTTP 500: rpc error), a quorum is 1",
        "forwarding  off (no --log)", "problems:", "  cannot count the alive servers: HTTP 500: rpc error",
        "    hint: check the agent's log", "",
      ])
  }

  @Test func `a report that cannot be read and a missing one differ`() async {
    command.test.files.put(Self.report, "[]")
    #expect(
      await output().dropFirst(2) == [
        "forwarding  unreadable report", "problems:",
        "  cannot read the sidecar's report on log forwarding: \(Self.report) is not a report on log forwarding",
        "    hint: restart the sidecar, which writes it: systemctl restart consul-bootstrap.service", "",
      ])
    let missing = CommandFixture()
    missing.test.launcher.run("/bin/systemctl", ["show"], output: Self.noUnit)
    FakeConsulAgent(missing.test).setCluster([("a", "10.0.1.10")])
    #expect(await missing.run(["status", "--log", "syslog"]) == 0)
    #expect(
      missing.output.lines.dropFirst(2) == [
        "forwarding  no report", "problems:", "  logs are not forwarded: no sidecar has reported",
        "    hint: start the sidecar: systemctl restart consul-bootstrap.service", "",
      ])
  }

  @Test func `--check prints the problems only and exits with 1, and with 0 without problems`() async {
    #expect(await command.run(["status", "--check"]) == 0)
    #expect(command.output.text == "")
    agent.set { $0.leader = nil }
    command.test.files.put(Self.report, "[]")
    #expect(await command.run(["status", "--check"]) == 1)
    #expect(
      command.output.lines == [
        "the agent knows no leader", Self.noLeaderHint,
        "cannot read the sidecar's report on log forwarding: \(Self.report) is not a report on log forwarding",
        "  hint: restart the sidecar, which writes it: systemctl restart consul-bootstrap.service", "",
      ])
  }

  @Test func `what the sidecar knows of an outage is a problem, as long as the agent knows no leader`() async {
    let report = OutageReport(
      .recoverable, reason: "i-0aaa (10.0.1.10) has the longest log", details: ["i-0bbb is gone"], best: "i-0aaa",
      time: command.test.context.now(), uptime: .zero, bootID: "boot")
    command.test.files.put("/var/lib/consul-bootstrap/outage.json", report.json.prettyText)
    #expect(await command.run(["status", "--check"]) == 0)
    agent.set { $0.leader = nil }
    #expect(await command.run(["status", "--check"]) == 1)
    #expect(
      command.output.lines == [
        "the agent knows no leader", Self.noLeaderHint,
        "the outage: i-0aaa (10.0.1.10) has the longest log: i-0bbb is gone",
        "  hint: consul-bootstrap recover --dry-run explains it", "",
      ])
  }

  @Test func `--json prints one document, with --check the exit status too`() async throws {
    agent.set { $0.leader = nil }
    #expect(await command.run(["status", "--json", "--check"]) == 1)
    #expect(
      try JSONValue(parsing: command.output.text) == [
        "time": "2026-01-01T00:00:00.000Z", "healthy": false, "problems": ["the agent knows no leader"],
        "hints": [.string(String(Self.noLeaderHint.dropFirst("  hint: ".count)))], "departure": .null, "leaver": .null,
        "notes": [], "unknown": [],
        "agent": [
          "address": "127.0.0.1:8500", "error": .null, "configuration_error": .null, "leader": .null, "raft_peers": 3,
          "alive_servers": 3, "alive_servers_reason": .null, "server_versions": [:], "datacenter": .null,
        ],
        "sidecar": ["unit": "inactive", "age_seconds": .null, "report": .null, "error": .null],
        "forwarding": .null, "forwarding_error": .null,
      ])
  }
}
