package import AWS
package import Base
internal import Consul
package import Decisions
package import Model

/// Observes, and waits if it may, until a plan can be made.
package struct Planner: Sendable {
  private let settings: Settings
  private let context: RuntimeContext
  private let metadata: MetadataClient
  private let credentials: CredentialCache

  package init(settings: Settings, context: RuntimeContext, metadata: MetadataClient, credentials: CredentialCache) {
    self.settings = settings
    self.context = context
    self.metadata = metadata
    self.credentials = credentials
  }

  /// The same with other settings.
  package func with(_ settings: Settings) -> Planner {
    Planner(settings: settings, context: context, metadata: metadata, credentials: credentials)
  }

  /// Reading secrets is retried as long as a reboot can do without.
  private static let secretPause = Duration.seconds(2)
  /// Clients come in fleets: this spreads their first calls (`Settings.startJitter`).
  private static let clientJitter = Duration.seconds(10)

  /// - Throws: `Failure` with status 10 or 15, or `CancellationError`.
  package func locate() async throws -> LocatedInstance {
    async let binary = MachineObserver(settings: settings, context: context).binary()
    let identity: Identity
    do {
      identity = try await IdentityObserver(settings: settings, context: context, metadata: metadata).observe()
    } catch {
      throw error.asFailure("read this instance's metadata")
    }
    context.log.info(
      "this is \(identity.instanceID)",
      ["address": .string(identity.privateIP.description), "zone": .string(identity.availabilityZone)])
    return LocatedInstance(identity: identity, client: client(for: identity), binary: try await binary)
  }

  /// For a caller that has located the instance by itself, as the doctor does.
  package func locatedInstance(_ identity: Identity, _ client: AWSClient, _ binary: MachineObserver.Binary)
    -> LocatedInstance
  {
    LocatedInstance(identity: identity, client: client, binary: binary)
  }

  package func client(for identity: Identity) -> AWSClient {
    AWSClient(
      region: region(of: identity), endpoints: EndpointResolver(environment: context.environment),
      credentials: credentials,
      transport: context.transport, retries: RetrySettings(environment: context.environment), clock: context.clock,
      uptime: context.uptime, now: context.now, log: context.log)
  }

  private func region(of identity: Identity) -> String {
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
      if let region = context.environment[name], !region.isEmpty { return region }
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
  package func plan(at instance: LocatedInstance, _ mode: Mode) async throws -> Plan {
    let client = instance.client
    let machine = try await MachineObserver(settings: settings, context: context).observe(
      instance.binary, identity: instance.identity)
    var observation = Observation(identity: instance.identity, machine: machine, group: nil, time: context.now())
    if mode != .dryRun, let file = machine.unreadable.first { throw file.failure }
    if mode.waits { try await applyStartupJitter() }

    let rejoins = rejoins(observation)
    do {
      observation = try await observe(observation, client, mode, rejoins: rejoins)
    } catch let error as Failure where rejoins && [.awsFailed, .noCredentials, .groupIncomplete].contains(error.status)
    {
      context.log.warning(
        "going on without the group: this machine has joined before",
        ["reason": .string(error.lines.joined(separator: " "))])
      observation.group = nil
      if !settings.secretReferences.isEmpty {
        observation.secrets = Self.presentSecrets(machine.configuration, settings)
      }
    }
    return try Plan(observation, settings)
  }

  /// One look at the servers, for the sidecar.
  /// - Throws: `Failure`.
  package func readiness(at instance: LocatedInstance) async throws -> Readiness {
    var identity = instance.identity
    let waiter = MembershipWaiter(settings: settings, context: context, client: instance.client)
    do {
      identity.groupName = try await waiter.ownGroup(identity, waits: false)
      identity.interfaces = try await IdentityObserver(settings: settings, context: context, metadata: metadata)
        .interfaceKinds(
          of: identity, instance.client)
      let group = try await GroupObserver(
        membership: settings.membership, addressing: try AddressDecision(identity, settings).peers,
        client: instance.client
      ).observe(identity, groupName: identity.groupName)
      return Readiness(group, identity: identity, settings: settings)
    } catch {
      throw error.asFailure("look at \(waiter.subject(identity))")
    }
  }

  private func observe(_ first: Observation, _ client: AWSClient, _ mode: Mode, rejoins: Bool) async throws
    -> Observation
  {
    var observation = first
    observation.secrets = try await secrets(client, mode, rejoins: rejoins)
    do {
      observation.identity.interfaces = try await IdentityObserver(
        settings: settings, context: context, metadata: metadata
      )
      .interfaceKinds(of: observation.identity, client)
    } catch {
      throw error.asFailure("look at this instance's network interfaces")
    }
    let waiter = MembershipWaiter(settings: settings, context: context, client: client)
    observation.identity.groupName = try await waiter.ownGroup(observation.identity, waits: mode.waits && !rejoins)
    return try await waiter.wait(observation, waits: mode.waits, rejoins: rejoins)
  }

  /// What this machine knows is enough to join again, should AWS be away.
  private func rejoins(_ observation: Observation) -> Bool {
    let machine = observation.machine
    guard DataDirectoryDecision(observation, settings).keepsData else { return false }
    return settings.role == .client
      ? !machine.configuration.peers.isEmpty : machine.dataDirectory.raftState.mayBePresent
  }

  private func applyStartupJitter() async throws {
    let most = settings.startJitter ?? (settings.role == .client ? Self.clientJitter : .zero)
    guard most > .zero else { return }
    var generator = SystemRandomNumberGenerator()
    let wait = Duration.milliseconds(Int64.random(in: 0...most.wholeMilliseconds, using: &generator))
    context.log.info(
      "waiting before the first call, so that a fleet does not call all at once", ["for": .string(wait.humanReadable)])
    try await context.clock.sleep(for: wait)
  }

  private func secrets(_ client: AWSClient, _ mode: Mode, rejoins: Bool) async throws -> Secrets {
    let reader = SecretReader(settings: settings, context: context, client: client)
    let start = context.uptime()
    while true {
      do {
        return try await reader.read(missingKey: mode.missingKey)
      } catch {
        let patience = rejoins ? MembershipWaiter.rejoinPatience : settings.waitTimeout
        guard let error = error as? AWSError, mode.waits, error.isRetryable, context.uptime() - start < patience else {
          throw error.asFailure("read the secrets")
        }
        context.log.warning("cannot read the secrets now; trying again", ["reason": .string(error.explanation)])
        try await context.clock.sleep(for: Self.secretPause)
      }
    }
  }

  /// What the configuration on disk has, for a reboot without AWS.
  private static func presentSecrets(_ current: CurrentConfiguration, _ settings: Settings) -> Secrets {
    var secrets = Secrets()
    secrets.gossipKey = settings.gossipKey == nil ? nil : current.gossipKey
    secrets.agentToken = settings.agentToken == nil ? nil : current.agentToken
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
