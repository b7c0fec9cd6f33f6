import AWS
import Base
import TestSupport
import Testing

@testable import Model
@testable import Observers

/// The first minutes of an instance: what is not there yet is waited for, and what never comes ends the run.
@Suite(.timeLimit(.minutes(5))) struct PatienceTests {
  private let flow = Flow()

  /// A run up to its plan.
  private func plan(_ settings: Settings? = nil) async throws -> Duration {
    var flow = flow
    if let settings { flow.settings = settings }
    let planner = flow.planner
    _ = try await planner.plan(at: try await planner.locate(waits: true), .run)
    return flow.elapsed
  }

  /// Undoes a fault at this time.
  private func after(_ time: Duration, _ body: @escaping @Sendable () -> Void) -> Task<Void, any Error> {
    Task { [clock = flow.context.clock] in
      try await clock.sleep(for: time)
      body()
    }
  }

  private func planned(after time: Duration, _ repair: @escaping @Sendable () -> Void) async throws -> Duration {
    async let plan = plan()
    let task = after(time, repair)
    let elapsed = try await plan
    _ = await task.result
    return elapsed
  }

  // MARK: What comes

  @Test func `a role that metadata does not have yet`() async throws {
    let flow = flow
    flow.metadata.set("/latest/meta-data/iam/security-credentials/", nil)
    let elapsed = try await planned(after: .seconds(4)) {
      flow.metadata.setRole(expiration: flow.context.clock.wall() + .seconds(86_400))
    }
    #expect(elapsed >= .seconds(4) && elapsed < .seconds(10))
    #expect(flow.lines.count { $0.contains("this instance has no role") } == 1)
  }

  @Test func `metadata that refuses connections`() async throws {
    let flow = flow
    let isUp = Watched(false)
    flow.context.transport.on("http://169.254.169.254/") { _ in
      if isUp.value { return nil }
      throw TransportError.refused
    }
    let elapsed = try await planned(after: .seconds(5)) { isUp.update { $0 = true } }
    #expect(elapsed >= .seconds(5) && elapsed < .seconds(12))
    #expect(flow.lines.first?.hasPrefix("warning cannot read this instance's metadata yet; retrying") == true)
  }

  @Test(arguments: [429, 500, 503])
  func `metadata that answers an error to one request of each kind`(_ status: Int) async throws {
    let refused = Watched<Set<String>>([])
    flow.context.transport.on("http://169.254.169.254/") { request in
      guard refused.update({ $0.insert(request.url).inserted }) else { return nil }
      return HTTPResponse(status: status, headers: ["retry-after": "1"], body: [])
    }
    let elapsed = try await plan()
    #expect(elapsed >= .seconds(1) && elapsed < .seconds(30))
  }

  @Test(arguments: [
    "AccessDenied", "UnauthorizedOperation", "InvalidClientTokenId", "ExpiredToken", "AuthFailure",
  ])
  func `a refusal of a new role or policy`(_ code: String) async throws {
    let flow = flow
    for action in ["DescribeInstances", "DescribeAutoScalingGroups", "DescribeAutoScalingInstances"] {
      flow.aws.refuse(action, .init(status: 403, code: code, message: "not yet"))
    }
    let elapsed = try await planned(after: .seconds(4)) {
      for action in ["DescribeInstances", "DescribeAutoScalingGroups", "DescribeAutoScalingInstances"] {
        flow.aws.recover(action)
      }
    }
    #expect(elapsed >= .seconds(4) && elapsed < .seconds(12))
  }

  @Test func `a client's gossip key that the first server makes later`() async throws {
    let flow = flow
    var settings = flow.settings
    settings.role = .client
    settings.membership = .groups(["web"])
    settings.startJitter = .zero
    settings.gossipKey = .ssm(name: "/gossip")
    async let plan = plan(settings)
    let task = after(.seconds(120)) { flow.aws.setParameter("/gossip", gossipKey) }
    let elapsed = try await plan
    _ = await task.result
    #expect(elapsed >= .seconds(120) && elapsed < .seconds(126))
    #expect(flow.lines.count { $0.contains("there is no parameter /gossip") } == 1)
  }

  @Test func `the own group that lists the instance late`() async throws {
    let flow = flow
    flow.aws.change("i-2") { $0.group = nil }
    let elapsed = try await planned(after: .seconds(100)) { flow.aws.change("i-2") { $0.group = "web" } }
    #expect(elapsed >= .seconds(100) && elapsed < .seconds(105))
  }

  // MARK: What never comes

  @Test func `a role that never comes is an error after a minute and a half`() async {
    flow.metadata.set("/latest/meta-data/iam/security-credentials/", nil)
    let failed = await failure { _ = try await plan() }
    #expect(failed?.status == .noCredentials && failed?.message == "this instance has no role")
    #expect(flow.elapsed >= .seconds(80) && flow.elapsed <= .seconds(90), "\(flow.elapsed)")
  }

  @Test(arguments: ["AccessDenied", "UnauthorizedOperation", "InvalidClientTokenId"])
  func `a refusal that lasts is an error after a minute and a half`(_ code: String) async {
    flow.aws.refuse("DescribeInstances", .init(status: 403, code: code, message: "no"))
    let failed = await failure { _ = try await plan() }
    #expect(failed.map { [.noCredentials, .awsFailed].contains($0.status) } == true && failed?.hint != nil)
    #expect(flow.elapsed >= .seconds(80) && flow.elapsed <= .seconds(90), "\(flow.elapsed)")
  }

  @Test func `metadata that never answers is an error after a minute and a half`() async {
    flow.context.transport.fail("http://169.254.169.254/", .refused)
    let failed = await failure { _ = try await plan() }
    #expect(failed?.status == .noMetadata)
    #expect(flow.elapsed >= .seconds(80) && flow.elapsed <= .seconds(90), "\(flow.elapsed)")
  }

  @Test func `--wait-timeout shortens every wait`() async {
    var settings = flow.settings
    settings.waitTimeout = .seconds(3)
    flow.aws.refuse("DescribeInstances", .accessDenied)
    let failed = await failure { [settings] in _ = try await plan(settings) }
    #expect(failed?.status == .awsFailed && flow.elapsed == .seconds(3))
  }

  @Test(arguments: [
    MetadataError.disabled, .noToken(endpoint: "e", status: 403),
    .noTokenAnswer(url: "u", .timedOut(whileConnecting: false), attempts: 3),
    .malformed("identity document", path: "p", reason: "not JSON"), .refused(endpoint: "e", path: "p", status: 401),
  ])
  func `what no wait removes is an error at once`(_ error: MetadataError) { #expect(Patience(error) == nil) }

  @Test func `a dry run waits for nothing`() async {
    flow.aws.refuse("DescribeInstances", .accessDenied)
    let failed = await failure { _ = try await flow.planner.plan(at: try await flow.planner.locate(), .dryRun) }
    #expect(failed?.status == .awsFailed && flow.elapsed == .zero)
    flow.context.transport.fail("http://169.254.169.254/", .refused)
    let second = await failure { _ = try await flow.planner.locate() }
    #expect(second?.status == .noMetadata && flow.elapsed < .seconds(3))
  }
}
