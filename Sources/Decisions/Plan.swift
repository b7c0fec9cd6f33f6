package import Base
internal import Consul

/// What a run does, and why. `--dry-run` prints it; a run performs its steps.
package struct Plan: Sendable, Equatable {
  package let identity: Identity
  package let readiness: Readiness?
  package let decision: ClusterDecision
  package let dataDirectory: DataDirectoryDecision
  package let peers: [IPv4Address]
  package let configuration: AgentConfiguration
  /// The file as it is now.
  package let currentConfiguration: FileContent
  package let start: Settings.Start
  package let steps: [Step]
  package let warnings: [String]
  /// Why a run would stop before its first step; a dry run shows it, and the plan all the same.
  package let obstacle: Failure?

  package init(_ observation: Observation, _ settings: Settings) throws(Failure) {
    let machine = observation.machine
    identity = observation.identity
    readiness = observation.group.map { Readiness($0, identity: observation.identity, expect: settings.expect) }
    dataDirectory = DataDirectoryDecision(observation, settings)
    decision = ClusterDecision(observation, readiness, keepsData: dataDirectory.keepsData)
    peers =
      readiness == nil
      ? Self.currentPeers(machine.configuration)
      : selectPeers(settings.join, decision: decision, readiness: readiness, identity: identity)
    configuration = AgentConfiguration(
      settings, identity: identity, decision: decision, peers: peers, version: machine.consulVersion)
    currentConfiguration = machine.configuration
    start = settings.start ?? (machine.isBootedBySystemd ? .systemd : .supervise)
    if let name = settings.hostName?.expanded(for: identity), !NameTemplate.isHostName(name) {
      throw Failure(.usage, "the host name would be \(name), which is no host name", hint: "change the template of --hostname")
    }
    obstacle = Self.obstacle(machine, start: start, dataDirectory: dataDirectory)
    steps = Self.steps(
      observation, settings, decision: decision, dataDirectory: dataDirectory, configuration: configuration, start: start,
      servers: Self.expectedServers(settings, readiness: readiness, decision: decision))
    warnings = Self.warnings(observation, readiness: readiness, decision: decision, dataDirectory: dataDirectory)
  }

  /// What the file on disk names: all that a reboot without AWS has to go by.
  private static func currentPeers(_ configuration: FileContent) -> [IPv4Address] {
    guard case .text(let text) = configuration, let value = try? JSONValue(parsing: text) else { return [] }
    return value["retry_join"]?.array?.compactMap { $0.string.flatMap { IPv4Address($0) } } ?? []
  }

  /// A new cluster has all it expects. A server that joins need not wait for members that do not exist yet.
  private static func expectedServers(_ settings: Settings, readiness: Readiness?, decision: ClusterDecision) -> Int {
    if case .newCluster(let expect, _) = decision { return expect }
    let expected = readiness?.expected ?? settings.expect ?? 1
    return max(1, min(expected, readiness?.members.count ?? 1))
  }

  private static func obstacle(
    _ machine: MachineObservation, start: Settings.Start, dataDirectory: DataDirectoryDecision
  ) -> Failure? {
    // Files that sort after ours override it: a baked `bootstrap_expect` would found a second cluster.
    if let file = machine.otherConfigurationFiles.first(where: \.setsBootstrap) {
      return Failure(
        .configurationRejected, "\(file.path) sets bootstrap or bootstrap_expect",
        details: ["whether a server may found a cluster is decided here, on each boot; a fixed value can make two clusters of one"],
        hint: "remove the key from \(file.path); consul-bootstrap writes bootstrap_expect when it is safe")
    }
    guard machine.agentIsRunning, start != .systemd else { return nil }
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

  private static func steps(
    _ observation: Observation, _ settings: Settings, decision: ClusterDecision, dataDirectory: DataDirectoryDecision,
    configuration: AgentConfiguration, start: Settings.Start, servers: Int
  ) -> [Step] {
    let machine = observation.machine, owner = machine.agentOwner
    let systemctl = { (arguments: [String]) in Command("/bin/systemctl", arguments) }
    let agent = Command(machine.consulPath, ["agent", "-config-dir=\(settings.configDirectory)"])
    var steps: [Step] = []

    if case .moveAside(let target, let reason) = dataDirectory {
      if machine.agentIsRunning { steps.append(.stopAgent(systemctl(["stop", SystemdUnit.name]))) }
      steps.append(.moveAside(settings.dataDirectory, to: target, reason: reason))
    }
    steps.append(.createDirectory(settings.dataDirectory, mode: 0o750, owner: owner))
    steps.append(.createDirectory(settings.configDirectory, mode: 0o755, owner: nil))
    let record = JSONValue.object(["instance_id": .string(observation.identity.instanceID)])
    steps.append(.recordInstance(path: settings.stateDirectory + "/instance.json", text: record.prettyText))
    if let name = settings.hostName?.expanded(for: observation.identity) { steps.append(.setHostName(name)) }
    steps.append(.writeConfiguration(configurationFile(machine, settings, configuration)))

    let keepsAgent = machine.agentIsRunning && dataDirectory.keepsData
    let reload = reloadStep(machine, configuration)
    switch start {
    case .systemd:
      let unit = SystemdUnit(
        agent: agent,
        leave: configuration.value["leave_on_terminate"]?.bool == true
          ? Command(machine.consulPath, ["leave", "-http-addr=http://" + agentAddress(configuration, settings, observation.identity)]) : nil,
        owner: owner)
      steps.append(.writeUnit(path: SystemdUnit.path, text: unit.text))
      if machine.unit != .text(unit.text) { steps.append(.run(systemctl(["daemon-reload"]))) }
      steps.append(.run(systemctl(["enable", SystemdUnit.name])))
      steps.append(.run(systemctl(["start", SystemdUnit.name])))
      if keepsAgent, let reload { steps.append(reload) }
    case .supervise:
      steps.append(.superviseAgent(agent, owner: owner))
    case .none: break
    }
    if start != .none {
      steps.append(
        .prove(
          ProofGoal(
            agentAddress: agentAddress(configuration, settings, observation.identity), raftAddress: raftAddress(configuration, observation.identity),
            servers: servers)))
    }
    if let hook = settings.lifecycleHook { steps.append(.completeLifecycleAction(hook: hook)) }
    return steps
  }

  private static func configurationFile(
    _ machine: MachineObservation, _ settings: Settings, _ configuration: AgentConfiguration
  ) -> ConfigurationFile {
    let staged = settings.stateDirectory + "/staged.json"
    // Consul merges files in the order of their names; validation keeps ours in its place.
    let others = machine.otherConfigurationFiles.map(\.path)
    let before = others.filter { $0 < settings.configurationPath }, after = others.filter { $0 > settings.configurationPath }
    return ConfigurationFile(
      path: settings.configurationPath, text: configuration.text, owner: machine.agentOwner,
      validation: Command(machine.consulPath, ["validate", "-quiet"] + before + [staged] + after), stagedPath: staged)
  }

  private static func reloadStep(_ machine: MachineObservation, _ configuration: AgentConfiguration) -> Step? {
    guard case .text(let text) = machine.configuration else { return nil }
    let changed = AgentConfiguration.changedKeys(try? JSONValue(parsing: text), configuration.value)
      .subtracting(AgentConfiguration.joinKeys)
    guard !changed.isEmpty else { return nil }
    // Consul documentation, "Reloadable Configuration": of the keys written here only the log level is.
    return .reloadAgent(
      Command("/bin/systemctl", ["reload", SystemdUnit.name]), restartKeys: changed.subtracting(["log_level"]).sorted())
  }

  /// Where the agent's HTTP API is to be found: its loopback address if it has one.
  private static func agentAddress(_ configuration: AgentConfiguration, _ settings: Settings, _ identity: Identity) -> String {
    let loopback = IPv4Address("127.0.0.1")!
    guard let text = configuration.value["client_addr"]?.string else { return "\(loopback):\(settings.httpPort)" }
    let addresses = text.split(separator: " ").compactMap { IPv4Address($0) }
    let isLocal = addresses.contains { $0.isLoopback || $0.isUnspecified }
    return "\(isLocal ? loopback : addresses.first ?? identity.privateIP):\(settings.httpPort)"
  }

  private static func raftAddress(_ configuration: AgentConfiguration, _ identity: Identity) -> String {
    let named = ["advertise_addr", "bind_addr"].compactMap { configuration.value[$0]?.string.flatMap { IPv4Address($0) } }
    let address = named.first { !$0.isUnspecified } ?? identity.privateIP
    return "\(address):\(configuration.value["ports"]?["server"]?.integer ?? 8300)"
  }

  private static func warnings(
    _ observation: Observation, readiness: Readiness?, decision: ClusterDecision, dataDirectory: DataDirectoryDecision
  ) -> [String] {
    var warnings: [String] = []
    if case .moveAside(let target, let reason) = dataDirectory {
      warnings.append("the data directory was \(reason); it is moved aside to \(target)")
    }
    if case .joinWithoutLeader(let survivors, _) = decision {
      warnings.append(
        "the cluster has lost its quorum: \(survivors.map(\.description).joined(separator: ", ")) "
          + "\(survivors.count == 1 ? "has" : "have") raft state but no leader. "
          + "This server forms no second cluster beside it: it joins, and becomes a voter once the old one is recovered. "
          + "Bring back the missing servers with their data, or recover by peers.json on the survivors "
          + "(Consul documentation, \"Outage Recovery\")")
    }
    if let expected = readiness?.expected, expected > 1, expected % 2 == 0, case .newCluster = decision {
      warnings.append("\(expected) servers tolerate no more failures than \(expected - 1); use an odd number")
    }
    if readiness == nil { warnings.append("the group could not be looked at; rejoining by what this machine knows") }
    return warnings
  }
}
