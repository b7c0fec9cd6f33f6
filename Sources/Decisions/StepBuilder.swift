internal import Artifacts
internal import Base
internal import Consul
internal import Model

/// Builds the steps that carry out the decisions.
struct StepBuilder {
  let observation: Observation
  let settings: Settings
  let decision: ClusterDecision
  let dataDirectory: DataDirectoryDecision
  let raftData: RaftDataDecision?
  let configuration: AgentConfiguration
  let merged: MergedConfiguration
  let start: Settings.Start
  let requirements: HealthRequirements
  /// Servers that `retry_join` lists.
  let peers: [IPv4Address]
  let recordSteps: RecordSteps

  private var machine: MachineObservation { observation.machine }
  private var owner: FileOwner? { machine.agentOwner }
  /// A running agent is reloaded, not restarted, unless its data directory belongs to another instance. Two other
  /// steps restart one: `.runContainer` if the options of the container changed, and the sidecar's after an address
  /// changed.
  private var keepsAgent: Bool { machine.agentIsRunning && dataDirectory.keepsData && !setsRaftDataAside }

  private var setsRaftDataAside: Bool { if case .setAside? = raftData { true } else { false } }

  func steps() throws(Failure) -> Steps {
    var steps = Steps()
    steps.prepare = [recordSteps.claim, recordSteps.remember].compactMap { $0 } + prepare()
    steps.start = startAgent()
    if start != .none { steps.verify = [.verify(requirements)] }
    steps.after = try followUps()
    return steps
  }

  /// The steps of a sidecar beside such an agent.
  var sidecarSteps: SidecarSteps {
    let restart: Step? =
      switch start {
      case .systemd: .run(.systemctl("restart", SystemdUnit.name))
      case .docker: .run(Command(machine.consulPath, ["restart", DockerContainer.agentName]))
      case .supervise, .none: nil
      }
    return SidecarSteps(
      configuration: configurationFile,
      startContainer: start == .docker ? .runContainer(agentContainer) : nil, restartAgent: restart,
      restartEmptyAgent: .restartEmptyAgent(requirements.runner), rememberRecord: recordSteps.remember)
  }

  // MARK: Prepare

  private func prepare() -> [Step] {
    let identity = observation.identity
    var steps: [Step] = []
    if case .rename(let target, let reason) = dataDirectory {
      if machine.agentIsRunning { steps.append(.stopAgent(stop)) }
      steps.append(.rename(settings.dataDirectory, to: target, reason: reason))
    }
    if case .setAside(let reason)? = raftData {
      if machine.agentIsRunning { steps.append(.stopAgent(stop)) }
      let raft = settings.dataDirectory + "/raft"
      steps.append(.rename(raft, to: "\(raft).removed.\(observation.time.basic)", reason: reason))
    }
    if let rename = renameOfIdentity { steps.append(rename) }
    steps.append(.createDirectory(settings.dataDirectory, mode: 0o750, owner: owner))
    steps.append(.createDirectory(settings.configDirectory, mode: 0o755, owner: nil))
    let record = JSONValue.object(["instance_id": .string(identity.instanceID)])
    steps.append(.recordInstance(path: settings.instanceRecordPath, text: record.prettyText))
    if let name = settings.hostName?.expanded(for: identity) { steps.append(.setHostName(name)) }
    let secrets = observation.secrets
    let materials = [("ca", secrets.ca), ("cert", secrets.cert), ("key", secrets.key)]
    if materials.contains(where: { if case .pem = $0.1 { true } else { false } }) {
      steps.append(.createDirectory(settings.tlsDirectory, mode: 0o750, owner: owner))
    }
    for case (let name, .pem(let secret)?) in materials {
      steps.append(.writeSecretFile(path: "\(settings.tlsDirectory)/\(name).pem", secret, owner: owner))
    }
    steps.append(.writeConfiguration(configurationFile))
    return steps
  }

