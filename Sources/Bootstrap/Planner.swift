package import AWS
internal import Base
internal import Consul
package import Decisions

/// Observes, and waits if it may, until a plan can be made.
package struct Planner: Sendable {
  private let settings: Settings
  private let world: World
  private let metadata: MetadataClient
  private let credentials: CredentialCache

  package init(settings: Settings, world: World, metadata: MetadataClient, credentials: CredentialCache) {
    self.settings = settings
    self.world = world
    self.metadata = metadata
    self.credentials = credentials
  }

  /// The same with other settings.
  func with(_ settings: Settings) -> Planner {
    Planner(settings: settings, world: world, metadata: metadata, credentials: credentials)
  }

  /// Where this run takes place: what the metadata service says, and a client for the region.
  package struct Place: Sendable {
    package let identity: Identity
    package let client: AWSClient
    let binary: MachineObserver.Binary

    /// Of Consul, or of the Docker client that runs it.
    package var consulPath: String { binary.path }
  }

  /// Reading secrets is retried as long as a reboot can do without.
  private static let secretPause = Duration.seconds(2)
  /// Clients come in fleets: this spreads their first calls (`Settings.startJitter`).
  private static let clientJitter = Duration.seconds(10)

  /// - Throws: `Failure` with status 10 or 15, or `CancellationError`.
  package func locate() async throws -> Place {
    async let binary = MachineObserver(settings: settings, world: world).binary()
    let identity = try await IdentityObserver(settings: settings, world: world, metadata: metadata).observe()
    world.log.info(
      "this is \(identity.instanceID)",
      ["address": .string(identity.privateIP.description), "zone": .string(identity.availabilityZone)])
    return Place(identity: identity, client: client(for: identity), binary: try await binary)
  }

  func place(_ identity: Identity, _ client: AWSClient, _ binary: MachineObserver.Binary) -> Place {
    Place(identity: identity, client: client, binary: binary)
  }

  func client(for identity: Identity) -> AWSClient {
    AWSClient(
      region: region(of: identity), endpoints: EndpointResolver(environment: world.environment),
      credentials: credentials,
      transport: world.transport, retries: RetrySettings(environment: world.environment), clock: world.clock,
      now: world.now,
      log: world.log)
  }

  private func region(of identity: Identity) -> String {
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
      if let region = world.environment[name], !region.isEmpty { return region }
    }
    return identity.region
  }

  /// What a plan is for.
  package enum Mode: Sendable {
    /// A run, which waits for its group, and makes what has to be made.
    case run
    /// `--dry-run`: one look.
    case dryRun
    /// The sidecar: one look, at an agent that has been set up.
    case stay

    fileprivate var waits: Bool { self == .run }

    fileprivate var missingKey: SecretReader.MissingKey {
      switch self {
      case .run: .create
      case .dryRun: .tolerate
      case .stay: .refuse
      }
    }
  }

  /// - Throws: `Failure`, or `CancellationError`.
  package func plan(at place: Place, _ mode: Mode) async throws -> Plan {
    let client = place.client
    let machine = try await MachineObserver(settings: settings, world: world).observe(
      place.binary, identity: place.identity)
    var observation = Observation(identity: place.identity, machine: machine, group: nil, time: world.now())
    if mode.waits { try await holdBack() }

    let rejoins = rejoins(observation)
    do {
      observation = try await observe(observation, client, mode, rejoins: rejoins)
    } catch let error as Failure where rejoins && [.awsFailed, .noCredentials, .groupIncomplete].contains(error.status)
    {
      world.log.warning(
        "going on without the group: this machine has joined before",
        ["reason": .string(error.lines.joined(separator: " "))])
      observation.group = nil
      if !settings.secretReferences.isEmpty {
        observation.secrets = Self.presentSecrets(CurrentConfiguration(machine.configuration), settings)
      }
    }
    return try Plan(observation, settings)
  }

  /// One look at the servers, for the sidecar.
  /// - Throws: `Failure`.
  package func look(at place: Place) async throws -> Readiness {
    var identity = place.identity
    let waiter = GroupWaiter(settings: settings, world: world, client: place.client)
    do {
      identity.groupName = try await waiter.ownGroup(identity, waits: false)
      identity.interfaces = try await IdentityObserver(settings: settings, world: world, metadata: metadata)
        .interfaceKinds(
          of: identity, place.client)
      let group = try await GroupObserver(
        membership: settings.membership, addressing: try AddressDecision(identity, settings).peers, client: place.client
      ).observe(identity, groupName: identity.groupName)
      return Readiness(group, identity: identity, settings: settings)
    } catch let error as AWSError {
      throw error.failure("look at \(waiter.subject(identity))", role: await place.client.roleName())
    }
  }

  private func observe(_ first: Observation, _ client: AWSClient, _ mode: Mode, rejoins: Bool) async throws
    -> Observation
  {
    var observation = first
    observation.secrets = try await secrets(client, mode, rejoins: rejoins)
    do {
      observation.identity.interfaces = try await IdentityObserver(settings: settings, world: world, metadata: metadata)
        .interfaceKinds(of: observation.identity, client)
    } catch let error as AWSError {
      throw error.failure("look at this instance's network interfaces", role: await client.roleName())
    }
    let waiter = GroupWaiter(settings: settings, world: world, client: client)
    observation.identity.groupName = try await waiter.ownGroup(observation.identity, waits: mode.waits && !rejoins)
    return try await waiter.wait(observation, waits: mode.waits, rejoins: rejoins)
  }

  /// What this machine knows is enough to join again, should AWS be away.
  private func rejoins(_ observation: Observation) -> Bool {
    let machine = observation.machine
    guard DataDirectoryDecision(observation, settings).keepsData else { return false }
    return settings.role == .client
      ? !CurrentConfiguration(machine.configuration).peers.isEmpty : machine.dataDirectory.raftState.mayBePresent
  }

  private func holdBack() async throws {
    let most = settings.startJitter ?? (settings.role == .client ? Self.clientJitter : .zero)
    guard most > .zero else { return }
    var generator = SystemRandomNumberGenerator()
    let wait = Duration.milliseconds(Int64.random(in: 0...most.wholeMilliseconds, using: &generator))
    world.log.info(
      "waiting before the first call, so that a fleet does not call all at once", ["for": .string(wait.spoken)])
    try await world.clock.sleep(for: wait)
  }

  private func secrets(_ client: AWSClient, _ mode: Mode, rejoins: Bool) async throws -> Secrets {
    let reader = SecretReader(settings: settings, world: world, client: client)
    let start = world.uptime()
    while true {
      do {
        return try await reader.read(missingKey: mode.missingKey)
      } catch let error as AWSError {
        let patience = rejoins ? GroupWaiter.rejoinPatience : settings.waitTimeout
        guard mode.waits, error.mayPass, world.uptime() - start < patience else {
          throw error.failure("read the secrets", role: await client.roleName())
        }
        world.log.warning("cannot read the secrets now; trying again", ["reason": .string(error.explanation)])
        try await world.clock.sleep(for: Self.secretPause)
      }
    }
  }

  /// What the configuration on disk has, for a reboot without AWS.
  private static func presentSecrets(_ current: CurrentConfiguration, _ settings: Settings) -> Secrets {
    var secrets = Secrets()
    secrets.gossipKey = settings.gossipKey == nil ? nil : current.gossipKey.map { Secret($0) }
    secrets.agentToken = settings.agentToken == nil ? nil : current.agentToken.map { Secret($0) }
    let material = { (reference: SecretReference?, name: String) -> Secrets.TLSMaterial? in
      guard let reference else { return nil }
      if case .file(let path) = reference { return .file(path: path) }
      return .file(path: "\(settings.tlsDirectory)/\(name).pem")
    }
    secrets.ca = material(settings.tls.ca, "ca")
    secrets.cert = material(settings.tls.cert, "cert")
    secrets.key = material(settings.tls.key, "key")
    return secrets
  }
}
