internal import AWS
package import Base
internal import Consul
package import Decisions
package import LogForwarding
internal import Synchronization

/// Stays beside the agent and keeps it joined: to the servers of other datacenters, to servers that have all been replaced.
/// Whatever goes wrong here is said, tried again, and never the agent's trouble.
package final class Sidecar: Sendable {
  private let context: RuntimeContext
  /// What the agent writes, where it runs under us.
  private let spool: Spool?
  private let state: Mutex<State>

  private struct State {
    var settings: Settings
    var planner: Planner
    var duty: LogForwardingService?
    /// Everything that it does; cancelled by a reload, and begun anew.
    var work: Task<Void, Never>?
    var wantsReload = false
  }

  private var settings: Settings { state.withLock { $0.settings } }
  private var planner: Planner { state.withLock { $0.planner } }

  package init(settings: Settings, context: RuntimeContext, planner: Planner, spool: Spool?) {
    self.context = context
    self.spool = spool
    state = Mutex(State(settings: settings, planner: planner))
  }

  /// While every wanted server is there, AWS is asked only every so many looks: 5 minutes by default.
  private static let pollsPerAWSCall = 10
  /// Metadata may be late at boot.
  private static let locatePause = Duration.seconds(5)
  /// A WAN join crosses zones: longer than a question to the agent.
  private static let joinTimeout = Duration.seconds(10)
  private static let agentTimeout = Duration.seconds(2)

  /// What is remembered from look to look.
  private struct Memory {
    var polls = 0
    var wasComplete = false
    var servers: Readiness?
    /// Secrets that were said to have changed.
    var told: Set<String> = []
  }

  /// As a process of its own: finds out where it is, puts right what a reboot may have changed, and stays until cancelled.
  /// - Parameter ready: called once it has begun to look.
  package func run(ready: @Sendable () -> Void) async throws {
    while true {
      do {
        let instance = try await planner.locate()
        try await adaptToAddress(instance)
        try await startContainer(instance)
        ready()
        return await stay(at: instance)
      } catch let failure as Failure {
        warn("not ready yet; trying again", failure)
        try await context.clock.sleep(for: Self.locatePause)
      }
    }
  }

  /// Until cancelled.
  package func stay(at instance: LocatedInstance) async {
    repeat {
      let duty = LogForwardingService(settings: settings, context: context, instance: instance, spool: spool)
      let work = Task {
        await withTaskGroup(of: Void.self) { group in
          group.addTask { await duty.run() }
          group.addTask { await self.watchAgent(at: instance) }
        }
      }
      state.withLock { state in
        state.duty = duty
        state.work = work
        state.wantsReload = false
      }
      await withTaskCancellationHandler {
        await work.value
      } onCancel: {
        work.cancel()
      }
    } while !Task.isCancelled && state.withLock { $0.wantsReload }
  }

  /// Goes on with other settings. What is read by then is sent first, for no longer than `--flush-timeout`.
  package func reload(_ settings: Settings) {
    let planner = planner.with(settings)
    let (duty, work, isNew) = state.withLock { state in
      let isNew = state.settings != settings
      state.settings = settings
      state.planner = planner
      if isNew { state.wantsReload = true }
      return (state.duty, state.work, isNew)
    }
    context.log.info(isNew ? "the options have changed; going on with the new ones" : "the options are as before")
    guard isNew, let work else { return }
    Task {
      await duty?.flush()
      work.cancel()
    }
  }

  /// Before the cancellation: sends the logs that are there, for no longer than `--flush-timeout`.
  package func flush() async { await state.withLock { $0.duty }?.flush() }

  private func watchAgent(at instance: LocatedInstance) async {
    var memory = Memory()
    var generator = SystemRandomNumberGenerator()
    while !Task.isCancelled {
      // Half to one and a half times the interval: machines that booted together do not call together.
      let share = Double.random(in: 0.5...1.5, using: &generator)
      do { try await context.clock.sleep(for: settings.sidecarInterval * share) } catch { return }
      do {
        try await poll(instance, &memory)
      } catch let failure as Failure {
        warn("cannot look after the agent now", failure)
      } catch let error as AgentError {
        context.log.debug("the agent does not answer the sidecar", ["reason": .string(error.explanation)])
      } catch {
        if Task.isCancelled { return }
        context.log.warning("cannot look after the agent now", ["reason": .string("\(error)")])
      }
      memory.polls += 1
    }
  }

  private func warn(_ message: String, _ failure: Failure) {
    context.log.warning(message, ["reason": .string(failure.lines.joined(separator: " "))])
  }

  private var current: CurrentConfiguration {
    let bytes = try? context.files.readIfPresent(settings.configurationPath)
    return CurrentConfiguration(bytes.map { .text(String(decoding: $0, as: UTF8.self)) } ?? .absent)
  }

  private func agent(timeout: Duration = agentTimeout) -> AgentClient {
    let current = current
    return AgentClient(
      address: current.agentAddress(settings), token: current.agentToken.map { Secret($0) },
      transport: context.transport,
      timeout: timeout)
  }

  private func poll(_ instance: LocatedInstance, _ memory: inout Memory) async throws {
    let isTurn = memory.polls % Self.pollsPerAWSCall == 0
    if isTurn, !settings.secretReferences.isEmpty { try await watchSecrets(instance, &memory) }
    switch settings.role {
    case .client: try await rejoinServers(instance)
    case .server where settings.layout == .datacenterPerAZ: try await completeWAN(instance, isTurn: isTurn, &memory)
    case .server: break
    }
  }

  // MARK: The WAN pool

  private func completeWAN(_ instance: LocatedInstance, isTurn: Bool, _ memory: inout Memory) async throws {
    let alive = Set(try await agent().members(wan: true).filter(\.isAlive).compactMap(\.address))
    if isTurn || !memory.wasComplete || memory.servers == nil {
      memory.servers = try await planner.readiness(at: instance)
    }
    guard let servers = memory.servers else { return }
    let wanted = selectWANPeers(servers, settings)
    var missing = wanted.filter { !alive.contains($0) }
    for address in missing {
      do {
        try await agent(timeout: Self.joinTimeout).join(address, wan: true)
        context.log.info("joined a server of another zone over the WAN", ["address": .string(address.description)])
        missing.removeAll { $0 == address }
      } catch let error as AgentError {
        context.log.progress("cannot join \(address) over the WAN yet", ["reason": .string(error.explanation)])
      }
    }
    let isComplete = missing.isEmpty && servers.knowsOtherZones
    if isComplete, !memory.wasComplete {
      context.log.info("the WAN pool is complete", ["others": .integer(Int64(wanted.count))])
    } else if !isComplete, memory.wasComplete {
      context.log.warning(
        "servers of other zones are missing from the WAN pool", ["missing": .strings(missing.map(\.description))])
    }
    memory.wasComplete = isComplete
  }

  // MARK: Clients

  /// An agent whose every known server is gone does not look for others (consul#5516).
  private func rejoinServers(_ instance: LocatedInstance) async throws {
    let hasServer = try await agent().members(wan: false).contains { $0.isServer && $0.isAlive }
    guard !hasServer else { return }
    let servers = try await planner.readiness(at: instance).members.map(\.address)
    context.log.warning(
      "the agent knows no living server; joining it again", ["servers": .strings(servers.map(\.description))])
    var joined = 0
    for address in servers {
      do {
        try await agent(timeout: Self.joinTimeout).join(address, wan: false)
        joined += 1
      } catch let error as AgentError {
        context.log.warning("cannot join \(address)", ["reason": .string(error.explanation)])
      }
    }
    guard joined > 0 else { return }
    context.log.info("joined the servers again", ["count": .integer(Int64(joined))])
    // So that an agent that is restarted finds them, too.
    try await writeConfiguration(try await planner.plan(at: instance, .stay))
  }

  private func writeConfiguration(_ plan: Plan) async throws {
    for step in plan.steps {
      if case .writeConfiguration = step { try await StepExecutor(context: context).perform(step) }
    }
  }

  // MARK: A reboot

  /// An agent whose configuration names an address that this machine has lost cannot start. Its data is its own: under raft
  /// protocol 3 a server keeps its vote under the new address (Consul documentation, "Upgrading: raft protocol 3").
  private func adaptToAddress(_ instance: LocatedInstance) async throws {
    guard let configured = current.bindAddress, settings.overlays.allSatisfy({ $0.value["bind_addr"] == nil }) else {
      return
    }
    let bound = try AddressDecision(instance.identity, settings).bind
    guard configured != bound else { return }
    context.log.warning(
      "this machine's address has changed; the agent's configuration is adapted",
      ["from": .string(configured.description), "to": .string(bound.description)])
    let plan = try await planner.plan(at: instance, .stay)
    try await writeConfiguration(plan)
    switch plan.start {
    case .systemd:
      try await StepExecutor(context: context).perform(.run(Command("/bin/systemctl", ["restart", SystemdUnit.name])))
    case .docker:
      try await StepExecutor(context: context).perform(
        .run(Command(instance.consulPath, ["restart", DockerContainer.agentName])))
    case .supervise, .none: break
    }
  }

  /// Docker starts a container again after a crash, and leaves one be that has left; a machine's shutdown is such a leave.
  /// Once for each boot, so that a container that is stopped by hand stays stopped.
  private func startContainer(_ instance: LocatedInstance) async throws {
    guard settings.start == .docker else { return }
    let record = settings.stateDirectory + "/boot-id"
    let boot = try context.files.readIfPresent("/proc/sys/kernel/random/boot_id", limit: 4096)
    guard let boot, try context.files.readIfPresent(record) != boot else { return }
    for step in try await planner.plan(at: instance, .stay).steps {
      switch step {
      case .writeConfiguration, .runContainer: try await StepExecutor(context: context).perform(step)
      default: break
      }
    }
    try context.files.write(record, boot, mode: 0o644, owner: nil)
  }

  // MARK: Secrets

  private func watchSecrets(_ instance: LocatedInstance, _ memory: inout Memory) async throws {
    let current = current
    let secrets: Secrets
    do {
      secrets = try await SecretReader(settings: settings, context: context, client: instance.client).read(
        missingKey: .tolerate)
    } catch {
      throw error.asFailure("read the secrets")
    }
    var changed: [(SecretReference?, String)] = []
    if let key = secrets.gossipKey, !secrets.gossipKeyIsToBeMade, let old = current.gossipKey, key.value != old {
      changed.append(
        (
          settings.gossipKey,
          "install it everywhere with consul keyring -install, then -use: an agent keeps the keys of its keyring"
        ))
    }
    if let token = secrets.agentToken, let old = current.agentToken, token.value != old {
      changed.append((settings.agentToken, "run consul-bootstrap again, and restart the agent"))
    }
    for (reference, material, name) in [
      (settings.tls.ca, secrets.ca, "ca"), (settings.tls.cert, secrets.cert, "cert"),
      (settings.tls.key, secrets.key, "key"),
    ] {
      guard case .pem(let pem)? = material,
        let old = try? context.files.readIfPresent("\(settings.tlsDirectory)/\(name).pem"),
        Array(pem.value.utf8) != old
      else { continue }
      changed.append((reference, "run consul-bootstrap again, and restart the agent"))
    }
    for (reference, advice) in changed {
      guard let name = reference?.description, memory.told.insert(name).inserted else { continue }
      context.log.warning("\(name) has changed since this agent was configured", ["hint": .string(advice)])
    }
    memory.told.formIntersection(changed.compactMap { $0.0?.description })
  }
}
