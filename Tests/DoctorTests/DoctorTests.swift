import AWS
import Base
import Consul
import Model
import TestSupport
import Testing

@testable import Doctor

@Suite(.timeLimit(.minutes(5))) struct DoctorTests {
  private var doctor = DoctorFixture()

  @Test func `a healthy instance has every check reported as ok, in order`() async throws {
    #expect(
      lines(try await doctor.run()) == [
        "ok consul: version 1.20.1, /usr/local/bin/consul",
        "ok metadata: i-0aaa in eu-west-1a, 10.0.1.10, IMDSv2",
        "ok credentials: from instance role web-node, valid for 60 min",
        "ok endpoint ec2: https://ec2.eu-west-1.amazonaws.com",
        "ok endpoint autoscaling: https://autoscaling.eu-west-1.amazonaws.com",
        "ok clock: in sync with AWS",
        "ok autoscaling:DescribeAutoScalingInstances: allowed",
        "ok autoscaling:DescribeAutoScalingGroups: allowed",
        "ok ec2:DescribeInstances: allowed",
        DoctorFixture.noRecord,
        "ok group: 1 of 1 servers are eligible",
        "ok names: node i-0aaa in datacenter dc1",
        "note peers: no peers to probe yet",
        "ok disk: 51200 MiB are free for /opt/consul",
        "ok disk: 51200 MiB are free for /var/lib/consul-bootstrap",
        "ok user: the agent runs as consul",
        "ok data: /opt/consul is empty",
        "ok ports: the agent's ports are free",
        "ok dns: 10.0.0.2 answers",
        "ok unit: consul.service is not started yet; a run starts it",
        "ok unit: consul-bootstrap.service is not started yet; a run starts it",
        "note plan: 1 server survives no failure: the state of the datacenter is lost with it; use 3 or 5",
        "ok configuration: Consul accepts the configuration that a run would write",
        "ok plan: a run would decide now: new cluster",
      ])
  }

  /// A finding was lost between the severities of the text and of the JSON.
  @Test func `a finding as JSON has the severity, the hint and the time`() {
    let problem = Finding.problem(
      "group", Failure(.awsFailed, "cannot describe the group", details: ["denied"], hint: "allow it"))
    #expect(
      problem.json == [
        "subject": "group", "severity": "problem", "message": "cannot describe the group; denied", "hint": "allow it",
        "milliseconds": .null,
      ])
    #expect(
      Finding.ok("dns", "10.0.0.2 answers", time: .milliseconds(12)).json == [
        "subject": "dns", "severity": "ok", "message": "10.0.0.2 answers", "hint": .null, "milliseconds": 12,
      ])
  }

  /// The doctor may run beside a run: it leaves no file behind, and none of the run's is touched.
  @Test func `the doctor changes nothing but its own staged file`() async throws {
    _ = try await doctor.run()
    #expect(
      doctor.context.files.changes == [
        .createDirectory("/var/lib/consul-bootstrap", mode: 0o755, owner: nil),
        .write("/var/lib/consul-bootstrap/doctor.json", mode: 0o600, owner: nil),
        .removeFile("/var/lib/consul-bootstrap/doctor.json"),
      ])
    let calls = Set(doctor.aws.calls.map(\.action))
    #expect(calls == ["DescribeAutoScalingInstances", "DescribeAutoScalingGroups", "DescribeInstances"])
  }

  @Test func `without Consul and metadata the other checks of the machine still run`() async throws {
    doctor.context.files.delete(DoctorFixture.consul)
    doctor.metadata.setTokenStatus(403)
    #expect(
      lines(try await doctor.run()) == [
        "problem consul: Consul is not installed; no consul in /usr/local/bin, /usr/bin, /opt/consul/bin; "
          + "hint: install Consul, or set its path with --consul",
        "problem metadata: the instance metadata service gave no IMDSv2 token; "
          + "http://169.254.169.254 answered HTTP 403; "
          + "hint: enable the HTTP endpoint in the metadata options of this instance",
        "ok disk: 51200 MiB are free for /opt/consul",
        "ok disk: 51200 MiB are free for /var/lib/consul-bootstrap",
        "ok unit: consul.service is not started yet; a run starts it",
        "ok unit: consul-bootstrap.service is not started yet; a run starts it",
      ])
  }

  @Test func `metadata of version 1 is named`() async throws {
    var doctor = doctor
    doctor.allowsIMDSv1 = true
    doctor.metadata.setTokenStatus(404)
    doctor.metadata.demandToken(false)
    #expect(
      try await doctor.findings("metadata") == [
        "ok metadata: i-0aaa in eu-west-1a, 10.0.1.10, IMDSv1, as --imdsv1 allows"
      ])
  }

  @Test func `without a role AWS is not called`() async throws {
    doctor.metadata.set("/latest/meta-data/iam/security-credentials/", nil)
    #expect(
      try await doctor.findings() == [
        "problem credentials: this instance has no role; "
          + "the metadata service lists no role under iam/security-credentials/; "
          + "hint: attach an instance profile to the instance or its launch template"
      ])
    #expect(doctor.aws.calls.isEmpty)
  }

  @Test func `a name that is no label is named`() async throws {
    var doctor = doctor
    doctor.settings.nodeName = try #require(NameTemplate("node_{az}"))
    #expect(
      try await doctor.findings("names") == [
        "problem names: the node's name would be node_eu-west-1a, which is not a DNS label; "
          + "DNS could not resolve node_eu-west-1a.node.consul; "
          + "hint: change the template of --node-name: letters, digits and hyphens, at most 63"
      ])
  }

  /// An agent's user that does not exist ended the checks of the machine.
  @Test func `a user that does not exist hides no other check`() async throws {
    var doctor = doctor
    doctor.settings.user = "hashi"
    doctor.context.system.setOwner("hashi", nil)
    #expect(
      try await doctor.findings() == [
        DoctorFixture.noRecord, "note peers: no peers to probe yet",
        "problem configuration: there is no user hashi; hint: create the user, or correct --user",
      ])
    #expect(try await doctor.findings("disk").count == 2)
  }

  @Test func `a cancelled doctor ends`() async throws {
    let doctor = doctor
    let gate = doctor.context.transport.hold("https://ec2.")
    let task = Task { try await doctor.run() }
    try await gate.arrivals()
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
  }
}
