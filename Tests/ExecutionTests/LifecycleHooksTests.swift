import AWS
import Base
import Execution
import Model
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(5))) struct LifecycleHooksTests {
  private let test = TestContext()
  private let aws: FakeAWS
  private let hooks: LifecycleHooks

  init() {
    aws = FakeAWS(test)
    aws.setGroups([FakeGroup("web", desired: 3, hooks: ["launching"])])
    aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10", lifecycle: "Pending:Wait")])
    hooks = LifecycleHooks(client: aws.client(), instanceID: "i-0aaa")
  }

  @Test func `the hook of this instance's group is completed with the result`() async throws {
    try await hooks.complete("launching", .proceed)
    try await hooks.complete("launching", .abandon)
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
    ) { try await hooks.complete("launching", .proceed) }
    #expect(aws.calls("CompleteLifecycleAction").isEmpty)
  }

  @Test func `a hook that is over is named in AWS's words`() async throws {
    let failure = await #expect(throws: Failure.self) { try await hooks.complete("other", .proceed) }
    #expect(failure?.status == .awsFailed)
    #expect(failure?.message == "cannot complete lifecycle hook other: refused")
    #expect(failure?.details.joined().contains("ValidationError") == true)
    #expect(failure?.details.joined().contains("No active Lifecycle Action found") == true)
  }

  @Test func `a missing permission is named with the action and the role`() async throws {
    aws.refuse("CompleteLifecycleAction", .accessDenied)
    let failure = await #expect(throws: Failure.self) { try await hooks.complete("launching", .proceed) }
    #expect(failure?.message == "cannot complete lifecycle hook launching: access denied")
    #expect(failure?.hint == "allow autoscaling:CompleteLifecycleAction for role web-node")
  }

  @Test func `a step without AWS is refused, not ignored`() async throws {
    #expect(
      try await test.failure(of: .completeLifecycleAction(hook: "launching"))
        == Failure(.awsFailed, "cannot complete lifecycle hook launching without AWS"))
  }
}
