import Base
import TestSupport
import Testing

@testable import Model
@testable import Observers

/// The first calls of AWS are under way while this machine is observed.
///
/// Regression: a boot asked AWS only after it had read metadata, Consul's version and this machine, one after another.
@Suite(.timeLimit(.minutes(5))) struct EarlyGroupTests {
  private let flow = Flow()

  private func run(_ settings: Settings? = nil) async throws {
    var flow = flow
    if let settings { flow.settings = settings }
    let planner = flow.planner
    _ = try await planner.plan(at: try await planner.locate(waits: true), .run)
  }

  private var group: Settings {
    var settings = Settings()
    settings.membership = .groups(["web"])
    return settings
  }

  @Test(arguments: [true, false])
  func `AWS is asked while the version of Consul is read`(_ namesGroup: Bool) async throws {
    let aws = flow.aws
    flow.context.launcher.onRun("/usr/bin/consul", ["version"]) { _, _ in
      for action in ["DescribeAutoScalingGroups", "DescribeInstances"] { try await aws.call(action) }
      return CommandResult(end: .exited(0), output: "Consul v1.8.7\n")
    }
    try await run(namesGroup ? group : nil)
    let calls =
      ["DescribeAutoScalingGroups", "DescribeInstances"] + (namesGroup ? [] : ["DescribeAutoScalingInstances"])
    // None more than without.
    #expect(aws.calls.map(\.action).sorted() == calls.sorted())
  }

  @Test func `the credentials are loaded while the identity is read`() async throws {
    let transport = flow.context.transport
    transport.on("http://169.254.169.254/latest/meta-data/mac", times: 1) { _ in
      _ = try await transport.request(to: "http://169.254.169.254/latest/meta-data/iam/security-credentials/web-node")
      return nil
    }
    try await run(group)
    #expect(transport.requests(to: "http://169.254.169.254/latest/api/token").count == 1)
    #expect(transport.requests(to: "http://169.254.169.254/latest/meta-data/iam/").count == 2)
  }

  @Test func `an error of the first call is that call's, and repeated once`() async throws {
    flow.aws.refuse("DescribeAutoScalingGroups", .init(status: 403, code: "AccessDenied", message: "not yet"), times: 1)
    try await run(group)
    #expect(flow.aws.calls("DescribeAutoScalingGroups").count == 2)
    #expect(flow.lines.count { $0.contains("cannot describe Auto Scaling group web yet; retrying") } == 1)
  }

  @Test func `a delay of the first call delays all`() async throws {
    var settings = group
    settings.startJitter = .seconds(3600)
    let aws = flow.aws
    flow.context.launcher.onRun("/usr/bin/consul", ["version"]) { [clock = flow.context.clock] _, _ in
      try await clock.settle()
      #expect(aws.calls.isEmpty)
      return CommandResult(end: .exited(0), output: "Consul v1.8.7\n")
    }
    try await run(settings)
    #expect(flow.lines.contains { $0.contains("delaying the first AWS call") })
  }

  @Test(arguments: [true, false])
  func `what is older than a second is observed again`(_ namesGroup: Bool) async throws {
    flow.context.launcher.run("/usr/bin/consul", ["version"], output: "Consul v1.8.7\n", after: .seconds(1))
    try await run(namesGroup ? group : nil)
    #expect(flow.aws.calls("DescribeAutoScalingGroups").count == 2)
    // The name of its own group, too: at first Auto Scaling may not list the instance.
    #expect(flow.aws.calls("DescribeAutoScalingInstances").count == (namesGroup ? 0 : 2))
  }

  @Test func `a Consul that is missing is reported at once`() async throws {
    flow.context.files.delete("/usr/bin/consul")
    let gate = flow.context.transport.hold("https://")
    let failed = await failure { try await run(group) }
    #expect(failed?.message == "Consul is not installed" && flow.elapsed == .zero)
    gate.open()
  }
}
