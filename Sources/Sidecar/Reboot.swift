internal import Artifacts
internal import Base
internal import Decisions
internal import Execution
internal import Model
internal import Observers

/// Repairs what a reboot may have changed, once when the sidecar starts.
extension Sidecar {
  /// An agent cannot start if its configuration names an address that this machine no longer has. Its data stays valid:
  /// under raft protocol 3 a server keeps its vote under the new address (Consul documentation, "Upgrading: raft
  /// protocol 3").
  func adaptToAddress(_ instance: LocatedInstance) async throws {
    // The configuration is the only trace of lost options: it stays as it is.
    guard settings.lostOptions == nil, let configured = current.bindAddress,
      settings.overlays.allSatisfy({ $0.value["bind_addr"] == nil })
    else { return }
    let bound = try AddressDecision(instance.identity, settings).addresses.bind
    guard configured != bound else { return }
    context.log.warning(
      "the address of this machine has changed; writing the agent's configuration again",
      ["from": .string(configured.description), "to": .string(bound.description)])
    let steps = try await planner.plan(at: instance, .stay).sidecarSteps
    let executor = StepExecutor(context: context)
    try await executor.perform(steps.writeConfiguration)
    if let restart = steps.restartAgent { try await executor.perform(restart) }
  }

  /// Docker starts a container again after a crash, but not after a leave, and a shutdown is a leave. Starts it at
  /// most once for each boot, so that a container that is stopped by hand stays stopped.
  func startContainer(_ instance: LocatedInstance) async throws {
    guard settings.start == .docker else { return }
    let record = settings.stateDirectory + "/boot-id"
    let boot = try context.files.readIfPresent("/proc/sys/kernel/random/boot_id", limit: 4096)
    guard let boot, try context.files.readIfPresent(record) != boot else { return }
    let steps = try await planner.plan(at: instance, .stay).sidecarSteps, executor = StepExecutor(context: context)
    try await executor.perform(steps.writeConfiguration)
    try await StartGate(settings: settings, context: context, planner: planner).run()
    if let start = steps.startContainer { try await executor.perform(start) }
    do {
      try context.files.write(record, boot, mode: 0o644, owner: nil)
    } catch {
      context.log.warning(
        "cannot record that this boot has started the container", ["reason": .string(error.explained)])
    }
  }
}
