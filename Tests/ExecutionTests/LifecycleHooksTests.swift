import AWS
import Base
import Execution
import Model
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(5))) struct LifecycleHooksTests {
  private let test = TestContext()
  private let aws: FakeAWS
  private var hooks: LifecycleHooks { hooks(waitTimeout: .seconds(600)) }

  init() {
    aws = FakeAWS(test)
    aws.setGroups([FakeGroup("web", desired: 3, hooks: ["launching"])])
    aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10", lifecycle: "Pending:Wait")])
  }

  private func hooks(waitTimeout: Duration) -> LifecycleHooks {
    LifecycleHooks(context: test.context, client: aws.client(), instanceID: "i-0aaa", waitTimeout: waitTimeout)
  }

  @Test func `the hook of this instance's group is completed with the result`() async throws {
    #expect(try await hooks.proceed("launching") == .completed)
    try await hooks.abandon("launching")
    #expect(aws.completedHooks == ["launching web i-0aaa CONTINUE", "launching web i-0aaa ABANDON"])
  }

  @Test func `the step completes it with CONTINUE`() async throws {
    let executor = StepExecutor(context: test.context, lifecycleHooks: hooks)
    #expect(try await executor.perform(.completeLifecycleAction(hook: "launching")) == .done)
    #expect(aws.completedHooks == ["launching web i-0aaa CONTINUE"])
  }

  @Test func `an instance outside of any group has no hook`() async throws {
    aws.change("i-0aaa") { $0.group = nil }
    await #expect(
      throws: Failure(
        .awsFailed, "cannot complete lifecycle hook launching: this instance is in no Auto Scaling group",
        hint: "omit --lifecycle-hook")
    ) { _ = try await hooks.proceed("launching") }
    #expect(aws.calls("CompleteLifecycleAction").isEmpty)
  }

  // MARK: The own lifecycle state decides

  /// The user-data runs again, or an operator has completed the hook.
  @Test func `a hook that is over is no error`() async throws {
    #expect(try await hooks.proceed("other") == .alreadyOver(state: "Pending:Wait"))
    aws.change("i-0aaa") { $0.lifecycle = "InService" }
    #expect(try await hooks.proceed("launching") == .alreadyOver(state: "InService"))
    let executor = StepExecutor(context: test.context, lifecycleHooks: hooks)
    #expect(try await executor.perform(.completeLifecycleAction(hook: "launching")) == .alreadyDone)
    #expect(
      test.sink.lines.contains(#"info lifecycle hook launching is already completed lifecycle_state="InService""#))
    #expect(aws.completedHooks.isEmpty)
  }

  @Test func `a hook that does not hold the instance yet is waited for`() async throws {
    aws.change("i-0aaa") { $0.lifecycle = "Pending" }
    async let completion = hooks.proceed("launching")
    try await test.sink.record(containing: "state Pending", number: 3)
    aws.change("i-0aaa") { $0.lifecycle = "Pending:Wait" }
    #expect(try await completion == .completed)
    #expect(aws.completedHooks == ["launching web i-0aaa CONTINUE"] && test.clock.uptime() == .seconds(3))
  }

  /// The run of an instance of a warm pool takes milliseconds: it is over before the hook holds the instance.
  @Test func `a hook that does not hold an instance of a warm pool yet is waited for`() async throws {
    aws.change("i-0aaa") { $0.lifecycle = "Warmed:Pending" }
    async let completion = hooks.proceed("launching")
    try await test.sink.record(containing: "state Warmed:Pending", number: 3)
    aws.change("i-0aaa") { $0.lifecycle = "Warmed:Pending:Wait" }
    #expect(try await completion == .completed)
    #expect(aws.completedHooks == ["launching web i-0aaa CONTINUE"] && test.clock.uptime() == .seconds(3))
  }

  /// IAM is eventually consistent: a hook that is not completed ends a healthy instance.
  @Test(arguments: ["CompleteLifecycleAction", "DescribeAutoScalingInstances"])
  func `a new role that is refused for some seconds completes the hook`(_ action: String) async throws {
    aws.refuse(action, .accessDenied)
    async let completion = hooks.proceed("launching")
    try await test.sink.record(containing: "cannot complete lifecycle hook launching yet")
    try await test.clock.sleep(for: .seconds(4))
    aws.recover(action)
    #expect(try await completion == .completed)
    #expect(aws.completedHooks == ["launching web i-0aaa CONTINUE"] && test.clock.uptime() < .seconds(15))
    #expect(test.sink.records(.warning).count == 1)
  }

  @Test func `an instance that stays in Pending has no hook`() async throws {
    aws.change("i-0aaa") { $0.lifecycle = "Pending" }
    #expect(try await hooks.proceed("launching") == .alreadyOver(state: "Pending"))
    #expect(test.clock.uptime() == .seconds(60))
  }

  @Test func `an instance of a warm pool completes its hook, too`() async throws {
    aws.change("i-0aaa") { $0.lifecycle = "Warmed:Pending:Wait" }
    #expect(try await hooks.proceed("launching") == .completed)
  }

  // MARK: Heartbeats

  private func heartbeats(after time: Duration) async throws -> Int {
    let task = Task { [hooks] in await hooks.keepAlive("launching") }
    try await test.clock.sleep(for: time)
    task.cancel()
    await task.value
    return aws.heartbeats
  }

  @Test func `a quick boot calls nothing`() async throws {
    #expect(try await heartbeats(after: .seconds(9)) == 0 && aws.calls.isEmpty)
  }

  @Test func `a long boot records one each third of the hook's time-out`() async throws {
    aws.setGroups(
      [FakeGroup("web", desired: 3, hooks: ["launching"])].map { group in
        var group = group
        group.heartbeatTimeout = 300
        return group
      })
    // After 10, 110, 210 and 310 s.
    #expect(try await heartbeats(after: .seconds(400)) == 4)
    #expect(aws.calls("DescribeLifecycleHooks").count == 1)
  }

  @Test func `without permission to read it, the shortest time-out is assumed`() async throws {
    aws.refuse("DescribeLifecycleHooks", .accessDenied)
    // After 10, 20, … 90 s.
    #expect(try await heartbeats(after: .seconds(95)) == 9)
    #expect(test.sink.records(.warning).isEmpty)
  }

  @Test func `a denied heartbeat is reported once, a hook that does not hold the instance not at all`() async throws {
    aws.refuse("RecordLifecycleActionHeartbeat", .accessDenied)
    #expect(try await heartbeats(after: .seconds(3000)) == 0)
    #expect(test.sink.records(.warning).map(\.message) == ["cannot record a heartbeat of lifecycle hook launching"])
    aws.recover("RecordLifecycleActionHeartbeat")
    aws.change("i-0aaa") { $0.lifecycle = "Pending" }
    #expect(try await heartbeats(after: .seconds(3000)) == 0)
    #expect(test.sink.records(.warning).count == 1)
  }

  @Test(arguments: [(600, 85), (10, 10)])
  func `a missing permission is named with the action and the role`(_ waitTimeout: Int, _ limit: Int) async throws {
    aws.refuse("CompleteLifecycleAction", .accessDenied)
    let hooks = hooks(waitTimeout: .seconds(waitTimeout))
    let failure = await #expect(throws: Failure.self) { _ = try await hooks.proceed("launching") }
    #expect(failure?.message == "cannot complete lifecycle hook launching: access denied")
    #expect(failure?.hint == "allow autoscaling:CompleteLifecycleAction for role web-node")
    #expect(test.clock.uptime() == .seconds(limit))
  }

  @Test func `a step without AWS is refused, not ignored`() async throws {
    #expect(
      try await test.failure(of: .completeLifecycleAction(hook: "launching"))
        == Failure(.awsFailed, "cannot complete lifecycle hook launching without AWS"))
  }
}
