package import Base
package import Model

/// Renames the raft data of an agent that does not run.
package struct RaftData: Sendable {
  private let settings: Settings
  private let context: RuntimeContext

  package init(settings: Settings, context: RuntimeContext) {
    self.settings = settings
    self.context = context
  }

  /// Renames the raft directory; the agent then joins empty, under its node ID.
  ///
  /// The configuration changes first: whatever ends the process in between, an empty server never finds
  /// `bootstrap_expect`.
  /// - Parameters:
  ///   - configuration: the agent's present one.
  ///   - servers: of the living cluster, for `retry_join`.
  ///   - life: why the data is renamed, in its new name.
  /// - Returns: where the data is now; nil if there is none.
  /// - Throws: `Failure` if the configuration is not known; `FileError`.
  package func setAside(
    _ configuration: CurrentConfiguration, servers: [IPv4Address], life: String, reason: String
  ) throws -> String? {
    guard let joining = configuration.joining(servers) else {
      let files = configuration.mayBootstrap
      throw Failure(
        .configurationRejected,
        files.isEmpty
          ? "cannot rename the raft data: \(settings.configurationPath) is not known"
          : "cannot rename the raft data beside \(files.joined(separator: ", "))",
        details: ["it may set bootstrap_expect, which must not stand beside an empty data directory"],
        hint: files.isEmpty ? "run consul-bootstrap again" : "remove bootstrap_expect and bootstrap there")
    }
    let raft = configuration.dataDirectory(settings) + "/raft"
    guard try context.files.status(raft) != nil else { return nil }
    try write(joining, over: configuration)
    let target = "\(raft).\(life).\(context.now().basic)"
    try context.files.rename(raft, to: target)
    // The name of the cluster whose data this was.
    let identity = settings.clusterIdentityPath
    if try context.files.status(identity) != nil {
      try context.files.rename(identity, to: "\(identity).\(life).\(context.now().basic)")
    }
    context.log.error(
      "renamed the raft data of this server, which joins the cluster empty",
      ["from": .string(raft), "to": .string(target), "reason": .string(reason)])
    return target
  }

  /// Writes the configuration if it differs, with the present mode and owner.
  /// - Returns: whether it has changed.
  @discardableResult
  package func write(_ new: SecretDocument, over present: CurrentConfiguration) throws -> Bool {
    let path = settings.configurationPath
    guard new != present.document else { return false }
    let owner = try context.files.status(path).map {
      FileOwner(user: $0.user, group: $0.group, userName: String($0.user), groupName: String($0.group))
    }
    try context.files.write(path, Array(new.text.value.utf8), mode: 0o640, owner: owner)
    return true
  }
}

extension StepExecutor {
  /// Kills the agent, works while it does not run, and starts it again, also if the work fails. (A stop would first
  /// leave the others, which an agent that is not of their cluster must not do.)
  /// - Parameters:
  ///   - supervisor: of an agent that this process supervises.
  ///   - work: logs its own errors. Under a supervisor it runs once the agent has ended, maybe after the return.
  package func withoutAgent(
    _ runner: AgentRunner, supervisor: Supervisor?, _ work: @escaping @Sendable () async -> Void
  ) async throws {
    // A task of its own, which a cancellation does not reach: it must not leave the agent stopped.
    try await Task {
      switch runner {
      case .systemd:
        // systemd would start it again by itself; where it does so just now, there is nothing to kill.
        _ = try await context.launcher.run(
          .systemctl("kill", "--signal=SIGKILL", SystemdUnit.name), timeout: Self.commandTimeout)
        try await run(.systemctl("stop", SystemdUnit.name))
        await work()
        try await run(.systemctl("start", SystemdUnit.name))
      case .docker(let client):
        _ = try await context.launcher.run(
          Command(client, ["kill", DockerContainer.agentName]), timeout: Self.commandTimeout)
        await work()
        try await run(Command(client, ["start", DockerContainer.agentName]))
      case .supervisor:
        guard let supervisor else {
          throw Failure(
            .agentNotStarted, "cannot restart an agent that this process does not supervise",
            hint: "end the program that supervises it, and run consul-bootstrap again")
        }
        await supervisor.restart(work)
      }
    }.value
  }
}
