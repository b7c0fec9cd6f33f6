package import AWS
package import Base
package import Consul
package import Decisions
package import Model

/// Observes until a plan can be made: for a run, it waits and retries; for a dry run and the sidecar, it observes once.
package struct Planner: Sendable {
  private let settings: Settings
  private let context: RuntimeContext
  package let metadata: MetadataClient
  private let credentials: CredentialCache
  /// Gets the configuration of a first boot before the servers are known.
  private var validateEarly: (@Sendable (ConfigurationFile) -> Void)?

  /// The end of a server's log, for an agent that runs with the configuration on disk.
  /// - Throws: `RaftPortError`, or `CancellationError`.
  package func lastLog(of server: IPv4Address) async throws -> LogPosition {
    let current = CurrentConfiguration(reading: settings.configurationPath, context.files)
    let status = try await RaftPortObserver(current, settings: settings, context: context).clusterStatus(of: server)
    guard let lastLog = status.lastLog else { throw RaftPortError.malformed("it has no end of the log") }
    return lastLog
  }

  package init(settings: Settings, context: RuntimeContext, metadata: MetadataClient, credentials: CredentialCache) {
    self.settings = settings
    self.context = context
    self.metadata = metadata
    self.credentials = credentials
  }

  /// The same planner with other settings.
  package func with(_ settings: Settings) -> Planner {
    var planner = Planner(settings: settings, context: context, metadata: metadata, credentials: credentials)
    planner.validateEarly = validateEarly
    return planner
  }

  /// The same planner, which reports the draft of the configuration of a run.
  package func reportingDraft(_ validateEarly: @escaping @Sendable (ConfigurationFile) -> Void) -> Planner {
    var planner = self
    planner.validateEarly = validateEarly
    return planner
  }

  /// Clients start in fleets: this spreads their first calls (`Settings.startJitter`).
  private static let clientJitter = Duration.seconds(10)

  private var identityObserver: IdentityObserver {
    IdentityObserver(settings: settings, context: context, metadata: metadata)
  }

  private func waiter(_ client: AWSClient) -> MembershipWaiter {
    MembershipWaiter(settings: settings, context: context, client: client)
  }

  private func patient(_ waits: Bool) -> PatientCall {
    PatientCall(settings: settings, context: context, waits: waits)
  }

  // MARK: Locate

  /// - Parameter waits: whether this is a run, which waits for metadata that is not there yet.
  /// - Throws: `Failure` with status 10 or 15, or `CancellationError`.
  package func locate(waits: Bool = false) async throws -> LocatedInstance {
    async let binary = MachineObserver(settings: settings, context: context).binary()
    let identity: Identity
    do {
      identity = try await patient(waits)("read this instance's metadata") {
        try await metadata.authenticate()
        // The calls of AWS need them as soon as the identity is known.
        await credentials.preload()
        return try await identityObserver.observe()
      }
    } catch {
      throw error.asFailure("read this instance's metadata")
    }
    context.log.info(
      "this is \(identity.instanceID)",
      ["address": .string(identity.privateIP.description), "zone": .string(identity.availabilityZone)])
    let client = client(for: identity)
    let early =
      waits ? EarlyGroup.start(identity, client: client, settings: settings, context: context) : nil
    return LocatedInstance(identity: identity, client: client, binary: try await binary, early: early)
  }

  /// For a caller that has observed identity and binary by itself, as the doctor does.
  package func locatedInstance(
    _ identity: Identity, _ client: AWSClient, _ binary: MachineObserver.Binary
  ) -> LocatedInstance {
    LocatedInstance(identity: identity, client: client, binary: binary)
  }

  /// A client for the region of the instance, or for the region that the environment sets.
  package func client(for identity: Identity) -> AWSClient {
    AWSClient(
      region: region(of: identity), endpoints: EndpointResolver(environment: context.environment),
      credentials: credentials, transport: context.transport, retries: RetrySettings(environment: context.environment),
      clock: context.clock, uptime: context.uptime, now: context.now, log: context.log)
  }

  private func region(of identity: Identity) -> String {
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
      if let region = context.environment[name], !region.isEmpty { return region }
    }
    return identity.region
  }

  // MARK: Plan

  /// The purpose of a plan.
  package enum Mode: Sendable {
    /// A run: it waits for its group, and creates the gossip key if that is missing.
    case run
    /// `--dry-run`: observes once.
    case dryRun
    /// A run whose agent waits for its first leader: observes once, and may claim the cluster's record again.
    case agree
    /// The sidecar of an agent that a run has set up: observes once.
    case stay

    fileprivate var waits: Bool { self == .run }

    fileprivate var missingKey: SecretReader.MissingKey {
      switch self {
      case .run: .create
      case .dryRun: .tolerate
      case .agree, .stay: .refuse
      }
    }
  }

  /// - Throws: `Failure`, or `CancellationError`.
  package func plan(at instance: LocatedInstance, _ mode: Mode) async throws -> Plan {
    // The first server of a first boot has no record to read: it saves the others' time and two calls.
    try await plan(at: instance, mode, readsRecord: mode != .run)
  }

  /// The plan of a run whose entry of the cluster's record another server has created first.
  /// - Throws: `Failure`, or `CancellationError`.
  package func plan(at instance: LocatedInstance, afterLosing plan: Plan) async throws -> Plan {
    var observation = plan.observation
    guard let record = observation.record else { return plan }
    observation.record = try await RecordObserver(context: context, client: instance.client).observe(
      record, observation.group, observation.identity)
    let next = try Plan(observation, settings)
    // What was observed a moment ago suffices to found the cluster that the other server has claimed.
    if case .newCluster = next.decision { return next }
    return try await self.plan(at: instance, .run, readsRecord: true)
  }

  private func plan(at instance: LocatedInstance, _ mode: Mode, readsRecord: Bool) async throws -> Plan {
    let machine = try await MachineObserver(settings: settings, context: context).observe(
      instance.binary, identity: instance.identity)
    let settings = settings.besideFiles(machine.otherConfigurationFiles)
    var observation = Observation(identity: instance.identity, machine: machine, group: nil, time: context.now())
    observation.record = record(of: instance.identity, mode)
    if observation.warmPoolState != nil { return try Plan(observation, settings) }
    if mode != .dryRun, let file = machine.unreadable.first { throw file.failure }
    if mode.waits {
      try Plan.refuseIdentityChange(observation, settings)
      try await delayFirstCall()
    }

    let rejoins = rejoins(observation)
    var hasSecrets = false
    do {
      observation.secrets = try await secrets(instance.client, mode, rejoins: rejoins)
      hasSecrets = true
      if mode == .run, let validateEarly, let draft = Plan.draft(observation, settings) { validateEarly(draft) }
      observation = try await with(settings).discover(
        observation, instance, mode, rejoins: rejoins, readsRecord: readsRecord)
    } catch let error as Failure where rejoins && [.awsFailed, .noCredentials, .groupIncomplete].contains(error.status)
    {
      if !hasSecrets { observation.secrets = try presentSecrets(machine.configuration, insteadOf: error) }
      context.log.warning(
        "cannot discover the group; rejoining with the configuration and data on this machine",
        ["reason": .string(error.lines.joined(separator: " "))])
      if settings.role == .server, observation.peers.isEmpty {
        observation.peers = await PeerObserver(observation, settings: settings, context: context).query(
          machine.configuration.peers)
      }
    }
    return try Plan(observation, settings)
  }

  /// One observation of the servers, for the sidecar.
  /// - Parameter ownGroup: this instance's Auto Scaling group, if it is known; else, where it matters, AWS is asked.
  /// - Throws: `Failure`, or `CancellationError`.
  package func readiness(at instance: LocatedInstance, ownGroup: String? = nil) async throws -> Readiness {
    let (group, identity) = try await observeGroup(at: instance, withInterfaces: true, ownGroup: ownGroup)
    return Readiness(group, identity: identity, settings: settings)
  }

  /// The number of servers that the groups of this datacenter want; where tags find the servers, that of the groups
  /// which have some of them. Nil if that is not known, also where no group lists this instance: the answer may be that
  /// of another region or account, where the groups want nothing.
  /// - Throws: `Failure`, or `CancellationError`.
  package func desiredCapacity(at instance: LocatedInstance) async throws -> Int? {
    var (group, identity) = try await observeGroup(at: instance, withInterfaces: false)
    if case .tags = settings.membership {
      do {
        group.scalingGroups =
          try await GroupObserver(membership: settings.membership, addressing: .primary, client: instance.client)
          .scalingGroups(of: group.instances, identity) ?? []
      } catch {
        throw error.asFailure("describe the groups of the servers")
      }
    } else {
      let own = group.instances.first { $0.instanceID == identity.instanceID }
      guard own?.isListed == true else { return nil }
    }
    return group.desiredServers(in: identity.availabilityZone, settings.layout)
  }

  private func observeGroup(
    at instance: LocatedInstance, withInterfaces: Bool, ownGroup: String? = nil
  ) async throws -> (GroupObservation, Identity) {
    let waiter = waiter(instance.client)
    var identity = instance.identity
    do {
      if let ownGroup, settings.membership == .ownGroup {
        identity.groupName = ownGroup
      } else {
        identity.groupName = try await waiter.ownGroup(identity, waits: false)
      }
      if withInterfaces {
        identity.interfaces = try await identityObserver.interfaceKinds(of: identity, instance.client)
      }
      let addressing = try AddressDecision(identity, settings).peers
      let group = try await GroupObserver(
        membership: settings.membership, addressing: addressing, client: instance.client
      ).observe(identity, groupName: identity.groupName)
      return (group, identity)
    } catch {
      throw error.asFailure("describe \(waiter.subject(identity))")
    }
  }

  /// Observes what only AWS knows.
  private func discover(
    _ first: Observation, _ instance: LocatedInstance, _ mode: Mode, rejoins: Bool, readsRecord: Bool
  ) async throws -> Observation {
    let client = instance.client
    var observation = first
    do {
      observation.identity.interfaces = try await patient(mode.waits && !rejoins)("describe the network interfaces") {
        try await identityObserver.interfaceKinds(of: observation.identity, client)
      }
    } catch {
      throw error.asFailure("describe the network interfaces of this instance")
    }
    var waiter = waiter(client)
    waiter.readsRecord = readsRecord
    if mode.waits { waiter.early = instance.early }
    observation.identity.groupName = try await waiter.ownGroup(observation.identity, waits: mode.waits && !rejoins)
    return try await waiter.wait(observation, waits: mode.waits, rejoins: rejoins)
  }

  /// The cluster's record before it is read; nil without one.
  private func record(of identity: Identity, _ mode: Mode) -> RecordObservation? {
    guard settings.role == .server, let path = settings.clusterRecordPath(for: identity) else { return nil }
    var generator = SystemRandomNumberGenerator()
    let new = ClusterIdentity.random(using: &generator)
    return RecordObservation(path: path, newCluster: new.cluster, mayClaim: mode != .stay)
  }

  /// Whether data and configuration on this machine are enough to rejoin without AWS.
  private func rejoins(_ observation: Observation) -> Bool {
    let machine = observation.machine
    guard DataDirectoryDecision(observation, settings).keepsData else { return false }
    return settings.role == .client
      ? !machine.configuration.peers.isEmpty : machine.dataDirectory.raftState.mayBePresent
  }

  private func delayFirstCall() async throws {
    let longest = settings.startJitter ?? (settings.role == .client ? Self.clientJitter : .zero)
    guard longest > .zero else { return }
    var generator = SystemRandomNumberGenerator()
    let delay = Duration.milliseconds(Int64.random(in: 0...longest.wholeMilliseconds, using: &generator))
    context.log.info(
      "delaying the first AWS call, to spread the calls of a fleet", ["delay": .string(delay.humanReadable)])
    try await context.clock.sleep(for: delay)
  }

  // MARK: Secrets

  private func secrets(_ client: AWSClient, _ mode: Mode, rejoins: Bool) async throws -> Secrets {
    let reader = SecretReader(settings: settings, context: context, client: client)
    let limit = MembershipWaiter.timeout(settings, rejoins: rejoins)
    let call = PatientCall(settings: settings, context: context, waits: mode.waits, isRejoin: rejoins, limit: limit)
    do {
      return try await call("read the secrets") { try await reader.attempt(mode.missingKey) }
    } catch let error as SecretError {
      throw error.failure
    } catch {
      throw error.asFailure("read the secrets")
    }
  }

  /// The secrets of the configuration on disk, for a reboot without AWS.
  /// - Throws: the failure that makes them necessary, if one is missing: an agent without it could not join, or would
  ///   gossip in plain text.
  private func presentSecrets(_ current: CurrentConfiguration, insteadOf failure: Failure) throws -> Secrets {
    func required(_ reference: SecretReference?, _ present: Secret?, _ name: String) throws -> Secret? {
      guard reference != nil else { return nil }
      if let present { return present }
      var failure = failure
      failure.details.append("\(settings.configurationPath) does not contain the \(name)")
      throw failure
    }
    var secrets = Secrets(tlsOnDisk: settings)
    secrets.gossipKey = try required(settings.gossipKey, current.gossipKey, "gossip key")
    secrets.agentToken = try required(settings.agentToken, current.agentToken, "agent's token")
    return secrets
  }
}
