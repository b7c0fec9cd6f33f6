internal import AWS
internal import Base
internal import Consul
internal import Decisions
internal import Model
internal import Observers

/// Joins servers of other datacenters over the WAN until the pool is complete.
extension Sidecar {
  func completeWAN(_ instance: LocatedInstance, isTurn: Bool, _ memory: inout Memory) async throws {
    let alive = Set(try await agent().members(wan: true).filter(\.isAlive).compactMap(\.address))
    if isTurn || !memory.wasComplete || memory.servers == nil {
      memory.servers = try await planner.readiness(at: instance)
    }
    guard let servers = memory.servers else { return }
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
    if isComplete, !memory.wasComplete {
      context.log.info("the WAN pool is complete", ["others": .integer(Int64(wanted.count))])
    } else if !isComplete, memory.wasComplete {
      context.log.warning(
        "servers of other zones are missing from the WAN pool", ["missing": .strings(missing.map(\.description))])
    }
    memory.wasComplete = isComplete
  }
}
