package import Base
internal import Consul

/// What a run does, and why. `--dry-run` prints it; a run performs its steps.
package struct Plan: Sendable, Equatable {
  package let identity: Identity
  package let datacenter: String
  package let readiness: Readiness?
  package let decision: ClusterDecision
  package let dataDirectory: DataDirectoryDecision
  package let peers: [IPv4Address]
  package let wanPeers: [IPv4Address]
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
    readiness = observation.group.map { Readiness($0, identity: observation.identity, settings: settings) }
    dataDirectory = DataDirectoryDecision(observation, settings)
    decision = ClusterDecision(observation, readiness, keepsData: dataDirectory.keepsData, role: settings.role)
    let current = CurrentConfiguration(machine.configuration)
    peers =
      readiness == nil
      ? current.peers : selectPeers(settings.join, decision: decision, readiness: readiness, identity: identity)
    wanPeers = readiness == nil ? current.wanPeers : selectWANPeers(readiness, settings)
    datacenter = try settings.datacenterName(for: identity)
    try Self.checkNames(identity, settings)
    let addresses = try AddressDecision(identity, settings)
    let parts = AgentConfiguration.Parts(
      identity: identity, datacenter: datacenter, decision: decision, addresses: addresses, peers: peers,
      wanPeers: wanPeers,
      recursors: ResolverConfiguration.recursors(
        settings, machine, own: [addresses.bind, addresses.advertise, identity.privateIP]),
      dnsAddress: try Self.dnsAddress(settings, machine), secrets: observation.secrets)
    configuration = try AgentConfiguration(settings, parts, version: machine.consulVersion)
    currentConfiguration = machine.configuration
    start = settings.start ?? (machine.isBootedBySystemd ? .systemd : .supervise)
    obstacle = Self.obstacle(machine, start: start, dataDirectory: dataDirectory)
    let draft = StepBuilder(
      observation: observation, settings: settings, decision: decision, dataDirectory: dataDirectory,
      configuration: configuration,
      start: start, goal: Self.goal(observation, settings, readiness, decision, configuration, addresses))
    steps = try draft.steps()
    warnings = Self.warnings(
      observation, settings, readiness: readiness, decision: decision, dataDirectory: dataDirectory, current: current)
  }

  /// Of the WAN pool, as the proof wants it; nil where there is none.
  package var wanServersWanted: Int? {
    for case .verify(let goal) in steps { return goal.wan?.addresses.count }
    return nil
  }

  /// - Throws: `Failure` with status 2.
  package static func checkNames(_ identity: Identity, _ settings: Settings) throws(Failure) {
    if let name = settings.hostName?.expanded(for: identity), !NameTemplate.isHostName(name) {
      throw Failure(
        .usage, "the host name would be \(name), which is no host name", hint: "change the template of --hostname")
    }
    let node = settings.nodeName.expanded(for: identity)
    guard NameTemplate.isLabel(node) else {
      throw Failure(
        .usage, "the node's name would be \(node), which is no DNS label",
        details: ["\(node).node.consul could not be looked up"],
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
          hint: "start Docker first")
      }
      return address
    }
  }

  private static func goal(
    _ observation: Observation, _ settings: Settings, _ readiness: Readiness?, _ decision: ClusterDecision,
    _ configuration: AgentConfiguration,
    _ addresses: AddressDecision
  ) -> HealthRequirements {
    let isServer = settings.role == .server
    var wan: HealthRequirements.WAN?
    if isServer, settings.layout == .datacenterPerAZ {
      let members = (readiness?.members ?? []) + (readiness?.otherZones ?? []).flatMap(\.members)
      wan = .init(addresses: Set(members.compactMap { $0.wanAddress(settings) }), isRequired: settings.requiresWAN)
    }
    return HealthRequirements(
      agentAddress:
        "\(AgentConfiguration.clientHost(of: configuration.value, otherwise: addresses.bind)):\(settings.httpPort)",
      raftAddress: isServer ? configuration.raftAddress(addresses) : nil,
      servers: isServer ? expectedServers(settings, readiness: readiness, decision: decision) : 0, wan: wan,
      token: observation.secrets.agentToken)
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

  private static func warnings(
    _ observation: Observation, _ settings: Settings, readiness: Readiness?, decision: ClusterDecision,
    dataDirectory: DataDirectoryDecision,
    current: CurrentConfiguration
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
    if settings.role == .server, let expected = readiness?.expected {
      warnings += quorumWarning(expected).map { [$0] } ?? []
    }
    if let readiness, settings.role == .server {
      warnings += readiness.otherZones.filter { !$0.isComplete }.map {
        "\($0.members.count) of \($0.expected.map(String.init) ?? "?") servers are known in \($0.name); the sidecar joins the others when they appear"
      }
      if settings.wanAddress == .public {
        let without = readiness.otherZones.flatMap(\.members).filter { $0.publicIP == nil }.map(\.instanceID)
        if !without.isEmpty {
          warnings.append(
            "without a public address, and so not joined over the WAN: \(without.joined(separator: ", "))")
        }
      }
    }
    if observation.secrets.gossipKeyIsToBeMade {
      warnings.append("\(settings.gossipKey?.description ?? "the gossip key") does not exist yet; a run makes it")
    } else if let old = current.gossipKey, let new = observation.secrets.gossipKey, old != new.value {
      warnings.append(
        "\(settings.gossipKey?.description ?? "the gossip key") has changed since this agent was configured. An agent keeps the keys of its keyring: "
          + "install the new key everywhere with consul keyring -install, then -use (Consul documentation, \"Gossip Encryption\")"
      )
    }
    if settings.dnsAddress == .dockerBridge, settings.dnsPort != 53 {
      warnings.append("containers ask port 53, the agent's DNS listens on \(settings.dnsPort): add --dns port-53")
    }
    if readiness == nil { warnings.append("the group could not be looked at; rejoining by what this machine knows") }
    return warnings
  }

  /// Raft needs a majority: what an even number or one below 3 means.
  static func quorumWarning(_ servers: Int) -> String? {
    let survived = (servers - 1) / 2
    let failures = survived == 0 ? "no failure" : survived == 1 ? "1 failure" : "\(survived) failures"
    switch servers {
    case 1: return "1 server survives no failure: with it the datacenter's state is gone; use 3 or 5"
    case 2: return "2 servers survive no failure, less than 1 does: both are needed for a majority; use 3 or 5"
    case let even where even % 2 == 0:
      return "\(even) servers survive \(failures), no more than \(even - 1) do; use an odd number"
    default: return nil
    }
  }
}

