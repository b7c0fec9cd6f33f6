internal import Base
internal import Decisions
internal import Execution
internal import Model
internal import Observers

/// Looks again at the servers while the agent of a run knows no leader.
struct ServerAgreement {
  let settings: Settings
  let context: RuntimeContext
  let planner: Planner
  let instance: LocatedInstance
  let executor: StepExecutor

  /// - Throws: `Failure`, or `CancellationError`.
  func look(_ reason: HealthCheck.NoLeader) async throws -> HealthCheck.SecondLook {
    switch reason {
    case .timedOut:
      let survivors = try await planner.plan(at: instance, .stay).survivors
      return survivors.isEmpty ? .unchanged() : .waitsForRecovery(survivors)
    case .notAdded: return try await joinAgain()
    case .numbersDiffer, .allAreThere, .someAreMissing: return try await agree(reason)
    }
  }

  /// The founders may have changed while they booted: the group has another size, or one of them is terminated. Then
  /// some wait for more than there are, and none ever bootstraps. Each looks again; one that still has no raft state
  /// claims the cluster's record with the servers that are left, or follows the one that has done so, and starts again
  /// if it waits for another number. No second cluster: Consul bootstraps only servers with the same number, none of
  /// which has raft peers, and all living founders of the entry before are among those of the next.
  private func agree(_ reason: HealthCheck.NoLeader) async throws -> HealthCheck.SecondLook {
    var plan = try await planner.plan(at: instance, .agree)
    if let claim = plan.claim, try await executor.perform(claim) == .lost {
      plan = try await planner.plan(at: instance, .agree)
      // Two servers have been first: the next look comes soon.
      guard plan.claim == nil else { return .unchanged() }
    }
    guard case .newCluster = plan.decision, let requirements = plan.requirements,
      let new = requirements.bootstrapExpect.map({ Int64($0) })
    else { return .unchanged(waitsFor: plan.waitsFor) }
    if let remember = plan.sidecarSteps.rememberRecord { try await executor.perform(remember) }
    let present = plan.currentConfiguration.document?["bootstrap_expect"]?.integer
    if new != present {
      context.log.warning(
        "the number of servers has changed; restarting the agent, which has no raft state",
        ["bootstrap_expect": .integer(new), "before": present.map(JSONValue.integer) ?? .null])
    } else if reason == .allAreThere {
      context.log.warning(
        "all servers are there, and none bootstraps; restarting the agent, which has no raft state",
        ["bootstrap_expect": .integer(new)])
    } else {
      return .unchanged(waitsFor: plan.waitsFor)
    }
    return try await startAgain(plan, requirements)
  }

  /// An empty server that the leader does not add starts again, which gossip reports to the leader.
  private func joinAgain() async throws -> HealthCheck.SecondLook {
    let plan = try await planner.plan(at: instance, .stay)
    guard case .join = plan.decision, let requirements = plan.requirements, requirements.bootstrapExpect == nil,
      plan.currentConfiguration.document?["bootstrap_expect"] == nil, plan.isUnknownToLeader(settings)
    else { return plan.survivors.isEmpty ? .unchanged() : .waitsForRecovery(plan.survivors) }
    context.log.warning("the leader has not added this server; restarting the agent, which has no raft state")
    return try await startAgain(plan, requirements)
  }

  private func startAgain(
    _ plan: Plan, _ requirements: HealthRequirements
  ) async throws -> HealthCheck.SecondLook {
    try await executor.perform(plan.sidecarSteps.writeConfiguration)
    try await executor.perform(plan.sidecarSteps.restartEmptyAgent)
    return .changed(requirements)
  }
}
