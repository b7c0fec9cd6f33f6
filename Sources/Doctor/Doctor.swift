package import AWS
package import Base
internal import Decisions
package import Model
package import Observers

/// Checks everything that a boot depends on, once each; it does not wait for what may come later.
package struct Doctor: Sendable {
  let settings: Settings
  let context: RuntimeContext
  let planner: Planner
  let metadata: MetadataClient
  let credentials: CredentialCache
  let report: @Sendable (Finding) -> Void

  /// - Parameter report: called with each finding as soon as it is known.
  package init(
    settings: Settings, context: RuntimeContext, planner: Planner, metadata: MetadataClient,
    credentials: CredentialCache,
    report: @escaping @Sendable (Finding) -> Void
  ) {
    self.settings = settings
    self.context = context
    self.planner = planner
    self.metadata = metadata
    self.credentials = credentials
    self.report = report
  }

  /// - Throws: `CancellationError` only; whatever fails is a finding.
  package func run() async throws {
    if let reason = settings.lostOptions {
      report(
        .problem(
          "options", "the options of the last run are lost: \(reason)",
          hint: NodeStatus.lostOptionsHint))
    }
    try await Doctor(
      settings: settings.besideOtherFiles(context.files), context: context, planner: planner, metadata: metadata,
      credentials: credentials, report: report
    ).check()
  }

  private func check() async throws {
    let machine = MachineChecks(settings: settings, context: context, report: report)
    let binary = await machine.consul()
    let identity = await identity()
    var client: AWSClient?, group: GroupObservation?, name: String?, expectations = NodeStatus.Expectations()
    if let identity {
      let found = planner.client(for: identity).withoutRetries()
      let host = found.host(of: .ec2)
      if IPv4Address(host) == nil { name = host }
      let aws = AWSChecks(settings: settings, context: context, client: found, identity: identity, report: report)
      if await hasCredentials(), await aws.endpoints() {
        client = found
        group = await aws.calls()
      }
      let readiness = group.map { Readiness($0, identity: identity, settings: settings) }
      if let readiness { aws.evaluate(readiness) }
      if let group { aws.replacements(group) }
      expectations.datacenter = names(identity)
      expectations.groupServers = readiness?.expected
      expectations.servers = readiness?.members.map(\.address) ?? []
      if let readiness {
        let secrets = await tlsSecrets(client)
        await PeerChecks(
          settings: settings, context: context, identity: identity, secrets: secrets,
          configuration: CurrentConfiguration(reading: settings.configurationPath, context.files).merged
            .replacing(settings.configurationPath, with: settings.interfaces), report: report
        ).ports(readiness)
      }
    }
    try Task.checkCancellation()
    let node = NodeChecks(settings: settings, context: context, report: report)
    guard let binary, let identity, var observation = await observation(binary, identity) else {
      await machine.check(nil, name: name)
      return await node.check(nil, identity, expectations)
    }
    await machine.check(observation, name: name)
    await node.check(observation.machine, identity, expectations)
    observation.group = group
    if let client {
      await machine.configuration(observation, planner.locatedInstance(identity, client, binary), planner)
    }
    try Task.checkCancellation()
  }

  /// - Returns: nil if no other check of this machine can build on it.
  private func observation(_ binary: MachineObserver.Binary, _ identity: Identity) async -> Observation? {
    do {
      let machine = try await MachineObserver(settings: settings, context: context).observe(binary, identity: identity)
      return Observation(identity: identity, machine: machine, group: nil, time: context.now())
    } catch {
      report(.problem("configuration", error))
      return nil
    }
  }

  /// - Returns: nil if no check of AWS can build on it.
  private func identity() async -> Identity? {
    let start = context.uptime()
    do {
      let identity = try await IdentityObserver(settings: settings, context: context, metadata: metadata).observe()
      let version = metadata.usesVersion1 ? "IMDSv1, as --imdsv1 allows" : "IMDSv2"
      report(
        .ok(
          "metadata", "\(identity.instanceID) in \(identity.availabilityZone), \(identity.privateIP), \(version)",
          time: context.uptime() - start))
      return identity
    } catch {
      report(.problem("metadata", error))
      return nil
    }
  }

  /// The certificate with which this server asks others; empty if it has none. Why it cannot be read is a finding of
  /// its own.
  private func tlsSecrets(_ client: AWSClient?) async -> Secrets {
    guard let client, settings.role == .server, settings.tls.cert != nil else { return Secrets() }
    var tlsOnly = Settings()
    tlsOnly.tls = settings.tls
    do {
      return try await SecretReader(settings: tlsOnly, context: context, client: client).read(missingKey: .tolerate)
    } catch {
      report(.note("peers", "asked without a certificate: \(error.explained)"))
      return Secrets()
    }
  }

  private func hasCredentials() async -> Bool {
    do {
      let found = try await credentials.credentials()
      let expiry = found.expiration.map { ", valid for \(max(.zero, $0 - context.now()).humanReadable)" } ?? ""
      report(.ok("credentials", "from \(found.source)\(expiry)"))
      return true
    } catch {
      report(.problem("credentials", error))
      return false
    }
  }

  /// - Returns: the name of the datacenter; nil if it is not valid.
  private func names(_ identity: Identity) -> String? {
    do {
      let datacenter = try settings.datacenterName(for: identity)
      try Plan.checkNames(identity, settings)
      report(.ok("names", "node \(settings.nodeName.expanded(for: identity)) in datacenter \(datacenter)"))
      return datacenter
    } catch {
      report(.problem("names", error))
      return nil
    }
  }
}
