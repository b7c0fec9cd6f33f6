import AWS
import Base
import Consul
import TestSupport
import Testing

/// The fakes speak the protocols: the program's own clients understand them.
@Suite(.timeLimit(.minutes(5))) struct FakeServicesTests {
  private let context = TestContext()

  private var metadataClient: MetadataClient {
    MetadataClient(
      environment: [:], allowsVersion1: false, transport: context.transport, clock: context.clock, log: context.log)
  }

  @Test func `metadata demands its token and gives identity, interface and role`() async throws {
    let metadata = FakeMetadata(context)
    let client = metadataClient
    let refused = try await context.transport.send(HTTPRequest("GET", FakeMetadata.base + "/latest/meta-data/mac"))
    #expect(refused.status == 401)
    let identity = try await client.identity()
    #expect(identity.instanceID == "i-0aaa" && identity.availabilityZone == "eu-west-1a")
    #expect(try await client.vpcID() == "vpc-1")
    #expect(try await client.interfaces().first?.privateIPs.map(\.description) == ["10.0.1.10"])
    let provider = InstanceRoleCredentials(metadata: client)
    await #expect(throws: CredentialError.noRole) { try await provider.credentials() }
    metadata.setRole(expiration: context.clock.wall() + .seconds(3600))
    metadata.forgetTokens()
    #expect(try await provider.credentials()?.roleName == "web-node")
  }

  @Test func `EC2 and Auto Scaling show the instances, all pages`() async throws {
    let aws = FakeAWS(context)
    aws.setGroups([FakeGroup(desired: 3), FakeGroup("other", desired: nil)])
    aws.setInstances([
      FakeInstance("i-1", ip: "10.0.1.1", tags: ["role": "a&b"]), FakeInstance("i-2", ip: nil, state: "pending"),
      FakeInstance("i-3", ip: "10.0.1.3", publicIP: "192.0.2.3"), FakeInstance("i-4", ip: "10.0.1.4", group: nil),
    ])
    aws.setPageSize(1)
    let client = aws.client()
    let groups = try await AutoScaling(client: client).describeAutoScalingGroups(["web"])
    #expect(groups.first?.desiredCapacity == 3 && groups.first?.instances.count == 3)
    #expect(try await AutoScaling(client: client).groupName(ofInstance: "i-3") == "web")
    #expect(try await AutoScaling(client: client).groupName(ofInstance: "i-4") == nil)
    let filter = EC2.Filter("tag:aws:autoscaling:groupName", ["web"])
    let instances = try await EC2(client: client).describeInstances([filter], withInterfaces: true)
    #expect(instances.map(\.instanceID) == ["i-1", "i-2", "i-3"])
    #expect(instances.map(\.state) == ["running", "pending", "running"])
    #expect(instances[2].interfaces.first?.publicIPs.keys.map(\.description) == ["192.0.2.3"])
    let tagged = try await EC2(client: client).describeInstances([EC2.Filter("tag:role", ["a&b"])])
    #expect(tagged.map(\.instanceID) == ["i-1"])
    aws.change("i-1") { $0.isInEC2 = false }
    #expect(try await EC2(client: client).describeInstances([filter]).count == 2)
    #expect(aws.calls("DescribeAutoScalingInstances").first?.parameters == ["InstanceIds.member.1": "i-3"])
  }

  @Test func `refusals come as the service's own, so many times`() async throws {
    let aws = FakeAWS(context)
    aws.setGroups([FakeGroup(desired: 1)])
    aws.refuse("DescribeAutoScalingGroups", .throttled, times: 2)
    let client = aws.client()
    #expect(try await AutoScaling(client: client).describeAutoScalingGroups(["web"]).count == 1)
    #expect(aws.calls.count == 3)
    aws.refuse("DescribeInstances", .accessDenied)
    let error = await #expect(throws: AWSError.self) {
      try await EC2(client: client).describeInstances([EC2.Filter("instance-id", ["i-1"])])
    }
    #expect(error?.code == "AccessDenied" && error?.httpStatus == 403)
    aws.fail("GetParameter", .refused, times: 1)
    aws.setParameter("/gossip", "key")
    #expect(try await ParameterStore(client: client).parameter("/gossip")?.value == "key")
  }

  @Test func `hooks are completed once, where they are set up`() async throws {
    let aws = FakeAWS(context)
    aws.setGroups([FakeGroup(desired: 1, hooks: ["launch"])])
    aws.setInstances([FakeInstance("i-1", ip: "10.0.1.1", lifecycle: "Pending:Wait")])
    let scaling = AutoScaling(client: aws.client())
    try await scaling.completeLifecycleAction(hook: "launch", group: "web", instanceID: "i-1", .proceed)
    #expect(aws.completedHooks == ["launch web i-1 CONTINUE"])
    let error = await #expect(throws: AWSError.self) {
      try await scaling.completeLifecycleAction(hook: "other", group: "web", instanceID: "i-1", .proceed)
    }
    #expect(error?.code == "ValidationError")
    try await scaling.tryCompletingLifecycleAction(hook: "launch", group: "web")
  }

  @Test func `parameters, secrets and logs keep what they are given`() async throws {
    let aws = FakeAWS(context)
    let client = aws.client()
    let store = ParameterStore(client: client), logs = CloudWatchLogs(client: client)
    #expect(try await store.parameter("/gossip") == nil)
    #expect(try await store.create("/gossip", Secret("a")))
    #expect(try await !store.create("/gossip", Secret("b")))
    #expect(aws.parameter("/gossip") == "a")
    #expect(try await SecretsManager(client: client).secret("token") == nil)
    aws.setSecret("token", "t")
    #expect(try await SecretsManager(client: client).secret("token")?.value == "t")
    await #expect(throws: AWSError.self) { try await logs.createLogStream(group: "g", stream: "s") }
    try await logs.createLogGroup("g", tags: [:])
    try await logs.putRetentionPolicy(group: "g", days: 7)
    try await logs.createLogStream(group: "g", stream: "s")
    // Long enough to be compressed.
    let long = String(repeating: "x", count: 20_000)
    let events: JSONValue = [["message": .string(long), "timestamp": 5]]
    let rejected = try await logs.putLogEvents(group: "g", stream: "s", size: 30_000) {
      $0 += events.compactText.utf8
    }
    #expect(rejected == nil)
    #expect(try await aws.messages(group: "g", stream: "s", count: 1) == [long])
    #expect(try await logs.lastEventTime(group: "g", stream: "s") == Timestamp(milliseconds: 5))
    #expect(aws.logStreams == ["g": ["s"]] && aws.retentionDays(group: "g") == 7)
    try await logs.tryPuttingLogEvents(group: "g")
  }

  @Test func `an unsigned probe shows the service's clock`() async throws {
    let client = FakeAWS(context).client()
    context.clock.setWall(by: .seconds(90))
    #expect(try await client.probe(.ec2) == .zero)
  }

  @Test func `a Consul agent shows its cluster and records joins`() async throws {
    let agent = FakeConsulAgent(context, at: "10.0.1.5:8500")
    let client = AgentClient(address: "10.0.1.5:8500", transport: context.transport, timeout: .seconds(2))
    #expect(try await client.clusterStatus() == ClusterStatus(leader: nil, peers: []))
    agent.setCluster([("a", "10.0.1.5"), ("b", "10.0.1.6")])
    let status = try await client.clusterStatus()
    #expect(status == ClusterStatus(leader: "10.0.1.5:8300", peers: ["10.0.1.5:8300", "10.0.1.6:8300"]))
    #expect(try await client.raftConfiguration().map(\.isLeader) == [true, false])
    agent.set { $0.wanMembers = [.init("a.dc1", "10.0.1.5", status: 4)] }
    #expect(try await client.members(wan: false).map(\.name) == ["a", "b"])
    #expect(try await client.members(wan: true).map(\.isAlive) == [false])
    #expect(try await client.nodeName() == "node")
    let other = try #require(IPv4Address("10.0.2.7"))
    try await client.join(other, wan: false)
    try await client.join(other, wan: true)
    try await client.reload()
    #expect(agent.joins == ["10.0.2.7", "wan 10.0.2.7"] && agent.reloads == 1)
    agent.set { $0.requiredToken = "secret" }
    await #expect(throws: AgentError.refused(status: 403, message: "Permission denied")) { try await client.reload() }
    _ = try await client.clusterStatus()
    agent.set { $0.failure = .refused }
    await #expect(throws: AgentError.transport(.refused)) { try await client.clusterStatus() }
  }
}
