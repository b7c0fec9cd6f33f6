import Testing

@testable import AWS
@testable import Base

/// What the APIs answer, and what they must not lack.
@Suite(.timeLimit(.minutes(5))) struct AnswerTests {
  private typealias Bench = AWSClientTests.Bench

  static func group(
    name: String = "<AutoScalingGroupName>web</AutoScalingGroupName>",
    capacity: String = "<DesiredCapacity>3</DesiredCapacity>",
    zones: String = "<AvailabilityZones><member>eu-west-1a</member></AvailabilityZones>",
    instances: String = "<Instances/>"
  ) -> String {
    "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups><member>"
      + name + capacity + zones + instances
      + "</member></AutoScalingGroups></DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>"
  }

  static func instances(_ fields: String) -> String { "<Instances><member>\(fields)</member></Instances>" }

  static let id = "<InstanceId>i-1</InstanceId>", zone = "<AvailabilityZone>eu-west-1a</AvailabilityZone>"

  /// A missing desired capacity was 0: a new cluster that expects 0 servers.
  @Test(arguments: [
    (group(capacity: ""), "the answer has no DesiredCapacity of Auto Scaling group web"),
    (group(capacity: "<DesiredCapacity/>"), "the answer has no DesiredCapacity of Auto Scaling group web"),
    (
      group(capacity: "<DesiredCapacity>-1</DesiredCapacity>"),
      "DesiredCapacity of Auto Scaling group web is not a count: -1"
    ),
    (
      group(capacity: "<DesiredCapacity>9223372036854775807</DesiredCapacity>"),
      "DesiredCapacity of Auto Scaling group web is not a count: 9223372036854775807"
    ),
    (
      group(capacity: "<DesiredCapacity>three</DesiredCapacity>"),
      "DesiredCapacity of Auto Scaling group web is not a count: three"
    ),
    (group(name: ""), "the answer has no AutoScalingGroupName of an Auto Scaling group"),
    (group(zones: ""), "the answer has no AvailabilityZones of Auto Scaling group web"),
    (group(zones: "<AvailabilityZones/>"), "the answer has no AvailabilityZones of Auto Scaling group web"),
    (
      group(zones: "<AvailabilityZones><member/></AvailabilityZones>"),
      "the answer has no AvailabilityZones of Auto Scaling group web"
    ),
    (group(instances: instances(zone)), "the answer has no InstanceId of an instance of Auto Scaling group web"),
    (group(instances: instances(id)), "the answer has no AvailabilityZone of instance i-1"),
    (group(instances: instances(id + zone)), "the answer has no LifecycleState of instance i-1"),
    ("<html/>", "the answer has no DescribeAutoScalingGroupsResult of html"),
    (
      "<R><DescribeAutoScalingGroupsResult/></R>", "the answer has no AutoScalingGroups of R"
    ),
  ])
  func `a group that lacks something is a malformed answer`(_ body: String, _ cause: String) async {
    await malformed(body, cause) { _ = try await AutoScaling(client: $0).describeAutoScalingGroups(["web"]) }
  }

  @Test func `a group is read whole`() async throws {
    let member = Self.instances(Self.id + Self.zone + "<LifecycleState>Pending:Wait</LifecycleState>")
    let bench = Bench([answer(200, Self.group(instances: member)), answer(200, Self.group(instances: ""))])
    let groups = AutoScaling(client: bench.client)
    #expect(
      try await groups.describeAutoScalingGroups(["web"]) == [
        AutoScalingGroup(
          name: "web", desiredCapacity: 3, availabilityZones: ["eu-west-1a"],
          instances: [.init(instanceID: "i-1", availabilityZone: "eu-west-1a", lifecycleState: "Pending:Wait")])
      ])
    #expect(try await groups.describeAutoScalingGroups(["web"])[0].instances == [])
  }

  static func membership(_ fields: String) -> String {
    "<R><DescribeAutoScalingInstancesResult><AutoScalingInstances>\(fields)</AutoScalingInstances>"
      + "</DescribeAutoScalingInstancesResult></R>"
  }

  @Test func `an instance without a group differs from one whose group is missing in the answer`() async throws {
    let named =
      "<member>\(Self.id)<AutoScalingGroupName>web</AutoScalingGroupName>"
      + "<LifecycleState>InService</LifecycleState></member>"
    let bench = Bench([answer(200, Self.membership("")), answer(200, Self.membership(named))])
    #expect(try await AutoScaling(client: bench.client).groupName(ofInstance: "i-1") == nil)
    #expect(try await AutoScaling(client: bench.client).groupName(ofInstance: "i-1") == "web")
    for (body, cause) in [
      (Self.membership("<member>\(Self.id)</member>"), "the answer has no AutoScalingGroupName of instance i-1"),
      ("<R><DescribeAutoScalingInstancesResult/></R>", "the answer has no AutoScalingInstances of R"),
    ] {
      await malformed(body, cause) { _ = try await AutoScaling(client: $0).groupName(ofInstance: "i-1") }
    }
  }

  static func instance(
    _ fields: String = "<instanceId>i-1</instanceId>",
    state: String = "<instanceState><name>running</name></instanceState>",
    placement: String = "<placement><availabilityZone>eu-west-1a</availabilityZone></placement>", more: String = ""
  ) -> String {
    "<R><reservationSet><item><instancesSet><item>" + fields + state + placement + more
      + "</item></instancesSet></item></reservationSet></R>"
  }

  static func interface(_ fields: String) -> String {
    instance(more: "<networkInterfaceSet><item>\(fields)</item></networkInterfaceSet>")
  }

  static let first = "<attachment><deviceIndex>0</deviceIndex></attachment>"

  @Test(arguments: [
    ("<html/>", "the answer has no reservationSet of html"),
    ("<R><reservationSet><item/></reservationSet></R>", "the answer has no instancesSet of a reservation"),
    (instance(""), "the answer has no instanceId of an instance"),
    (instance(state: ""), "the answer has no instanceState of instance i-1"),
    (instance(state: "<instanceState/>"), "the answer has no name of instanceState of instance i-1"),
    (instance(placement: ""), "the answer has no placement of instance i-1"),
    (instance(placement: "<placement/>"), "the answer has no availabilityZone of placement of instance i-1"),
    (
      instance(more: "<privateIpAddress>10.0.1.300</privateIpAddress>"),
      "privateIpAddress of instance i-1 is not an IPv4 address: 10.0.1.300"
    ),
    (interface(""), "the answer has no attachment of an interface of instance i-1"),
    (interface("<attachment/>"), "the answer has no deviceIndex of an interface of instance i-1"),
    (
      interface("<attachment><deviceIndex>x</deviceIndex></attachment>"),
      "deviceIndex of an interface of instance i-1 is not a count: x"
    ),
    (
      interface(first + "<privateIpAddressesSet><item/></privateIpAddressesSet>"),
      "the answer has no privateIpAddress of an interface of instance i-1"
    ),
  ])
  func `an instance that lacks something is a malformed answer`(_ body: String, _ cause: String) async {
    await malformed(body, cause) {
      _ = try await EC2(client: $0).describeInstances([.init("vpc-id", ["v"])], withInterfaces: true)
    }
  }

  @Test func `a terminated instance has neither addresses nor a VPC`() async throws {
    let bench = Bench([answer(200, Self.instance(state: "<instanceState><name>terminated</name></instanceState>"))])
    #expect(
      try await EC2(client: bench.client).describeInstances([.init("vpc-id", ["v"])]) == [
        EC2Instance(
          instanceID: "i-1", state: "terminated", availabilityZone: "eu-west-1a", privateIP: nil, vpcID: nil)
      ])
  }

  /// A list that ends silently would be taken for the whole.
  @Test func `pages without end are an error`() async {
    let page = "<R><reservationSet/><nextToken>again</nextToken></R>"
    let bench = Bench(Array(repeating: answer(200, page), count: 1000))
    await #expect {
      _ = try await EC2(client: bench.client).describeInstances([.init("vpc-id", ["v"])])
    } throws: { ($0 as? AWSError)?.message == "more than 1000 pages" }
  }

  /// A malformed answer would be retried, and the batch, which the service has accepted, sent again without end.
  @Test(arguments: [
    #""1""#, "1.5", "9223372036854775808", "null", "{}", "-9223372036854775808", "9223372036854775807",
  ])
  func `an index of rejected events that is none neither traps nor sends the batch again`(_ index: String) async throws
  {
    let bench = Bench([
      answer(200, #"{"rejectedLogEventsInfo":{"tooNewLogEventStartIndex":\#(index)}}"#)
    ])
    let rejected = try await CloudWatchLogs(client: bench.client).putLogEvents(group: "g", stream: "s", size: 2) {
      $0 += "[]".utf8
    }
    #expect(rejected?.contains(0) == index.hasPrefix("-"))
  }

  @Test func `events that are rejected are read, and none where all were accepted`() async throws {
    let bench = Bench([
      answer(200, "{}"), answer(200, #"{"rejectedLogEventsInfo":{}}"#),
      answer(200, #"{"rejectedLogEventsInfo":{"tooNewLogEventStartIndex":3,"tooOldLogEventEndIndex":1}}"#),
    ])
    let expected = [nil, nil, RejectedLogEvents(tooNewStart: 3, tooOldEnd: 1, expiredEnd: nil)]
    for rejected in expected {
      #expect(
        try await CloudWatchLogs(client: bench.client).putLogEvents(group: "g", stream: "s", size: 2) {
          $0 += "[]".utf8
        } == rejected)
    }
  }

  @Test func `the time of the last event is read, and a stream without events has none`() async throws {
    let bench = Bench([
      answer(200, #"{"logStreams":[{"logStreamName":"sx"},{"logStreamName":"s","lastEventTimestamp":-5}]}"#),
      answer(200, #"{"logStreams":[{"logStreamName":"s"}]}"#), answer(200, #"{"logStreams":[]}"#),
    ])
    let logs = CloudWatchLogs(client: bench.client)
    for expected in [Timestamp(milliseconds: -5), nil, nil] {
      #expect(try await logs.lastEventTime(group: "g", stream: "s") == expected)
    }
    for (body, cause) in [
      ("{}", "the answer has no logStreams"),
      (#"{"logStreams":[{"logStreamName":"s","lastEventTimestamp":"1"}]}"#, "lastEventTimestamp is not a number"),
    ] {
      await malformed(body, cause) {
        _ = try await CloudWatchLogs(client: $0).lastEventTime(group: "g", stream: "s")
      }
    }
  }

  @Test func `a secret without a value is a malformed answer`() async {
    await malformed("{}", "the answer has no Parameter.Value") {
      _ = try await ParameterStore(client: $0).parameter("/k")
    }
    await malformed(#"{"SecretBinary":"%"}"#, "the answer has neither SecretString nor SecretBinary in base64") {
      _ = try await SecretsManager(client: $0).secret("k")
    }
  }

  /// With one attempt: that malformed answers are retried is a test of the client.
  private func malformed(_ body: String, _ cause: String?, _ call: (AWSClient) async throws -> Void) async {
    let bench = Bench([answer(200, body)], attempts: 1)
    await #expect {
      try await call(bench.client)
    } throws: { error in
      guard let error = error as? AWSError else { return false }
      return error.kind == .malformed && error.isRetryable && (cause == nil || error.message == cause)
    }
  }
}
