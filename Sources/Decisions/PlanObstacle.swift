internal import Base
internal import Consul
package import Model

extension Plan {
  /// What stops a run before it changes anything.
  static func obstacle(
    _ machine: MachineObservation, _ settings: Settings, _ configuration: SecretDocument,
    _ conflicts: [ConfigurationConflict], start: Settings.Start, dataDirectory: DataDirectoryDecision
  ) -> Failure? {
    if let file = machine.unreadable.first { return file.failure }
    let conflict = ConfigurationConflict.failure(conflicts, startsAgent: start != .none)
    if let failure = machine.otherFileFailures.first ?? conflict { return failure }
    if dataDirectory.keepsData {
      let isServer = configuration["server"]?.bool == true, datacenter = configuration["datacenter"]?.string ?? ""
      if let change = identityChange(machine, settings, isServer: isServer, datacenter: datacenter) { return change }
    }
    if let pid = machine.supervisorPID {
      // The supervisor runs the agent, and the run tells it what has changed.
      guard start != .supervise, start != .none else {
        // With `--start none` it is a warning.
        guard start == .supervise else { return nil }
        return otherNumber(machine, configuration, keepsData: dataDirectory.keepsData).map { numbers in
          Failure(
            .agentNotStarted,
            "process \(pid) supervises an agent that waits for \(numbers.old) servers, and must start again to "
              + "wait for \(numbers.new)",
            details: ["only a start of the agent reads bootstrap_expect"],
            hint: "end process \(pid), and run consul-bootstrap again: the agent has no raft state that could be lost")
        }
      }
      return Failure(
        .agentNotStarted, "process \(pid) supervises the agent, which --start \(start.rawValue) would start again",
        hint: "end that process first, or run with --start supervise")
    }
    guard machine.agentIsRunning, start == .supervise || start == .none else { return nil }
    if case .rename(_, let reason) = dataDirectory {
      return Failure(
        .agentNotStarted, "a Consul agent is running with the data of another machine (\(reason))",
        hint: "stop that agent and retry, or keep the data with --keep-data")
    }
    guard start == .supervise else { return nil }
    return Failure(
      .agentNotStarted, "a Consul agent that this program does not supervise is already running on this machine",
      details: ["an agent answers at this machine's HTTP address"],
      hint: "stop that agent, or write only its configuration with --start none")
  }

  /// The numbers of servers that a running agent without raft state waits for and should wait for, if they differ. (One
  /// that joins a cluster needs none: Consul itself then gives up its bootstrap.)
  static func otherNumber(
    _ machine: MachineObservation, _ configuration: SecretDocument, keepsData: Bool
  ) -> (old: Int64, new: Int64)? {
    guard machine.agentIsRunning, keepsData, machine.dataDirectory.raftState == .none,
      let old = machine.configuration.document?["bootstrap_expect"]?.integer,
      let new = configuration["bootstrap_expect"]?.integer, old != new
    else { return nil }
    return (old, new)
  }

  /// The same before the plan, which may wait for the group first: a server that was to become a client would wait for
  /// servers. What an overlay sets is only in the plan.
  /// - Throws: `Failure`.
  package static func refuseIdentityChange(_ observation: Observation, _ settings: Settings) throws(Failure) {
    guard DataDirectoryDecision(observation, settings).keepsData,
      settings.overlays.allSatisfy({ $0.value["datacenter"] == nil && $0.value["server"] == nil })
    else { return }
    let datacenter = try settings.datacenterName(for: observation.identity)
    if let change = identityChange(
      observation.machine, settings, isServer: settings.role == .server, datacenter: datacenter)
    {
      throw change
    }
  }

  /// Raft's data names servers and sessions of one datacenter: Consul starts with it as another server of another
  /// datacenter, or as a client beside it, and neither is the server that the others know. Status 14: the options are
  /// valid, but not for this machine.
  private static func identityChange(
    _ machine: MachineObservation, _ settings: Settings, isServer: Bool, datacenter: String
  ) -> Failure? {
    guard machine.dataDirectory.raftState.mayBePresent else { return nil }
    let present = machine.configuration.document, path = settings.configurationPath
    // Without a configuration the state itself says so: a client never has any.
    var wasServer = present?["server"]?.bool ?? isServer
    if present == nil, case .present = machine.dataDirectory.raftState { wasServer = true }
    let old = present?["datacenter"]?.string
    var change: (option: String, old: String, new: String)?
    if wasServer != isServer {
      change = ("role", wasServer ? "server" : "client", isServer ? "server" : "client")
    } else if let old, old.lowercased() != datacenter.lowercased() {
      change = ("datacenter", old, datacenter)
    } else if let present, isServer, present["server"]?.bool == true {
      let wasPerZone = present["retry_join_wan"] != nil, isPerZone = settings.layout == .datacenterPerAZ
      let name = { (perZone: Bool) in (perZone ? Settings.Layout.datacenterPerAZ : .single).rawValue }
      if wasPerZone != isPerZone { change = ("layout", name(wasPerZone), name(isPerZone)) }
    }
    guard let change else { return nil }
    return Failure(
      .configurationRejected,
      "this server has raft state as \(change.option) \(change.old), and cannot become \(change.new) with it",
      details: [
        present == nil
          ? "only a server has raft state; data is in \(settings.dataDirectory)"
          : "\(path) has \(change.option) \(change.old); data is in \(settings.dataDirectory)"
      ],
      hint:
        "keep the \(change.option), or replace the instance, or run consul leave, stop the agent, rename "
        + "\(settings.dataDirectory), and run consul-bootstrap again")
  }
}
