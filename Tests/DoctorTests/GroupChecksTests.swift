import AWS
import Base
import Model
import TestSupport
import Testing

@testable import Doctor

@Suite(.timeLimit(.minutes(5))) struct GroupChecksTests {
  private var doctor = DoctorFixture()

  init() {
    for peer in ["10.0.1.11", "10.0.1.12", "10.0.1.20", "10.0.1.21"] { doctor.context.ports.set(peer, to: .refused) }
  }

  private func findings(_ change: (inout DoctorFixture) -> Void) async throws -> [String] {
    var doctor = doctor
    change(&doctor)
    return try await doctor.findings("group")
  }

  @Test func `an instance in no group is named`() async throws {
    #expect(
      try await findings { $0.aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10", group: nil)]) } == [
        "problem group: this instance belongs to no Auto Scaling group; DescribeAutoScalingInstances does not list "
          + "i-0aaa; hint: name the servers' group with --group, or discover the servers with --tag KEY=VALUE"
      ])
  }

  @Test func `a group that does not exist is named with the nearest one`() async throws {
    #expect(
      try await findings { $0.settings.membership = .groups(["wep"]) } == [
        "problem group: there is no Auto Scaling group wep in eu-west-1; the existing groups: web; "
          + "hint: did you mean --group 'web'?"
      ])
  }

  @Test func `a group that is not complete is named with what is missing`() async throws {
    let hint =
      "hint: a run waits for them up to --wait-timeout (10 min); see aws autoscaling describe-scaling-activities"
    #expect(
      try await findings { doctor in
        doctor.aws.setGroups([FakeGroup(desired: 3)])
        doctor.aws.setInstances([
          FakeInstance("i-0aaa", ip: "10.0.1.10"), FakeInstance("i-0bbb", ip: "10.0.1.11", lifecycle: "Terminating"),
        ])
      } == [
        "problem group: 1 of 3 servers are eligible; missing: i-0bbb (lifecycle state Terminating), "
          + "1 not launched yet; \(hint)"
      ])
  }

  /// One cluster with two names, or two clusters with one record.
  @Test func `a record of another cluster than this server's data is a problem`() async throws {
    var doctor = doctor
    doctor.settings.clusterRecord = "/consul/web"
    doctor.context.files.put("/var/lib/consul-bootstrap/cluster.json", #"{"cluster": "ours", "epoch": 1}"#)
    func entry(_ cluster: String) -> String {
      #"{"state":"formed","cluster":"\#(cluster)","epoch":1,"by":"i-1","at":"2026-01-02T03:04:05Z","#
        + #""servers":[{"instance":"i-1","address":"10.0.0.1"}]}"#
    }
    doctor.aws.setParameter("/consul/web/000001", entry("ours"))
    #expect(try await doctor.findings("record") == ["ok record: /consul/web/000001 is formed: i-1"])
    doctor.aws.setParameter("/consul/web/000001", entry("theirs"))
    #expect(
      try await doctor.findings("record") == [
        "problem record: /consul/web/000001 is of cluster theirs, but the cluster names itself ours; "
          + "the record names i-1; hint: if those are this cluster's servers, create the next entry with the cluster "
          + "ours; otherwise give this cluster a --cluster-record of its own (docs/operations.md)"
      ])
    doctor.aws.setParameter("/consul/web/000002", #"{"state":"closed"}"#)
    #expect(try await doctor.findings("record") == ["ok record: /consul/web/000002 is closed"])
  }

  /// A new cluster that expects no server never elects a leader.
  @Test func `a desired capacity of 0 is a problem`() async throws {
    #expect(
      try await findings { $0.aws.setGroups([FakeGroup(desired: 0)]) } == [
        "problem group: the expected number of servers is 0; the desired capacity of Auto Scaling group web is 0; "
          + "hint: raise the desired capacity, set --expect N, or correct --group"
      ])
  }

  /// Each survivor of a lost quorum fails a load balancer's check, and is terminated with its data.
  @Test(arguments: ["ELB", "EC2,ELB", "VPC_LATTICE"])
  func `a health check that ends every survivor is noted`(type: String) async throws {
    let found = try await findings { doctor in
      var group = FakeGroup(desired: 1)
      group.healthCheckType = type
      doctor.aws.setGroups([group])
      doctor.aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10")])
    }
    #expect(
      found.last
        == "note group: the health check type of Auto Scaling group web is \(type == "EC2,ELB" ? "ELB" : type): "
        + "once the quorum is lost, it terminates every server that is left, and their data; hint: aws autoscaling "
        + "update-auto-scaling-group --auto-scaling-group-name web --health-check-type EC2")
  }

  @Test(arguments: [(1, true), (2, false)])
  func `a maximum size without room for a replacement is noted`(maximum: Int, isNoted: Bool) async throws {
    let found = try await findings { doctor in
      var group = FakeGroup(desired: 1)
      (group.maxSize, group.healthCheckType) = (maximum, "EC2")
      doctor.aws.setGroups([group])
      doctor.aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10")])
    }
    #expect(
      found.contains(
        "note group: the maximum size of Auto Scaling group web is its desired capacity, 1: a replacement cannot "
          + "launch before an old server is terminated; hint: aws autoscaling update-auto-scaling-group "
          + "--auto-scaling-group-name web --max-size 2") == isNoted)
  }

  @Test func `tags without --expect are a problem`() async throws {
    #expect(
      try await findings { doctor in
        doctor.settings.membership = .tags([.init(key: "Name", value: "consul")])
        doctor.aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10", tags: ["Name": "consul"])])
      } == [
        "problem group: the expected number of servers is not known; tags have no desired capacity; "
          + "hint: set --expect N"
      ])
  }

  /// A server that is not of the group waits until its timeout.
  @Test func `a group without this instance is a problem, however many servers it has`() async throws {
    #expect(
      try await findings { doctor in
        doctor.settings.membership = .groups(["consul"])
        doctor.settings.expect = 1
        doctor.aws.setGroups([FakeGroup("consul", desired: 2)])
        doctor.aws.setInstances([
          FakeInstance("i-0aaa", ip: "10.0.1.10"),
          FakeInstance("i-0bbb", ip: "10.0.1.11", group: "consul"),
          FakeInstance("i-0ccc", ip: "10.0.1.12", group: "consul"),
        ])
      } == [
        "problem group: 2 of 1 servers are eligible; missing: i-0aaa (this instance is not listed); hint: a run waits "
          + "for them up to --wait-timeout (10 min); see aws autoscaling describe-scaling-activities"
      ])
  }

  @Test func `a client needs one server`() async throws {
    func client(_ servers: Int) async throws -> [String] {
      try await findings { doctor in
        doctor.settings.role = .client
        doctor.settings.membership = .groups(["consul"])
        doctor.aws.setGroups([FakeGroup("consul", desired: servers)])
        doctor.aws.setInstances(
          [FakeInstance("i-0aaa", ip: "10.0.1.10")]
            + (0..<servers).map { FakeInstance("i-s\($0)", ip: "10.0.1.\(20 + $0)", group: "consul") })
      }
    }
    #expect(
      try await client(0) == [
        "problem group: no server is eligible; hint: a client waits for a server: check --group or --tag"
      ])
    #expect(try await client(1) == ["ok group: 1 server is eligible"])
    #expect(try await client(2) == ["ok group: 2 servers are eligible"])
  }

  @Test func `another zone that is not complete is a note`() async throws {
    #expect(
      try await findings { doctor in
        doctor.settings.layout = .datacenterPerAZ
        doctor.settings.membership = .groups(["a", "b"])
        doctor.aws.setGroups([
          FakeGroup("a", desired: 1, zones: ["eu-west-1a"]), FakeGroup("b", desired: 2, zones: ["eu-west-1b"]),
        ])
        doctor.aws.setInstances([
          FakeInstance("i-0aaa", ip: "10.0.1.10", group: "a"),
          FakeInstance("i-0bbb", ip: "10.0.1.20", zone: "eu-west-1b", group: "b"),
        ])
      } == [
        "ok group: 1 of 1 servers are eligible", "note group: 1 of 2 servers are eligible in eu-west-1b",
      ])
  }
}
