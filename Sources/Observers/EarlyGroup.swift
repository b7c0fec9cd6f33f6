internal import AWS
internal import Base
internal import Decisions
internal import Model
internal import Synchronization

/// The first observation of a run's group, which begins as soon as this instance knows its region: AWS answers while
/// the rest of this machine is observed. Its calls are the run's first ones and no additional ones; so are its errors.
final class EarlyGroup: Sendable {
  private struct Calls: Sendable {
    /// Nil unless the membership is the group of this instance.
    var name: Task<String?, any Error>?
    /// Without a result if there is no name.
    var group: Task<GroupObservation?, any Error>?
  }

  private let calls: Mutex<Calls>
  private let start: Duration
  private let uptime: MonotonicTime

  /// What a group was longer ago is observed again: a wait for secrets may be in between.
  private static let validity = Duration.seconds(1)

  private init(_ context: RuntimeContext, name: Task<String?, any Error>?, group: Task<GroupObservation?, any Error>) {
    uptime = context.uptime
    start = context.uptime()
    calls = Mutex(Calls(name: name, group: group))
  }

  deinit {
    calls.withLock { calls in
      calls.name?.cancel()
      calls.group?.cancel()
    }
  }

  /// - Returns: nil where the first call has to wait: for the start's jitter, for the kinds of several network
  ///   interfaces, or for this instance to leave a warm pool.
  static func start(
    _ identity: Identity, client: AWSClient, settings: Settings, context: RuntimeContext
  ) -> EarlyGroup? {
    guard settings.role == .server, settings.startJitter ?? .zero == .zero, identity.interfaces.count <= 1,
      identity.targetLifecycleState?.hasPrefix("Warmed:") != true
    else { return nil }
    let peers: PeerAddressing
    // The run's own decision reports the error.
    do { peers = try AddressDecision(identity, settings).peers } catch { return nil }
    let observer = GroupObserver(membership: settings.membership, addressing: peers, client: client)
    guard settings.membership == .ownGroup else {
      return EarlyGroup(context, name: nil, group: Task { try await observer.observe(identity, groupName: nil) })
    }
    let name = Task { try await AutoScaling(client: client).groupName(ofInstance: identity.instanceID) }
    let group = Task { () async throws -> GroupObservation? in
      guard case .success(let name?) = await name.result else { return nil }
      return try await observer.observe(identity, groupName: name)
    }
    return EarlyGroup(context, name: name, group: group)
  }

  /// The group of this instance, the first time.
  /// - Returns: nil if that call is over. Its own result is nil if Auto Scaling does not list the instance yet.
  /// - Throws: as `AutoScaling.groupName`.
  func takeName() async throws -> String?? {
    let call = calls.withLock { calls in
      defer { calls.name = nil }
      return calls.name
    }
    guard let call, isValid else { return nil }
    return .some(try await value(of: call))
  }

  /// The group, the first time.
  /// - Returns: nil if that call is over, or was not possible.
  /// - Throws: as `GroupObserver.observe`.
  func takeGroup() async throws -> GroupObservation? {
    let call = calls.withLock { calls in
      defer { calls.group = nil }
      return calls.group
    }
    guard let call, isValid else { return nil }
    return try await value(of: call)
  }

  private var isValid: Bool { uptime() - start < Self.validity }

  private func value<Result>(of call: Task<Result, any Error>) async throws -> Result {
    try await withTaskCancellationHandler {
      try await call.value
    } onCancel: {
      call.cancel()
    }
  }
}
