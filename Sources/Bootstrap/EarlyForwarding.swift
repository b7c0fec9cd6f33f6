internal import Base
internal import Sidecar

/// Forwards the logs from the first line of a run until the sidecar does: a boot that fails has its log in CloudWatch.
actor EarlyForwarding {
  private let service: LogForwardingService
  private let work: Task<Void, Never>
  private let ended: (@Sendable () -> Void)?
  private var hasEnded = false

  /// Time for the events in flight before a sidecar continues with the rest.
  private static let handOverTime = Duration.seconds(2)

  /// - Parameter ended: called once, when this run forwards nothing any more.
  init(_ service: LogForwardingService, ended: (@Sendable () -> Void)?) {
    self.service = service
    self.ended = ended
    work = Task { await service.run() }
  }

  /// Sends the pending events, also in a cancelled run, and stops; only the first call does anything.
  /// - Parameter handsOver: a sidecar sends what is not sent within two seconds.
  func end(handsOver: Bool = false) async {
    guard !hasEnded else { return }
    hasEnded = true
    await uncancelled { [service] in
      if handsOver { await service.flush(within: Self.handOverTime) } else { await service.flush() }
    }
    work.cancel()
    await work.value
    ended?()
  }
}
