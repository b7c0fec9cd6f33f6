internal import Base
internal import Model

extension Plan {
  /// What keeps a run from changing anything.
  static func obstacle(
    _ machine: MachineObservation, start: Settings.Start, dataDirectory: DataDirectoryDecision
  ) -> Failure? {
    if let file = machine.unreadable.first { return file.failure }
    // Files that sort after ours override it: a baked `bootstrap_expect` would found a second cluster.
    if let file = machine.otherConfigurationFiles.first(where: \.setsBootstrap) {
      return Failure(
        .configurationRejected, "\(file.path) sets bootstrap or bootstrap_expect",
        details: [
          "whether a server may found a cluster is decided here, on each boot; a fixed value can make two clusters of one"
        ],
        hint: "remove the key from \(file.path); consul-bootstrap writes bootstrap_expect when it is safe")
    }
    guard machine.agentIsRunning, start == .supervise || start == .none else { return nil }
    if case .moveAside(_, let reason) = dataDirectory {
      return Failure(
        .agentNotStarted, "a Consul agent is running on data that is not this machine's (\(reason))",
        hint: "stop that agent and run this again, or keep the data with --keep-data")
    }
    guard start == .supervise else { return nil }
    return Failure(
      .agentNotStarted, "a Consul agent is already running on this machine, and it is not ours to supervise",
      details: ["an agent answers on this machine's HTTP address"],
      hint: "stop it, or only write its configuration with --start none")
  }
}