  /// A name that is left without the data that it is of would make the new data look foreign.
  private var renameOfIdentity: Step? {
    let hasData = dataDirectory.keepsData && machine.dataDirectory.raftState.mayBePresent && !setsRaftDataAside
    guard machine.namesCluster, settings.role == .server, !hasData else { return nil }
    let path = settings.clusterIdentityPath
    return .rename(
      path, to: "\(path).stale.\(observation.time.basic)",
      reason: "this server has no data of the cluster that it names")
  }

  private var stop: Command {
    start == .docker
      ? Command(machine.consulPath, ["stop", DockerContainer.agentName]) : .systemctl("stop", SystemdUnit.name)
  }

  /// Files outside the configuration directory that the agent reads.
  private var outsideFiles: [String] {
    [observation.secrets.ca, observation.secrets.cert, observation.secrets.key].compactMap { material in
      if case .file(let path)? = material, !path.hasPrefix(settings.configDirectory + "/") { path } else { nil }
    }
  }

  private var configurationFile: ConfigurationFile {
    let staged = settings.stateDirectory + "/staged.json"
    // Consul merges files in the order of their names: validation must keep that order.
    let others = machine.otherConfigurationFiles, own = settings.configurationPath
    let before = others.prefix { OtherConfigurationFile.isBefore($0.path, own) }.map(\.target)
    let after = others.dropFirst(before.count).map(\.target)
    let arguments = before + [staged] + after
    let validation =
      settings.image.map {
        DockerContainer.validation(
          docker: machine.consulPath, image: $0, settings: settings, stagedPath: staged, files: outsideFiles,
          arguments: arguments)
      } ?? Command(machine.consulPath, ["validate", "-quiet"] + arguments)
    return ConfigurationFile(
      path: settings.configurationPath, text: configuration.text, owner: owner, validation: validation,
      stagedPath: staged)
  }

  // MARK: Start

  private func startAgent() -> [Step] {
    let command = Command(machine.consulPath, ["agent", "-config-dir=\(settings.configDirectory)"])
    switch start {
    case .systemd:
      let unit = SystemdUnit(
        agent: command, beforeStart: beforeStart, leave: leave, owner: owner, bindsLowPorts: merged.bindsLowPorts)
      var steps: [Step] = [.writeUnit(path: SystemdUnit.path, text: unit.text)]
      if machine.unit != .text(unit.text) { steps.append(.run(.systemctl("daemon-reload"))) }
      steps += [.run(.systemctl("enable", SystemdUnit.name)), .run(.systemctl("start", SystemdUnit.name))]
      return steps + apply(.command(.systemctl("reload", SystemdUnit.name)))
    case .supervise where machine.supervisorPID != nil: return joinsPresentServers
    case .supervise:
      return [.superviseAgent(command, owner: owner, mayBindLowPorts: merged.bindsLowPorts)]
    case .docker:
      var steps: [Step] = [.runContainer(agentContainer)]
      steps += apply(.api(agentAddress: requirements.agentAddress, token: requirements.token))
      if let image = settings.registratorImage {
        steps.append(
          .runContainer(
            .registrator(docker: machine.consulPath, image: image, agentAddress: requirements.agentAddress)))
      }
      return steps
    case .none: return []
    }
  }

  private var agentContainer: DockerContainer {
    .agent(
      docker: machine.consulPath, image: settings.image ?? "", settings: settings, owner: owner, files: outsideFiles,
      bindsLowPorts: merged.bindsLowPorts)
  }

  /// The command that the unit runs before each start of a server's agent.
  private var beforeStart: Command? { settings.role == .server ? own(["before-start"]) : nil }

  /// The command by which the agent leaves the cluster before it stops; nil if it does not leave.
  private var leave: Command? { settings.leaveOnTerminate ? own(["leave", "--stopping"]) : nil }

  /// This program, with the paths of this run.
  private func own(_ arguments: [String]) -> Command {
    let standard = Settings()
    let paths = [
      ("config-dir", settings.configDirectory, standard.configDirectory),
      ("data-dir", settings.dataDirectory, standard.dataDirectory),
      ("state-dir", settings.stateDirectory, standard.stateDirectory),
    ].filter { $0.1 != $0.2 }
    return Command(machine.programPath, arguments + paths.flatMap { ["--\($0.0)", $0.1] })
  }

