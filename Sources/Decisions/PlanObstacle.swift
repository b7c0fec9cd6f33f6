internal import Base
internal import Model

extension Plan {
  /// What stops a run before it changes anything.
  static func obstacle(
    _ machine: MachineObservation, _ conflicts: [ConfigurationConflict], start: Settings.Start,
    dataDirectory: DataDirectoryDecision
  ) -> Failure? {
    if let file = machine.unreadable.first { return file.failure }
    if let failure = machine.otherFileFailures.first ?? ConfigurationConflict.failure(conflicts) { return failure }
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
}
