import Base
import TestSupport
import Testing

@testable import Decisions
@testable import Model
@testable import Observers

/// Unreadable is not absent: a run stops with path and reason before it changes anything, a dry run shows the obstacle.
///
/// Guards against a second cluster, and against a healthy server's data renamed: both happened when an unreadable file
/// counted as an absent one.
@Suite(.timeLimit(.minutes(5))) struct UnreadableFileTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let operation: FakeFiles.Operation
    let path: String
    let errno: Int32
    let reason: String
    var testDescription: String { "\(operation) \(path)" }

    init(_ operation: FakeFiles.Operation, _ path: String, _ errno: Int32, _ reason: String) {
      (self.operation, self.path, self.errno, self.reason) = (operation, path, errno, reason)
    }
  }

  private static let record = "/var/lib/consul-bootstrap/instance.json"
  static let cases = [
    Case(.list, "/etc/consul.d", 13, "list /etc/consul.d: Permission denied"),
    Case(.list, "/etc/consul.d", 5, "list /etc/consul.d: Input/output error"),
    Case(.read, "/etc/consul.d/10-a.json", 5, "read /etc/consul.d/10-a.json: Input/output error"),
    Case(
      .read, "/etc/consul.d/00-consul-bootstrap.json", 13,
      "read /etc/consul.d/00-consul-bootstrap.json: Permission denied"),
    Case(.read, record, 5, "read \(record): Input/output error"),
    Case(
      .read, "/opt/consul/serf/local.snapshot", 13, "read /opt/consul/serf/local.snapshot: Permission denied"),
    Case(.status, "/opt/consul", 13, "check /opt/consul: Permission denied"),
    Case(.list, "/opt/consul", 5, "list /opt/consul: Input/output error"),
    Case(
      .read, "/etc/systemd/system/consul.service", 5,
      "read /etc/systemd/system/consul.service: Input/output error"),
    Case(.read, "/etc/resolv.conf", 13, "read /etc/resolv.conf: Permission denied"),
    Case(.isLink, "/etc/resolv.conf", 5, "check the link /etc/resolv.conf: Input/output error"),
    Case(.status, "/usr/sbin/dnsmasq", 5, "check /usr/sbin/dnsmasq: Input/output error"),
  ]

  private func booted() -> Flow {
    var flow = Flow()
    flow.settings.dns = .port53
    let files = flow.context.files
    files.put("/opt/consul/serf/local.snapshot", "alive: i-2 10.0.1.10:8301\n")
    files.put(Self.record, #"{"instance_id": "i-2"}"#)
    files.put("/etc/consul.d/00-consul-bootstrap.json", "{}")
    files.put("/etc/consul.d/10-a.json", "{}")
    files.put("/etc/systemd/system/consul.service", "[Service]\n")
    files.put("/etc/resolv.conf", "nameserver 10.0.0.2\n")
    files.put("/usr/sbin/dnsmasq", "")
    return flow
  }

  private func expected(_ path: String, _ reason: String, isDenied: Bool) -> Failure {
    Failure(
      .configurationRejected, "cannot read \(path)", details: [reason],
      hint: isDenied
        ? "run as root" : "repair \(path) or its file system; an unreadable file does not count as absent")
  }

  @Test(arguments: cases)
  func `a run stops, and a dry run shows the obstacle`(_ unreadable: Case) async throws {
    let flow = booted()
    flow.context.files.fail(unreadable.operation, unreadable.path, errno: unreadable.errno)
    let expected = expected(unreadable.path, unreadable.reason, isDenied: unreadable.errno == 13)
    let instance = try await flow.planner.locate()
    for mode in [Planner.Mode.run, .stay] {
      let failed = await failure { _ = try await flow.planner.plan(at: instance, mode) }
      #expect(failed == expected, "\(mode)")
    }
    // It stops before the first AWS call.
    #expect(flow.aws.calls.isEmpty && flow.context.files.changes.isEmpty)
    #expect(try await flow.planner.plan(at: instance, .dryRun).obstacle == expected)
  }

  /// Guards against an agent that runs as root: unreadable is not "no such user".
  @Test(arguments: [
    (FakeSystem.Operation.owner, "/etc/passwd", "read /etc/passwd: Input/output error"),
    (.address, "docker0", "list addresses of docker0: Input/output error"),
  ])
  func `a machine that cannot be read stops every mode`(
    _ operation: FakeSystem.Operation, _ path: String, _ reason: String
  ) async throws {
    var flow = booted()
    flow.settings.dnsAddress = .dockerBridge
    flow.context.system.fail(operation, errno: 5)
    let instance = try await flow.planner.locate()
    for mode in [Planner.Mode.run, .stay, .dryRun] {
      let failed = await failure { _ = try await flow.planner.plan(at: instance, mode) }
      #expect(failed == expected(path, reason, isDenied: false), "\(mode)")
    }
    #expect(flow.context.files.changes.isEmpty)
  }

  /// Guards against a healthy server's data renamed because its record is damaged.
  @Test(arguments: [
    ("", "is not JSON"), ("{", "is not JSON"), ("[]", "has no text member instance_id"),
    (#"{"instance_id": 5}"#, "has no text member instance_id"), ("{}", "has no text member instance_id"),
  ])
  func `a malformed record is unreadable`(_ text: String, _ reason: String) async throws {
    let flow = booted()
    flow.context.files.put(Self.record, text)
    let instance = try await flow.planner.locate()
    let failed = await failure { _ = try await flow.planner.plan(at: instance, .run) }
    #expect(failed?.message == "cannot read \(Self.record)")
    #expect(failed?.details == ["\(Self.record) \(reason)"])
    #expect(
      failed?.hint
        == "repair \(Self.record) or its file system; an unreadable file does not count as absent")
  }

  @Test func `absent files are no obstacle`() async throws {
    let flow = Flow()
    let instance = try await flow.planner.locate()
    let plan = try await flow.planner.plan(at: instance, .run)
    #expect(plan.obstacle == nil && plan.decision.name == "new cluster")
  }

  /// It counted as an empty directory: a dry run planned a new cluster, and a run claimed the record of one.
  @Test func `a data directory behind a link to a disk that is not mounted is no empty one`() async throws {
    let flow = Flow()
    flow.context.files.link("/opt/consul", to: "/disk/consul")
    let instance = try await flow.planner.locate()
    let failed = await failure { _ = try await flow.planner.plan(at: instance, .run) }
    #expect(failed?.message == "cannot read /opt/consul")
    #expect(failed?.details == ["/opt/consul is a symbolic link to nothing"])
    #expect(try await flow.planner.plan(at: instance, .dryRun).obstacle == failed)
  }

  /// Where raft's own files cannot be read, the server rejoins: it never forms a cluster over them.
  @Test func `raft files that cannot be read count as raft state`() async throws {
    let flow = booted()
    flow.context.files.put("/opt/consul/raft/raft.db", "x")
    flow.context.files.fail(.read, "/opt/consul/raft/raft.db", errno: 5)
    let plan = try await flow.planner.plan(at: try await flow.planner.locate(), .run)
    #expect(
      plan.decision
        == .rejoin(evidence: [
          "the data directory may contain raft state: read /opt/consul/raft/raft.db: Input/output error",
          "no other server knows a leader",
        ]))
  }

  @Test func `every unreadable file is remembered once, in order`() throws {
    let context = TestContext()
    let reader = CheckedReader(context.files)
    context.files.fail(.read, "/b", errno: 5)
    context.files.fail(.status, "/b", errno: 13)
    context.files.fail(.list, "/a", errno: 13)
    #expect(reader.content("/absent") == .absent && reader.list("/absent") == [] && reader.status("/absent") == nil)
    #expect(reader.content("/b") == .unreadable(reason: "read /b: Input/output error"))
    #expect(reader.status("/b") == nil && reader.list("/a") == [])
    reader.reject("/c", reason: "not JSON")
    #expect(
      reader.unreadable == [
        UnreadableFile(path: "/b", reason: "read /b: Input/output error", isPermissionDenied: false),
        UnreadableFile(path: "/a", reason: "list /a: Permission denied", isPermissionDenied: true),
        UnreadableFile(path: "/c", reason: "not JSON", isPermissionDenied: false),
      ])
  }

  @Test func `a file larger than the limit is unreadable, not cut`() {
    let context = TestContext()
    context.files.put("/big", "0123456789")
    let reader = CheckedReader(context.files)
    #expect(reader.content("/big", limit: 10) == .text("0123456789"))
    #expect(reader.content("/big", limit: 9) == .unreadable(reason: "read /big: larger than 9 bytes"))
  }
}