  /// Makes a running agent use what has changed in its configuration.
  private func apply(_ method: ReloadMethod) -> [Step] {
    if restartsForBootstrap { return [.restartEmptyAgent(requirements.runner)] }
    return reload(method) + joinsPresentServers
  }

  private var joinsPresentServers: [Step] {
    guard keepsAgent, !peers.isEmpty else { return [] }
    return [.joinServers(peers, agentAddress: requirements.agentAddress, token: requirements.token)]
  }

  /// Whether the running agent waits for another number of servers than it should.
  private var restartsForBootstrap: Bool {
    guard keepsAgent, settings.role == .server, machine.dataDirectory.raftState == .none,
      let present = machine.configuration.document
    else { return false }
    return present["bootstrap_expect"] != configuration.document["bootstrap_expect"]
  }

  private func reload(_ method: ReloadMethod) -> [Step] {
    guard keepsAgent, case .present = machine.configuration.content else { return [] }
    let changed = changedKeys
    return changed.all.isEmpty ? [] : [.reloadAgent(method, restartKeys: changed.restart)]
  }

  /// Keys that the agent is to use and does not use yet. Of those that this program writes, only the log level is
  /// reloadable (Consul documentation, "Reloadable Configuration").
  private var changedKeys: (all: Set<String>, restart: [String]) {
    let changed = AgentConfiguration.changedKeys(machine.configuration.document, configuration.document)
      .subtracting(AgentConfiguration.joinKeys)
    return (changed, changed.subtracting(["log_level"]).sorted())
  }

  /// Whether this is a server of a cluster that exists.
  private var joinsServers: Bool {
    guard settings.role == .server, start != .none else { return false }
    switch decision {
    case .join, .rejoin: return true
    case .newCluster, .joinAsClient, .joinWithoutLeader, .wait, .stayInWarmPool: return false
    }
  }

  // MARK: After

  private func followUps() throws(Failure) -> [Step] {
    var steps: [Step] = []
    if joinsServers,
      let change = AutopilotChange(settings, agentAddress: requirements.agentAddress, token: requirements.token)
    {
      steps.append(.setAutopilot(change))
    }
    let resolver = try ResolverConfiguration(settings, observation.identity, machine, agent: dnsServer)
    if start != .none {
      if let resolver { steps.append(.resolveThroughAgent(resolver)) }
      if let setup = LogAgentConfiguration(
        settings, observation.identity, hostName: machine.hostName, groupName: observation.identity.groupName,
        syslogFile: machine.syslogFile)
      {
        steps.append(.setUpLogAgent(setup))
      }
    }
    if start != .none, machine.isBootedBySystemd, start != .supervise {
      steps.append(
        .runSidecar(
          SidecarUnit(program: machine.programPath, settings: settings, environment: machine.sidecarEnvironment)))
    } else {
      steps.append(.recordOptions(path: settings.sidecarConfigurationPath, text: settings.recordedOptions))
    }
    if start == .supervise, let pid = machine.supervisorPID {
      steps.append(
        .reloadSupervisor(
          Supervision(pid: pid, lockPath: settings.supervisorLockPath), restartKeys: changedKeys.restart))
    }
    if start != .none, let formed = recordSteps.formed { steps.append(formed) }
    return steps + launchHookOnly.after
  }

  /// The steps of an instance on which nothing is set up.
  var launchHookOnly: Steps {
    var steps = Steps()
    if let hook = settings.lifecycleHook { steps.after = [.completeLifecycleAction(hook: hook)] }
    return steps
  }

  /// Address at which this machine reaches the agent's DNS interface.
  private var dnsServer: IPv4Address {
    if settings.dnsAddress != nil { return AgentInterface.loopback }
    return requirements.agentAddress.split(separator: ":").first.flatMap { IPv4Address($0) }
      ?? observation.identity.privateIP
  }
}
