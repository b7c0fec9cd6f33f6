package import AWS
package import Base
internal import Decisions
package import Model
package import Observers

/// What the doctor found out about one thing that a boot depends on.
package struct Finding: Sendable, Equatable {
  package enum Verdict: String, Sendable {
    case ok
    /// Worth knowing; a boot copes with it.
    case note
    case wrong
  }

  /// One word, or an action, an endpoint, a port.
  package let subject: String
  package let verdict: Verdict
  package let message: String
  /// How to mend it.
  package var hint: String?
  /// How long it took, where that tells something.
  package var time: Duration?

  static func ok(_ subject: String, _ message: String, time: Duration? = nil) -> Finding {
    Finding(subject: subject, verdict: .ok, message: message, time: time)
  }

  static func note(_ subject: String, _ message: String, hint: String? = nil) -> Finding {
    Finding(subject: subject, verdict: .note, message: message, hint: hint)
  }

  static func wrong(_ subject: String, _ message: String, hint: String? = nil) -> Finding {
    Finding(subject: subject, verdict: .wrong, message: message, hint: hint)
  }

  static func wrong(_ subject: String, _ error: any Error) -> Finding {
    guard let failure = error.asFailure("check \(subject)") as? Failure else {
      return wrong(subject, error.explained)
    }
    return wrong(subject, ([failure.message] + failure.details).joined(separator: "; "), hint: failure.hint)
  }

  package var json: JSONValue {
    .object([
      "subject": .string(subject), "verdict": .string(verdict.rawValue), "message": .string(message),
      "hint": hint.map(JSONValue.string) ?? .null,
      "milliseconds": time.map { .integer($0.wholeMilliseconds) } ?? .null,
    ])
  }
}

/// Tries everything that a boot depends on, once each and without waiting for what may come later.
package struct Doctor: Sendable {
  let settings: Settings
  let context: RuntimeContext
  let planner: Planner
  let metadata: MetadataClient
  let credentials: CredentialCache
  let tell: @Sendable (Finding) -> Void

  package init(
    settings: Settings, context: RuntimeContext, planner: Planner, metadata: MetadataClient,
    credentials: CredentialCache,
    tell: @escaping @Sendable (Finding) -> Void
  ) {
    self.settings = settings
    self.context = context
    self.planner = planner
    self.metadata = metadata
    self.credentials = credentials
    self.tell = tell
  }

  package func run() async throws {
    let machine = MachineChecks(settings: settings, context: context, tell: tell)
    let binary = await machine.consul()
    let identity = await identity()
    var readiness: Readiness?, client: AWSClient?, group: GroupObservation?, name: String?
    if let identity {
      let found = planner.client(for: identity).withoutRetries()
      let host = found.host(of: .ec2)
      if IPv4Address(host) == nil { name = host }
      let cloud = AWSChecks(
        settings: settings, context: context, planner: planner, client: found, identity: identity, tell: tell)
      if await hasCredentials(), await cloud.endpoints() {
        client = found
        group = await cloud.calls()
        readiness = group.map { Readiness($0, identity: identity, settings: settings) }
        if let readiness { cloud.judge(readiness) }
      }
      names(identity)
      if let readiness {
        await PeerChecks(settings: settings, context: context, identity: identity, tell: tell).ports(readiness)
      }
    }
    try Task.checkCancellation()
    guard let binary, let identity else { return await machine.check(nil, name: name) }
    do {
      let observer = MachineObserver(settings: settings, context: context)
      var observation = Observation(
        identity: identity, machine: try await observer.observe(binary, identity: identity), group: nil,
        time: context.now())
      await machine.check(observation, name: name)
      observation.group = group
      if let client {
        await machine.configuration(observation, planner.locatedInstance(identity, client, binary), planner)
      }
    } catch {
      tell(.wrong("configuration", error))
    }
  }

  /// - Returns: nil if there is nothing to go on with.
  private func identity() async -> Identity? {
    let start = context.uptime()
    do {
      let identity = try await IdentityObserver(settings: settings, context: context, metadata: metadata).observe()
      tell(
        .ok(
          "metadata",
          "\(identity.instanceID) in \(identity.availabilityZone), \(identity.privateIP)"
            + (metadata.usesVersion1 ? "; by version 1, which --imdsv1 allows" : ", version 2"),
          time: context.uptime() - start))
      return identity
    } catch {
      tell(.wrong("metadata", error))
      return nil
    }
  }

  private func hasCredentials() async -> Bool {
    do {
      let found = try await credentials.credentials()
      let expiry = found.expiration.map { ", good for \(max(.zero, $0 - context.now()).humanReadable)" } ?? ""
      tell(.ok("credentials", "from \(found.source)\(expiry)"))
      return true
    } catch {
      tell(.wrong("credentials", error))
      return false
    }
  }

  private func names(_ identity: Identity) {
    do {
      let datacenter = try settings.datacenterName(for: identity)
      try Plan.checkNames(identity, settings)
      tell(.ok("names", "node \(settings.nodeName.expanded(for: identity)) in datacenter \(datacenter)"))
    } catch {
      tell(.wrong("names", error))
    }
  }
}
