internal import Base
internal import LogForwarding
internal import Model

/// Checks the node as `status` does, once a run has configured its agent: before that, none has to run.
struct NodeChecks: Sendable {
  let settings: Settings
  let context: RuntimeContext
  let report: @Sendable (Finding) -> Void

  /// - Parameters:
  ///   - machine: nil if it is not known.
  ///   - identity: nil if it is not known.
  func check(_ machine: MachineObservation?, _ identity: Identity?, _ expectations: NodeStatus.Expectations) async {
    guard isConfigured(machine, identity) else { return }
    let status = await NodeStatus.observe(settings, context: context, expectations: expectations)
    agent(status.agent)
    for problem in status.identityProblems { report(.problem("identity", problem.message, hint: problem.hint)) }
    let sidecar = status.sidecar
    if sidecar.problems.isEmpty, case .present(let found, let age) = sidecar.report {
      report(.ok("sidecar", "process \(found.pid) reported \(age.humanReadable) ago"))
    }
    for problem in sidecar.problems { report(.problem("sidecar", problem.message, hint: problem.hint)) }
    for problem in sidecar.noticeProblems { report(.problem("instance", problem.message, hint: problem.hint)) }
    for problem in status.forwardingProblems { report(.problem("logs", problem.message, hint: problem.hint)) }
    for note in status.notes { report(.note("cluster", note)) }
    if let installed = machine?.consulVersion, let note = status.agent.downgradeNote(installed: installed) {
      report(.note("cluster", note, hint: "install the release that the servers run"))
    }
    for hidden in status.unknown {
      report(
        .note(
          "cluster", "unknown, hidden by ACLs: \(hidden)",
          hint: "set --agent-token to a token with agent:read, node:read, operator:read and key:read"))
    }
  }

  private func agent(_ agent: NodeStatus.Agent) {
    if agent.silence == nil {
      report(.ok("agent", "answers on \(agent.address), leader \(agent.leader ?? "unknown")"))
    }
    for problem in agent.problems { report(.problem("agent", problem.message, hint: problem.hint)) }
  }

  /// The data of another instance in an image is no agent of this one.
  private func isConfigured(_ machine: MachineObservation?, _ identity: Identity?) -> Bool {
    if let recorded = machine?.recordedInstanceID, let identity, recorded != identity.instanceID { return false }
    return settings.hasRun(context.files)
  }
}

extension Settings {
  /// Whether a run has configured an agent here. Another check reports what cannot be read.
  func hasRun(_ files: any FileReader) -> Bool {
    do { return try files.status(configurationPath) != nil } catch { return false }
  }
}
