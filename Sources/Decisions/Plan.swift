package import Base
package import Artifacts
package import Model
package import Consul

/// The steps of a run, with the decisions behind them. `--dry-run` prints the plan; a run carries out its steps.
package struct Plan: Sendable, Equatable {
  package let identity: Identity
  /// What the plan was made from.
  package let observation: Observation
  package let datacenter: String
  /// Nil if AWS could not be reached.
  package let readiness: Readiness?
  package let decision: ClusterDecision
  package let dataDirectory: DataDirectoryDecision
  /// Nil if this machine has no raft data that the agent will use.
  package let raftData: RaftDataDecision?
  /// Servers that `retry_join` lists.
  package let peers: [IPv4Address]
  /// Servers that `retry_join_wan` lists.
  package let wanPeers: [IPv4Address]
  package let configuration: AgentConfiguration
  /// What the agent uses of it, beside the other files of the directory.
  package let merged: MergedConfiguration
  package let currentConfiguration: CurrentConfiguration
  package let start: Settings.Start
  package let steps: Steps
  package let sidecarSteps: SidecarSteps
  /// What verification requires; nil if the plan starts no agent.
  package let requirements: HealthRequirements?
  package let warnings: [String]
  /// Why a run stops before its first step; nil if it does not. A dry run prints it together with the plan.
  package let obstacle: Failure?

  /// - Throws: `Failure` with status 2 for settings that this machine cannot have, with status 14 for settings that
  ///   need a newer Consul.
  package init(_ observation: Observation, _ settings: Settings) throws(Failure) {
    let machine = observation.machine
    identity = observation.identity
    self.observation = observation
    readiness = observation.group.map { Readiness($0, identity: observation.identity, settings: settings) }
    dataDirectory = DataDirectoryDecision(observation, settings)
    decision = ClusterDecision(observation, readiness, keepsData: dataDirectory.keepsData, settings)
    raftData = RaftDataDecision(observation, settings, keepsData: dataDirectory.keepsData)
    let current = machine.configuration
    peers =
      readiness == nil
      ? current.peers : selectPeers(settings.join, decision: decision, readiness: readiness, identity: identity)
    wanPeers = readiness == nil ? current.wanPeers : selectWANPeers(readiness, settings)
    datacenter = try settings.datacenterName(for: identity)
    try Self.checkNames(identity, settings)
    let addresses = try AddressDecision(identity, settings).addresses
    var expect: Int?
    if case .newCluster(let servers, _) = decision { expect = servers }
    let parts = AgentConfiguration.Parts(
      identity: identity, datacenter: datacenter, bootstrapExpect: expect, addresses: addresses, peers: peers,
      wanPeers: wanPeers,
      recursors: ResolverConfiguration.recursors(
        settings, machine, own: [addresses.bind, addresses.advertise, identity.privateIP]),
      dnsAddress: try Self.dnsAddress(settings, machine), secrets: observation.secrets)
    configuration = try AgentConfiguration(settings, parts, version: machine.consulVersion)
    currentConfiguration = current
    start = settings.start(isBootedBySystemd: machine.isBootedBySystemd)
    merged = MergedConfiguration(
      configuration.document, at: settings.configurationPath, beside: machine.otherConfigurationFiles)
    let conflicts = ConfigurationConflict.all(in: merged, ownPath: settings.configurationPath)
    if case .stayInWarmPool = decision {
      obstacle = nil
    } else {
      obstacle = Self.obstacle(
        machine, settings, configuration.document, conflicts, start: start, dataDirectory: dataDirectory)
    }
    let requirements = HealthRequirements(
      agentAddress: merged.agentAddress(settings, bind: addresses.bind),
      raftAddress: settings.role == .server ? merged.raftAddress(advertise: addresses.advertise) : nil,
      servers: settings.role == .server ? Self.expectedServers(settings, readiness: readiness, decision: decision) : 0,
      bootstrapExpect: configuration.document["bootstrap_expect"]?.integer.map { Int(clamping: $0) },
      stabilization: Self.stabilization(settings, decision),
      wan: Self.wanRequirement(settings, readiness: readiness),
      expected: machine.agentIsRunning && dataDirectory.keepsData
        ? nil : ExpectedAgent(merged, bootstrapExpect: configuration.document["bootstrap_expect"]?.integer ?? 0),
      token: observation.secrets.agentToken ?? merged.agentToken,
      runner: Self.runner(start, machine), timeout: settings.verifyTimeout)
    let builder = StepBuilder(
      observation: observation, settings: settings, decision: decision, dataDirectory: dataDirectory,
      raftData: raftData, configuration: configuration, merged: merged, start: start, requirements: requirements,
      peers: peers,
      recordSteps: try Self.recordSteps(observation, readiness, decision, datacenter: datacenter, settings))
    var isSetUp = true
    if case .stayInWarmPool = decision { isSetUp = false }
    steps = isSetUp ? try builder.steps() : builder.launchHookOnly
    sidecarSteps = builder.sidecarSteps
    self.requirements = start == .none || !isSetUp ? nil : requirements
    warnings =
      Self.warnings(
        observation, settings, readiness: readiness, decision: decision, dataDirectory: dataDirectory,
        raftData: raftData, current: current, merged: merged)
      + Self.restartWarning(machine, configuration.document, start: start, keepsData: dataDirectory.keepsData)
      + conflicts.compactMap { [start] in $0.warning(startsAgent: start != .none) }
  }

  /// What this run does to the cluster's record before the agent starts; nil if nothing.
  package var claim: Step? {
    steps.prepare.first { if case .claimRecord = $0 { true } else { false } }
  }

  private static func recordSteps(
    _ observation: Observation, _ readiness: Readiness?, _ decision: ClusterDecision, datacenter: String,
    _ settings: Settings
  ) throws(Failure) -> RecordSteps {
    guard case .newCluster = decision, let readiness else {
      return try RecordSteps(observation, nil, datacenter: "", settings)
    }
    return try RecordSteps(
      observation, RecordDecision(observation, readiness, settings), datacenter: datacenter, settings)
  }

  /// Whether a sidecar takes over once the agent is healthy.
  package var startsSidecar: Bool {
    steps.after.contains { if case .runSidecar = $0 { true } else { false } }
  }

  /// Checks the host name and the node name of this instance.
  /// - Throws: `Failure` with status 2 for a name that is not valid.
  package static func checkNames(_ identity: Identity, _ settings: Settings) throws(Failure) {
    if let name = settings.hostName?.expanded(for: identity), !NameTemplate.isHostName(name) {
      throw Failure(
        .usage, "the host name would be \(name), which is not a host name",
        hint: "change the template of --hostname")
    }
    let node = settings.nodeName.expanded(for: identity)
    guard NameTemplate.isLabel(node) else {
      throw Failure(
        .usage, "the node's name would be \(node), which is not a DNS label",
        details: ["DNS could not resolve \(node).node.consul"],
        hint: "change the template of --node-name: letters, digits and hyphens, at most 63")
    }
  }

  private static func dnsAddress(_ settings: Settings, _ machine: MachineObservation) throws(Failure) -> IPv4Address? {
    switch settings.dnsAddress {
    case nil: return nil
    case .address(let address): return address
    case .dockerBridge:
      guard let address = machine.dockerBridge else {
        throw Failure(
          .usage, "--dns-address docker-bridge: there is no interface docker0 with an address",
          hint: "start Docker before this program")
      }
      return address
    }
  }
}
