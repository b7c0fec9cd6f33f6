import AWS
import Base
import TestSupport
import Testing

@testable import Model
@testable import Observers

/// The servers as Auto Scaling and EC2 describe them.
@Suite(.timeLimit(.minutes(5))) struct GroupObserverTests {
  private var flow = Flow()

  private func observe(
    _ membership: Settings.Membership = .ownGroup, addressing: PeerAddressing = .primary, groupName: String? = "web",
    vpcID: String? = "vpc-1"
  ) async throws -> GroupObservation {
    let identity = Identity(
      instanceID: "i-2", region: "eu-west-1", availabilityZone: "eu-west-1a", privateIP: address("10.0.1.10"),
      vpcID: vpcID)
    return try await GroupObserver(membership: membership, addressing: addressing, client: flow.client)
      .observe(identity, groupName: groupName)
  }

  private func instance(
    _ id: String, _ ip: String?, group: String? = "web", zone: String = "eu-west-1a",
    lifecycle: String? = "InService", state: String? = "running", publicIP: String? = nil, vpcID: String? = "vpc-1"
  ) -> Instance {
    Instance(
      instanceID: id, group: group, availabilityZone: zone, lifecycleState: lifecycle, instanceState: state,
      privateIP: ip.map(address), publicIP: publicIP.map(address), vpcID: vpcID)
  }

  /// Numeric order: 10.0.1.9 before 10.0.1.10; without an address last, by ID.
  @Test func `the own group: two calls, in numeric order of address, with what EC2 does not know yet`() async throws {
    flow.aws.setInstances([
      FakeInstance("i-9", ip: nil, lifecycle: "Pending"), FakeInstance("i-3", ip: "10.0.2.100"),
      FakeInstance("i-2", ip: "10.0.1.10", publicIP: "192.0.2.10"), FakeInstance("i-1", ip: "10.0.1.9"),
      FakeInstance("i-8", ip: nil, state: "pending", lifecycle: "Pending:Wait"),
      FakeInstance("x-1", ip: "10.0.1.1", group: "other"),
    ])
    flow.aws.change("i-9") { $0.isInEC2 = false }
    flow.aws.setGroups([
      FakeGroup("web", desired: 5, zones: ["eu-west-1b", "eu-west-1a"]), FakeGroup("other", desired: 1),
    ])
    #expect(
      try await observe()
        == GroupObservation(
          instances: [
            instance("i-1", "10.0.1.9"), instance("i-2", "10.0.1.10", publicIP: "192.0.2.10"),
            instance("i-3", "10.0.2.100"), instance("i-8", nil, lifecycle: "Pending:Wait", state: "pending"),
            instance("i-9", nil, lifecycle: "Pending", state: nil, vpcID: nil),
          ],
          scalingGroups: [.init(name: "web", desiredCapacity: 5, zones: ["eu-west-1a", "eu-west-1b"])]))
    #expect(Set(flow.aws.calls.map(\.action)) == ["DescribeAutoScalingGroups", "DescribeInstances"])
    #expect(flow.aws.calls.count == 2)
    #expect(
      flow.aws.calls("DescribeInstances").first?.parameters == [
        "Filter.1.Name": "tag:aws:autoscaling:groupName", "Filter.1.Value.1": "web", "MaxResults": "1000",
      ])
  }

  /// A terminated instance may be reused by no group; EC2 without a group's instance must not hide it.
  @Test func `several groups are one membership, all pages of it`() async throws {
    flow.aws.setGroups([FakeGroup("a", desired: 1), FakeGroup("b", desired: 2)])
    flow.aws.setInstances([
      FakeInstance("i-1", ip: "10.0.1.9", group: "a"), FakeInstance("i-2", ip: "10.0.1.8", group: "b"),
      FakeInstance("i-3", ip: "10.0.1.7", group: "b"),
    ])
    flow.aws.setPageSize(1)
    let seen = try await observe(.groups(["a", "b"]))
    #expect(seen.instances.map(\.instanceID) == ["i-3", "i-2", "i-1"])
    #expect(seen.instances.map(\.group) == ["b", "b", "a"] && seen.desiredCapacity == 3)
  }

  @Test func `tags select this VPC's instances that have all of them and may still run`() async throws {
    let tags = ["role": "consul", "env": "prod"]
    flow.aws.setInstances([
      FakeInstance("i-1", ip: "10.0.1.9", group: nil, tags: tags),
      FakeInstance("i-2", ip: nil, group: nil, state: "pending", tags: tags),
      FakeInstance("i-3", ip: "10.0.1.7", group: nil, state: "stopped", tags: tags),
      FakeInstance("i-4", ip: "10.0.1.6", group: nil, vpcID: "vpc-2", tags: tags),
      FakeInstance("i-5", ip: "10.0.1.5", group: nil, tags: ["role": "consul"]),
      FakeInstance("i-6", ip: "10.0.1.4", group: nil, state: "terminated", tags: tags),
    ])
    let membership = Settings.Membership.tags([.init(key: "role", value: "consul"), .init(key: "env", value: "prod")])
    #expect(
      try await observe(membership)
        == GroupObservation(
          instances: [
            instance("i-3", "10.0.1.7", group: nil, lifecycle: nil, state: "stopped"),
            instance("i-1", "10.0.1.9", group: nil, lifecycle: nil),
            instance("i-2", nil, group: nil, lifecycle: nil, state: "pending"),
          ], scalingGroups: []))
    #expect(flow.aws.calls.map(\.action) == ["DescribeInstances"])
    // Without a VPC (EC2-Classic's metadata) there is nothing to restrict.
    #expect(try await observe(membership, vpcID: nil).instances.map(\.instanceID) == ["i-4", "i-3", "i-1", "i-2"])
  }

  @Test func `addresses are those of the interface that corresponds to the advertised one`() async throws {
    var first = FakeInstance("i-1", ip: "10.0.1.9")
    first.interfaces = [
      FakeInterface(0, [("10.0.1.9", "192.0.2.9")]), FakeInterface(1, [("10.0.7.9", nil), ("10.0.7.99", nil)]),
    ]
    flow.aws.setInstances([first])
    for (addressing, expected) in [
      (PeerAddressing.primary, "10.0.1.9"), (.device(1, isPublic: false), "10.0.7.9"),
      (.device(0, isPublic: true), "192.0.2.9"), (.network(IPv4Network("10.0.7.0/24")!), "10.0.7.9"),
    ] {
      #expect(try await observe(addressing: addressing).instances.map(\.privateIP) == [address(expected)])
    }
    #expect(try await observe(addressing: .device(1, isPublic: true)).instances.map(\.privateIP) == [nil])
  }

  /// What still runs with the group's tag may hold data: a detached instance, or one that the group has forgotten.
  /// Those of its warm pool have the tag, too, and only DescribeAutoScalingInstances tells.
  @Test func `instances with the group's tag that it does not list are there, unless they are terminated`() async throws
  {
    var detached = FakeInstance("i-1", ip: "10.0.1.9", lifecycle: "Detached")
    var warm = FakeInstance("i-2", ip: "10.0.1.8", state: "stopped", lifecycle: "Warmed:Stopped")
    var gone = FakeInstance("i-3", ip: nil, state: "terminated")
    (detached.isListed, warm.isListed, gone.isListed) = (false, false, false)
    flow.aws.setGroups([FakeGroup("web", desired: 1)])
    flow.aws.setInstances([detached, warm, gone, FakeInstance("i-4", ip: "10.0.1.7")])
    let seen = try await observe()
    #expect(seen.instances.map(\.instanceID) == ["i-4", "i-2", "i-1"])
    #expect(seen.instances.map(\.isListed) == [true, true, false])
    #expect(seen.instances.map(\.lifecycleState) == ["InService", "Warmed:Stopped", "Detached"])
    #expect(
      flow.aws.calls.map(\.action).sorted() == [
        "DescribeAutoScalingGroups", "DescribeAutoScalingInstances", "DescribeInstances",
      ])
  }

  @Test func `where the role may not ask for their states, they count as no longer listed`() async throws {
    var warm = FakeInstance("i-2", ip: "10.0.1.8", state: "stopped", lifecycle: "Warmed:Stopped")
    warm.isListed = false
    flow.aws.setInstances([warm, FakeInstance("i-4", ip: "10.0.1.7")])
    flow.aws.refuse("DescribeAutoScalingInstances", .accessDenied)
    let seen = try await observe()
    #expect(seen.instances.map(\.isListed) == [true, false])
  }

  /// `DesiredCapacityType` memory-mib.
  @Test func `a weight in MiB of memory is read`() async throws {
    var heavy = FakeInstance("i-1", ip: "10.0.1.9")
    heavy.weight = 16384
    flow.aws.setGroups([FakeGroup("web", desired: 49152)])
    flow.aws.setInstances([heavy])
    #expect(try await observe().instances.map(\.weight) == [16384])
  }

  @Test func `weights and suspended processes are AWS's`() async throws {
    var heavy = FakeInstance("i-1", ip: "10.0.1.9"), group = FakeGroup("web", desired: 6)
    heavy.weight = 2
    group.suspendedProcesses = ["Terminate", "Launch"]
    flow.aws.setGroups([group])
    flow.aws.setInstances([heavy])
    let seen = try await observe()
    #expect(seen.instances.map(\.weight) == [2])
    #expect(seen.scalingGroups.map(\.suspendedProcesses) == [["Launch", "Terminate"]])
  }

  // MARK: Groups that do not exist

  @Test func `a deleted group beside another named one is remembered, not an error`() async throws {
    let seen = try await observe(.groups(["web", "old"]))
    #expect(seen.missingGroups == ["old"] && seen.scalingGroups.map(\.name) == ["web"])
  }

  @Test func `an unknown group is an error with the existing groups and the nearest name`() async {
    flow.aws.setGroups([FakeGroup("vault", desired: 1), FakeGroup("consul", desired: 1)])
    let failed = await failure { _ = try await observe(.groups(["consu"])) }
    #expect(
      failed
        == Failure(
          .awsFailed, "there is no Auto Scaling group consu in eu-west-1",
          details: ["the existing groups: consul, vault"], hint: "did you mean --group 'consul'?"))
  }

  @Test func `without a similar name, and with many groups, the list is bounded`() async {
    flow.aws.setGroups((1...30).map { FakeGroup("group-\($0)", desired: 1) })
    let failed = await failure { _ = try await observe(.groups(["web"])) }
    #expect(failed?.hint == "check --group and the region")
    #expect(failed?.details.first?.hasPrefix("the existing groups: group-1, group-10, group-11") == true)
    #expect(failed?.details.first?.hasSuffix("group-27 and 10 more") == true)
  }

  @Test func `a region without groups and a refused list have different reasons`() async {
    flow.aws.setGroups([])
    let none = await failure { _ = try await observe() }
    #expect(none?.details == ["there are no groups in this region"])
    // The call by name finds nothing; the call for the list, which has no name, is refused.
    flow.context.transport.on("https://autoscaling.eu-west-1.amazonaws.com/") { request in
      let text = String(decoding: request.body, as: UTF8.self)
      guard !text.contains("AutoScalingGroupNames") else { return nil }
      return HTTPResponse(status: 403, body: Array("<E><Error><Code>AccessDenied</Code></Error></E>".utf8))
    }
    let refused = await failure { _ = try await observe() }
    #expect(refused?.message == "there is no Auto Scaling group web in eu-west-1")
    #expect(
      refused?.details == [
        "cannot list the existing groups: AutoScaling DescribeAutoScalingGroups answered AccessDenied (HTTP 403)"
      ])
  }

  /// Guards against a call without a filter, which describes every instance of the region.
  @Test func `an own group that is not known is an error, not a call`() async {
    let failed = await failure { _ = try await observe(groupName: nil) }
    #expect(failed?.message == "this instance belongs to no Auto Scaling group")
    #expect(flow.aws.calls.isEmpty)
  }
}
