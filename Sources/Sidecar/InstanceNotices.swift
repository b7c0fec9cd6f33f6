internal import AWS
internal import Base
internal import Model
internal import Observers
internal import Synchronization

/// Scheduled events of EC2, and recommendations to replace a spot instance. Neither is a departure: the group replaces
/// the instance, or it returns with its data. But its agent may soon not answer, so it should not lead then.
extension Sidecar {
  /// So long before a scheduled event.
  private static let handoverLead = Duration.seconds(600)

  /// - Throws: `MetadataError` or `AgentError`, once what could be read has been handled.
  func readNotices(_ state: inout NoticeState) async throws {
    let metadata = planner.metadata, old = self.state.withLock { $0.notices }
    var failure: (any Error)?, notices: [InstanceNotice] = []
    switch state.target {
    case "Standby": notices.append(InstanceNotice(.standby))
    case "Detached": notices.append(InstanceNotice(.detached))
    default: break
    }
    // What cannot be read now is as it was.
    do {
      if try await metadata.recommendsRebalance() { notices.append(InstanceNotice(.rebalance)) }
    } catch {
      failure = error
      notices += old.filter { $0.kind == .rebalance }
    }
    do {
      notices += try await metadata.scheduledEvents().map { event in
        let left = event.notBefore.map { $0 - (event.readAt ?? context.now()) }
        return InstanceNotice(
          .scheduled, id: event.id, code: event.code, notBefore: event.notBefore,
          startsIn: left.map { $0 + context.uptime() })
      }
    } catch {
      failure = error
      notices += old.filter { $0.kind == .scheduled }
    }
    self.state.withLock { [notices] in $0.notices = notices }
    if notices != old { await report() }
    log(notices, &state)
    if settings.role == .server { try await handOver(notices, &state) }
    if let failure { throw failure }
  }

  private func log(_ notices: [InstanceNotice], _ state: inout NoticeState) {
    state.logged.formIntersection(notices.map(\.id))
    for notice in notices where state.logged.insert(notice.id).inserted {
      context.log.warning(notice.text, notice.kind == .scheduled ? ["hint": .string(notice.hint)] : [:])
    }
  }

  /// Once for each notice: where all instances have one, leadership does not go round for ever.
  private func handOver(_ notices: [InstanceNotice], _ state: inout NoticeState) async throws {
    state.handedOver.formIntersection(notices.map(\.id))
    let now = context.uptime(), handedOver = state.handedOver
    let due = notices.filter { notice in
      let isDue =
        switch notice.kind {
        case .rebalance: true
        case .scheduled: notice.startsIn.map { $0 - now <= Self.handoverLead } ?? false
        case .standby, .detached: false
        }
      return isDue && !handedOver.contains(notice.id)
    }
    guard !due.isEmpty else { return }
    switch try await Departure(settings: settings, context: context).handLeadershipOver() {
    case .notLeading, .notNow: return
    case .unsupported: context.log.info("this server leads, and its release of Consul cannot hand leadership over")
    case .done: break
    }
    state.handedOver.formUnion(due.map(\.id))
  }
}
