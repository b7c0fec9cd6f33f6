internal import Artifacts
internal import AWS
internal import Base
internal import Decisions
internal import Execution
internal import Model
internal import Observers

/// What a reboot may have changed, repaired once at the start of the sidecar.
extension Sidecar {
  /// An agent whose configuration names an address that this machine has lost cannot start. Its data is its own: under raft
  /// protocol 3 a server keeps its vote under the new address (Consul documentation, "Upgrading: raft protocol 3").
  func adaptToAddress(_ instance: LocatedInstance) async throws {
    guard let configured = current.bindAddress, settings.overlays.allSatisfy({ $0.value["bind_addr"] == nil }) else {
      return
    }
    let bound = try AddressDecision(instance.identity, settings).addresses.bind
    guard configured != bound else { return }
    context.log.warning(
      "this machine's address has changed; the agent's configuration is adapted",
      ["from": .string(configured.description), "to": .string(bound.description)])
    let plan = try await planner.plan(at: instance, .stay)
    let executor = StepExecutor(context: context)
    try await executor.perform(plan.sidecarSteps.writeConfiguration)
    if let restart = plan.sidecarSteps.restartAgent { try await executor.perform(restart) }
  }

  /// Docker starts a container again after a crash, and leaves one be that has left; a machine's shutdown is such a leave.
  /// Once for each boot, so that a container that is stopped by hand stays stopped.
  func startContainer(_ instance: LocatedInstance) async throws {
    guard settings.start == .docker else { return }
    let record = settings.stateDirectory + "/boot-id"
    let boot = try context.files.readIfPresent("/proc/sys/kernel/random/boot_id", limit: 4096)
    guard let boot, try context.files.readIfPresent(record) != boot else { return }
    let steps = try await planner.plan(at: instance, .stay).sidecarSteps, executor = StepExecutor(context: context)
    try await executor.perform(steps.writeConfiguration)
    if let start = steps.startContainer { try await executor.perform(start) }
    try context.files.write(record, boot, mode: 0o644, owner: nil)
  }
}
