import AWS
import Base
import Model
import TestSupport
import Testing

@testable import Doctor

@Suite(.timeLimit(.minutes(5))) struct AWSChecksTests {
  private var doctor = DoctorFixture()

  private static let key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
  private static let noPeers = "note peers: no peers to probe yet"
  private static let oneServer =
    "note plan: 1 server survives no failure: the state of the datacenter is lost with it; use 3 or 5"

  /// What a refused call is reported as.
  private func denied(_ action: String, _ purpose: String, title: String, isEC2OrQuery: Bool = true) -> String {
    let (service, name) = (action.prefix { $0 != ":" }, action.drop { $0 != ":" }.dropFirst())
    let request = isEC2OrQuery ? "HTTP 403, request request-1" : "HTTP 403"
    return "problem \(action): cannot \(purpose): access denied; \(title) \(name) answered AccessDenied (\(request)): "
      + "not authorized; hint: allow \(service):\(name) for role web-node"
  }

  // MARK: Endpoints and clock

  @Test func `an endpoint without a route is named; the calls of the others still run`() async throws {
    doctor.context.transport.silence("https://ec2.eu-west-1.amazonaws.com/")
    let findings = try await doctor.findings()
    #expect(
      findings.first
        == "problem endpoint ec2: cannot reach https://ec2.eu-west-1.amazonaws.com: no answer; EC2 got no answer: "
        + "https://ec2.eu-west-1.amazonaws.com: no connection in time; hint: check the route to AWS: a NAT gateway or "
        + "a VPC endpoint for ec2, the security groups, DNS")
    #expect(findings.contains { $0.hasPrefix("problem ec2:DescribeInstances: cannot describe the instances") })
    #expect(!findings.contains { $0.contains("autoscaling:") && $0.hasPrefix("problem") })
  }

  @Test func `without any endpoint no call is tried`() async throws {
    doctor.context.transport.fail("https://", .nameNotFound)
    let findings = try await doctor.findings()
    #expect(findings.count == 2 && findings.allSatisfy { $0.contains("name not found") })
    #expect(doctor.aws.calls.isEmpty)
  }

  /// The instance starts in 2026-01-01T00:00:00Z; the service's clock is set.
  @Test(arguments: [
    (0, "ok clock: in sync with AWS"), (1, "ok clock: in sync with AWS"), (90, "ok clock: 90 s behind AWS"),
    (-240, "ok clock: 240 s ahead of AWS"),
    (
      241,
      "problem clock: this machine's clock is 241 s behind AWS; AWS refuses signatures that are more than 5 min off; "
        + "hint: set it (timedatectl, chronyc makestep), and synchronize it with 169.254.169.123, the Amazon Time Sync "
        + "Service"
    ),
    (
      -900,
      "problem clock: this machine's clock is 900 s ahead of AWS; AWS refuses signatures that are more than 5 min off; "
        + "hint: set it (timedatectl, chronyc makestep), and synchronize it with 169.254.169.123, the Amazon Time Sync "
        + "Service"
    ),
  ])
  func `a wrong clock is named before AWS refuses its signatures`(_ offset: Int, _ finding: String) async throws {
    let date = ["date": httpDate(Timestamp(seconds: 1_767_225_600 + Int64(offset)))]
    for service in ["ec2", "autoscaling"] {
      doctor.context.transport.answer(
        "https://\(service).eu-west-1.amazonaws.com/", method: "GET", status: 404, headers: date)
    }
    #expect(try await doctor.findings("clock") == [finding])
  }

  // MARK: Calls

  @Test(arguments: [
    ("autoscaling:DescribeAutoScalingInstances", "find this instance's group", "AutoScaling"),
    ("autoscaling:DescribeAutoScalingGroups", "describe the group", "AutoScaling"),
    ("ec2:DescribeInstances", "describe the instances", "EC2"),
  ])
  func `a call that the role may not make is named with its IAM action`(
    _ action: String, _ purpose: String, _ title: String
  ) async throws {
    doctor.aws.refuse(String(action.drop { $0 != ":" }.dropFirst()), .accessDenied)
    let findings = try await doctor.findings(action)
    #expect(findings == [denied(action, purpose, title: title)])
    // Without the group nothing is claimed about it.
    #expect(try await doctor.findings("group") == [])
    #expect(try await doctor.findings("peers") == [])
  }

  @Test func `the hook is tried without completing it`() async throws {
    var doctor = doctor
    doctor.settings.lifecycleHook = "launching"
    doctor.aws.setGroups([FakeGroup(desired: 1, hooks: ["launching"])])
    let action = "autoscaling:CompleteLifecycleAction"
    #expect(try await doctor.findings(action) == ["ok \(action): allowed"])
    #expect(doctor.aws.completedHooks.isEmpty)
    doctor.aws.refuse("CompleteLifecycleAction", .accessDenied)
    #expect(
      try await doctor.findings(action) == [
        denied(action, "complete lifecycle hook launching", title: "AutoScaling")
      ])
  }

  /// It was reported as a hook on an instance without a group.
  @Test func `a hook is not tried while the group is not known`() async throws {
    var doctor = doctor
    doctor.settings.lifecycleHook = "launching"
    doctor.aws.refuse("DescribeAutoScalingInstances", .throttled)
    #expect(
      try await doctor.findings("autoscaling:CompleteLifecycleAction") == [
        "note autoscaling:CompleteLifecycleAction: not tried: the Auto Scaling group of this instance is not known"
      ])
  }

  @Test func `a hook on an instance without a group is named`() async throws {
    var doctor = doctor
    doctor.settings.lifecycleHook = "launching"
    doctor.settings.membership = .tags([.init(key: "Name", value: "consul")])
    doctor.settings.expect = 1
    doctor.aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10", group: nil, tags: ["Name": "consul"])])
    #expect(
      try await doctor.findings() == [
        "problem autoscaling:CompleteLifecycleAction: this instance belongs to no Auto Scaling group, so no hook holds "
          + "it; hint: omit --lifecycle-hook",
        DoctorFixture.noRecord, Self.noPeers, Self.oneServer,
      ])
  }

  // MARK: Secrets

  @Test func `each secret is read; what is wrong with one is named`() async throws {
    var doctor = doctor
    doctor.settings.gossipKey = .ssm(name: "/gossip")
    doctor.settings.agentToken = .secretsManager(id: "token", key: nil)
    doctor.settings.tls.ca = .file(path: "/ca.pem")
    doctor.aws.setParameter("/gossip", Self.key)
    doctor.aws.setSecret("token", "example-token")
    doctor.context.files.put("/ca.pem", "-----BEGIN CERTIFICATE-----\n")
    #expect(
      try await doctor.findings("secret") == [
        "ok secret: ssm:/gossip exists and is valid", "ok secret: secretsmanager:token exists and is valid",
        "ok secret: file:/ca.pem exists and is valid",
      ])
    #expect(
      try await doctor.run().filter { $0.subject.hasPrefix("endpoint") }.map(\.subject) == [
        "endpoint ec2", "endpoint autoscaling", "endpoint ssm", "endpoint secretsmanager",
      ])
    doctor.aws.refuse("GetParameter", .accessDenied)
    doctor.aws.setSecret("token", nil)
    doctor.context.files.put("/ca.pem", "no PEM")
    let findings = try await doctor.findings("secret")
    #expect(findings.count == 3)
    #expect(
      findings[0]
        == "problem secret: cannot read the gossip key, ssm:/gossip: access denied; SSM GetParameter answered "
        + "AccessDenied (HTTP 403): not authorized; hint: allow ssm:GetParameter for role web-node")
    #expect(findings[1].hasPrefix("problem secret: there is no secret token, which should contain the agent's token; "))
    #expect(findings[2].hasPrefix("problem secret: file:/ca.pem is not the CA certificate in PEM form; "))
  }

  /// A throttled call was reported as if it were the secret's fault, or not at all.
  @Test func `a secret that AWS does not give now is a problem`() async throws {
    var doctor = doctor
    doctor.settings.gossipKey = .ssm(name: "/gossip")
    doctor.aws.refuse("GetParameter", .throttled)
    #expect(
      try await doctor.findings("secret") == [
        "problem secret: cannot read ssm:/gossip: throttled; SSM GetParameter answered Throttling "
          + "(HTTP 400): Rate exceeded; hint: retry later; other callers of this account and region use up the "
          + "rate limit"
      ])
  }

  @Test func `a gossip key that a run creates is created`() async throws {
    var doctor = doctor
    doctor.settings.gossipKey = .ssm(name: "/gossip")
    doctor.settings.createsGossipKey = true
    #expect(try await doctor.findings("secret") == ["ok secret: ssm:/gossip exists and is valid"])
    #expect(doctor.aws.parameter("/gossip")?.count == 44)
    doctor.aws.setParameter("/gossip", nil)
    doctor.aws.refuse("PutParameter", .accessDenied)
    let findings = try await doctor.findings("secret")
    #expect(findings.count == 1 && findings[0].hasSuffix("hint: allow ssm:PutParameter for role web-node"))
  }

  // MARK: Logs

  private func logging(_ change: (inout Settings) -> Void = { _ in }) -> DoctorFixture {
    var doctor = doctor
    doctor.settings.logs = [.init(source: .consul), .init(source: .bootstrap)]
    doctor.settings.logRetention = 7
    change(&doctor.settings)
    return doctor
  }

  @Test func `the group of the logs is created with a stream, and events may be sent`() async throws {
    let doctor = logging()
    let findings = lines(try await doctor.run().filter { $0.subject.hasPrefix("logs") })
    #expect(
      findings == [
        "ok logs:CreateLogStream: allowed", "ok logs:CreateLogGroup: allowed", "ok logs:PutRetentionPolicy: allowed",
        "ok logs:PutLogEvents: allowed",
      ])
    #expect(doctor.aws.logStreams == ["/consul/dc1": ["i-0aaa/consul"]])
    #expect(doctor.aws.retentionDays(group: "/consul/dc1") == 7)
    #expect(doctor.aws.messages(group: "/consul/dc1", stream: "i-0aaa/consul").isEmpty)
  }

  @Test(arguments: [
    ("logs:CreateLogStream", "create log stream i-0aaa/consul in /consul/dc1", []),
    ("logs:CreateLogGroup", "create log group /consul/dc1", ["CreateLogStream"]),
    ("logs:PutRetentionPolicy", "set the retention of /consul/dc1", ["CreateLogStream", "CreateLogGroup"]),
    ("logs:PutLogEvents", "send events to /consul/dc1", ["CreateLogStream", "CreateLogGroup", "PutRetentionPolicy"]),
  ])
  func `a call for the logs that the role may not make is named`(
    _ action: String, _ purpose: String, _ allowed: [String]
  ) async throws {
    let doctor = logging()
    doctor.aws.refuse(String(action.dropFirst("logs:".count)), .accessDenied)
    let findings = lines(try await doctor.run().filter { $0.subject.hasPrefix("logs") })
    let before = allowed.map { "ok logs:\($0): allowed" }
    #expect(findings == before + [denied(action, purpose, title: "CloudWatchLogs", isEC2OrQuery: false)])
  }

  @Test func `with an external agent only its streams are read`() async throws {
    let doctor = logging { $0.logAgent = .awslogs }
    #expect(try await doctor.findings("logs:DescribeLogStreams") == ["ok logs:DescribeLogStreams: allowed"])
    #expect(doctor.aws.logStreams.isEmpty)
    doctor.aws.refuse("DescribeLogStreams", .accessDenied)
    #expect(
      try await doctor.findings("logs:DescribeLogStreams") == [
        denied(
          "logs:DescribeLogStreams", "read the last event time of /consul/dc1", title: "CloudWatchLogs",
          isEC2OrQuery: false)
      ])
  }

  @Test func `names of logs with the group need the call that finds it`() async throws {
    let doctor = logging { settings in
      settings.logGroup = "/consul/{group}"
      settings.membership = .groups(["web"])
    }
    _ = try await doctor.run()
    #expect(doctor.aws.logStreams == ["/consul/web": ["i-0aaa/consul"]])
    doctor.aws.refuse("DescribeAutoScalingInstances", .accessDenied)
    let action = "autoscaling:DescribeAutoScalingInstances"
    #expect(
      try await doctor.findings(action) == [denied(action, "find this instance's group", title: "AutoScaling")])
    #expect(
      try await doctor.findings("logs") == ["note logs: not tried: {group} in the names of the logs is not known"])
    // The group of the servers has a name of its own.
    #expect(try await doctor.findings("group") == ["ok group: 1 of 1 servers are eligible"])
  }
}

/// `Thu, 01 Jan 2026 00:00:00 GMT`; of that day only.
func httpDate(_ time: Timestamp) -> String {
  let text = time.iso8601
  let day = text.hasPrefix("2025") ? "Wed, 31 Dec 2025" : "Thu, 01 Jan 2026"
  return "\(day) \(text.dropFirst(11).prefix(8)) GMT"
}
