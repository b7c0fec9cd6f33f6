internal import Base
internal import Consul
internal import Decisions
internal import Observers

/// Joins servers of other datacenters over the WAN until the pool is complete.
extension Sidecar {
  /// - Parameter callsAWS: whether this poll reads the group from AWS even if nothing is missing.
  func completeWAN(_ instance: LocatedInstance, callsAWS: Bool, _ pollState: inout PollState) async throws {
    guard let members = try await members(wan: true, &pollState) else { return }
    let alive = Set(members.filter(\.isAlive).compactMap(\.address))
    let servers: Readiness
    if let known = pollState.servers, pollState.wasComplete, !callsAWS {
      servers = known
    } else {
      servers = try await planner.readiness(at: instance)
      pollState.servers = servers
    }
    let wanted = selectWANPeers(servers, settings)
    var missing = wanted.filter { !alive.contains($0) }
    for address in missing {
      do {
        try await agent(timeout: Self.joinTimeout).join(address, wan: true)
        context.log.info("joined a server of another zone over the WAN", ["address": .string(address.description)])
        missing.removeAll { $0 == address }
      } catch let error as AgentError {
        context.log.progress("cannot join \(address) over the WAN yet", ["reason": .string(error.explanation)])
      }
    }
    let isComplete = missing.isEmpty && servers.knowsOtherZones
    if isComplete, !pollState.wasComplete {
      context.log.info("the WAN pool is complete", ["others": .integer(Int64(wanted.count))])
    } else if !isComplete, pollState.wasComplete {
      context.log.warning(
        "servers of other zones are missing from the WAN pool", ["missing": .strings(missing.map(\.description))])
    }
    pollState.wasComplete = isComplete
  }
}