extension AgentConfiguration {
  fileprivate static let loopback = IPv4Address("127.0.0.1")!

  /// Where the agent's HTTP and DNS interfaces are to be found from this machine: on loopback if they are there.
  fileprivate static func clientHost(of value: JSONValue?, otherwise address: IPv4Address) -> IPv4Address {
    guard let text = value?["client_addr"]?.string else { return loopback }
    let listed = text.split(separator: " ").compactMap { IPv4Address($0) }
    return listed.contains { $0.isLoopback || $0.isUnspecified } ? loopback : listed.first ?? address
  }

  fileprivate func raftAddress(_ addresses: AddressDecision) -> String {
    let named = ["advertise_addr", "bind_addr"].compactMap { value[$0]?.string.flatMap { IPv4Address($0) } }
    let address = named.first { !$0.isUnspecified } ?? addresses.advertise
    return "\(address):\(value["ports"]?["server"]?.integer ?? 8300)"
  }
}

/// What the configuration on disk says: all that a reboot without AWS has to go by.
package struct CurrentConfiguration: Sendable, Equatable {
  package let value: JSONValue?

  package init(_ content: FileContent) {
    if case .text(let text) = content { value = try? JSONValue(parsing: text) } else { value = nil }
  }

  package var peers: [IPv4Address] { addresses("retry_join") }
  package var wanPeers: [IPv4Address] { addresses("retry_join_wan") }
  package var gossipKey: String? { value?["encrypt"]?.string }
  package var agentToken: String? { value?["acl"]?["tokens"]?["agent"]?.string ?? value?["acl_agent_token"]?.string }
  package var bindAddress: IPv4Address? { value?["bind_addr"]?.string.flatMap { IPv4Address($0) } }

  /// Of the agent's HTTP API, from this machine.
  package func agentAddress(_ settings: Settings) -> String {
    "\(AgentConfiguration.clientHost(of: value, otherwise: bindAddress ?? AgentConfiguration.loopback)):\(settings.httpPort)"
  }

  private func addresses(_ key: String) -> [IPv4Address] {
    value?[key]?.array?.compactMap { $0.string.flatMap { IPv4Address($0) } } ?? []
  }
}

extension Settings {
  /// - Throws: `Failure` with status 2 if the zone's name is no DNS label, or its id is not known.
  package func datacenterName(for identity: Identity) throws(Failure) -> String {
    guard layout == .datacenterPerAZ else { return datacenter }
    let name: String
    switch datacenterSource {
    case .zoneName: name = identity.availabilityZone
    case .zoneID:
      guard let id = identity.zoneID else {
        throw Failure(
          .noMetadata, "the instance metadata service names no availability-zone-id",
          hint: "use --datacenter-from zone-name")
      }
      name = id
    }
    guard NameTemplate.isLabel(name) else {
      throw Failure(
        .usage, "the datacenter's name would be \(name), which is no DNS label",
        hint: "use --datacenter-from zone-id, or one --datacenter")
    }
    return name
  }
}
